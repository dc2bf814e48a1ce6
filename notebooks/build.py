"""Make the notebooks from their scripts and run them: `python notebooks/build.py [01 exercises/03 …]`, else all.

Each notebook is written in `scripts/` as a percent script (jupytext), which is what a review reads; this runs it in a
fresh kernel and saves it with its outputs.  The exercises' cells get the marks by which nbgrader knows them.
Needs `pip install -e ".[notebooks,dev]"`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

from tinydiff.exercises import exercises
from tinydiff.exercises.notebooks import BEGIN, checked

HERE = Path(__file__).parent
TIMEOUT = 600  # seconds a cell may take
COMPILES = "tinydiff: compiling kernels"


def build(script: Path) -> None:
    """Run one script's notebook and save it beside this file; once more where kernels were compiled on the way."""
    start = time.monotonic()
    notebook = executed(script)
    if COMPILES in nbformat.writes(notebook):
        start = time.monotonic()
        notebook = executed(script)
    seconds = time.monotonic() - start
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # nbformat draws it at random: an unchanged notebook is an unchanged file
        cell.metadata = {}
    target = script.parents[1] / f"{script.stem}.ipynb"
    if target.parent.name == "exercises":
        mark_for_nbgrader(notebook)
    nbformat.write(notebook, target)
    print(f"{target.relative_to(HERE)}: {seconds / 60:.1f} min, {target.stat().st_size / 1e6:.2f} MB", flush=True)


def executed(script: Path) -> nbformat.NotebookNode:
    """The notebook of a script, with its outputs."""
    notebook = jupytext.read(script)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    resources = {"metadata": {"path": script.parents[1]}}
    NotebookClient(notebook, timeout=TIMEOUT, store_widget_state=False, resources=resources).execute()
    return notebook


def mark_for_nbgrader(notebook: nbformat.NotebookNode) -> None:
    """Answers, checks with their points, and the rest, which students may not change."""
    points, number = {e.number: e.points for e in exercises().values()}, ""
    for cell in reversed(notebook.cells):  # an answer stands before its check
        numbers = checked(cell.source) if cell.cell_type == "code" else []
        number = numbers[0] if numbers else number
        answer = BEGIN in cell.source and cell.cell_type == "code"
        mark = {"schema_version": 3, "task": False, "locked": not answer, "solution": answer, "grade": bool(numbers)}
        role = "answer" if answer else "check" if numbers else cell.id
        mark["grade_id"] = f"{role}-{number.replace('.', '-')}" if answer or numbers else role
        if numbers:
            mark["points"] = points[number]
        cell.metadata["nbgrader"] = mark


if __name__ == "__main__":
    chosen = sys.argv[1:] or [""]
    for script in sorted([*(HERE / "scripts").glob("*.py"), *(HERE / "exercises" / "scripts").glob("*.py")]):
        name = f"exercises/{script.name}" if script.parents[1].name == "exercises" else script.name
        if any(name.startswith(start) for start in chosen):
            build(script)
