"""nbgrader, where it is installed, releases and grades the exercises as they are."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tinydiff.exercises import exercises
from tinydiff.exercises.notebooks import read, text

pytest.importorskip("nbgrader")

SOURCE = Path(__file__).parents[2] / "notebooks" / "exercises"


@pytest.mark.slow
def test_nbgrader_releases_and_grades(tmp_path):
    def nbgrader(*arguments):
        command = [sys.executable, "-m", "nbgrader", *arguments, "--log-level=WARN"]
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it calls alembic by its name
        environment = {**os.environ, "PATH": beside}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]

    source = tmp_path / "source" / "tinydiff"
    source.mkdir(parents=True)
    for path in SOURCE.glob("*.ipynb"):
        shutil.copy(path, source)
    nbgrader("generate_assignment", "tinydiff", "--CourseDirectory.course_id=test")
    for path in (tmp_path / "release" / "tinydiff").glob("*.ipynb"):
        code = [text(cell) for cell in read(path)["cells"] if cell["cell_type"] == "code"]
        assert not any("BEGIN SOLUTION" in cell for cell in code)
        assert sum("NotImplementedError" in cell for cell in code) == sum(cell.startswith("check(") for cell in code)

    for student, handed_in in (("ada", source), ("bob", tmp_path / "release" / "tinydiff")):
        shutil.copytree(handed_in, tmp_path / "submitted" / student / "tinydiff")
    nbgrader("autograde", "tinydiff", "--CourseDirectory.course_id=test", "--create")
    points = dict(
        sqlite3.connect(tmp_path / "gradebook.db").execute(
            "select submitted_assignment.student_id, sum(grade.auto_score) from grade"
            " join submitted_notebook on grade.notebook_id = submitted_notebook.id"
            " join submitted_assignment on submitted_notebook.assignment_id = submitted_assignment.id"
            " group by submitted_assignment.student_id"
        )
    )
    assert points == {"ada": sum(e.points for e in exercises().values()), "bob": 0}
