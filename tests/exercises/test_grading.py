"""Grading a class: who loops for ever, eats memory or deletes files loses that exercise, and nobody loses more."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinydiff.errors import InputError
from tinydiff.exercises import exercises, grading
from tinydiff.exercises.grading import Mark, grade, submissions, table, write_csv
from tinydiff.exercises.notebooks import BEGIN, END, checked, code_cells, defined, read, release, stripped, text

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "notebooks" / "exercises"
SECTION_1 = [number for number in exercises() if number.startswith("1.")]
ON_A_CPU = [number for number in SECTION_1 if number != "1.8"]  # the last one runs in the simulator


def hand_in(folder, name, sections="01_*.ipynb", **answers):
    """A student's folder: the solutions of section 1, but for the functions in `answers`, whose cells are these."""
    (folder / name).mkdir(parents=True)
    for path in SOURCE.glob(sections):
        notebook = read(path)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                for function, source in answers.items():
                    if function in defined(text(cell)):
                        cell["source"] = source
        (folder / name / path.name).write_text(json.dumps(notebook))
    return folder / name


FOR_EVER = "def conv2d_loops(x, w):\n    while True:\n        pass"
EATS = "def conv2d_strided(*a):\n    return [bytearray(2**26) for _ in range(2**20)]"
IMPORTS = "import torch_that_is_not_there\ndef im2col(*a):\n    return 0"
DELETES = (
    "def conv2d_loops(x, w):\n    import os, pathlib\n"
    "    pathlib.Path('mine').write_text('x')\n"
    "    for path in pathlib.Path('.').rglob('*'):\n        path.unlink()\n    os.kill(os.getpid(), 9)"
)


@pytest.fixture(scope="module")
def the_class(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    hand_in(folder, "ada")
    hand_in(folder, "loops", conv2d_loops=FOR_EVER)
    hand_in(folder, "stops", output_size="while True:\n    pass\ndef output_size(*a):\n    return 1")
    hand_in(folder, "eats", conv2d_strided=EATS)
    hand_in(folder, "imports", im2col=IMPORTS)
    hand_in(folder, "deletes", conv2d_loops=DELETES)
    hand_in(folder, "prints", conv2d_loops="def conv2d_loops(x, w):\n    print('x' * 10**7)\n    raise SystemExit(3)")
    (folder / "broken").mkdir()
    (folder / "broken" / "01_the_convolutional_layer.ipynb").write_text("{")
    return folder


@pytest.fixture(scope="module")
def marks(the_class):
    return {(m.student, m.exercise.number): m for m in grade(the_class, workers=2, seconds=10, megabytes=600)}


LOST = {
    ("loops", "1.1"): "not done within 10 seconds; does a loop not end?",
    ("stops", "1.2"): "not done within 10 seconds",
    ("eats", "1.3"): "MemoryError",
    ("imports", "1.6"): "ModuleNotFoundError: No module named 'torch_that_is_not_there'",
    ("deletes", "1.1"): "ended without an answer (signal 9)",
    ("prints", "1.1"): "SystemExit: 3",
}


def test_everybody_has_a_mark_for_everything(marks, the_class):
    students = sorted(path.name for path in the_class.iterdir())
    assert list(marks) == [(student, number) for student in students for number in SECTION_1]


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: lost[0])
def test_who_does_that_loses_this_exercise(marks, lost):
    assert not marks[lost].right and LOST[lost] in marks[lost].message and marks[lost].message.startswith(lost[1])


def test_and_no_other_loses_anything(marks):
    for (student, number), mark in marks.items():
        if student != "broken" and number in ON_A_CPU and (student, number) not in LOST:
            assert mark.right, mark
        if student == "broken":
            assert not mark.right and "not a notebook" in mark.message


def test_nothing_is_left_behind(the_class, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = {path: path.read_bytes() for path in the_class.rglob("*") if path.is_file()}
    grade(the_class / "deletes", workers=1, seconds=4)
    assert list(tmp_path.iterdir()) == []
    assert {path: path.read_bytes() for path in the_class.rglob("*") if path.is_file()} == before


def test_the_marks_do_not_replace_a_notebook(tmp_path):
    path = tmp_path / "01_a.ipynb"
    path.write_text('{"cells": []}')
    command = [sys.executable, "-m", "tinydiff.exercises", "grade", str(tmp_path), "--csv", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2 and "would replace the input" in done.stderr
    assert path.read_text() == '{"cells": []}'


def test_the_table_and_the_csv_say_the_same(marks, tmp_path):
    own = [mark for (student, _), mark in marks.items() if student in ("ada", "loops")]
    write_csv(own, tmp_path / "grades.csv")
    with open(tmp_path / "grades.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(SECTION_1)
    for student, line in zip(("ada", "loops"), table(own).splitlines()[1:], strict=True):
        points = sum(int(row["points"]) for row in rows if row["student"] == student)
        assert line.split()[0] == student and line.split()[-1] == str(points)
    (row,) = [row for row in rows if row["student"] == "loops" and row["exercise"] == "1.1"]
    assert row["points"] == "0" and row["of"] == "2" and "loop" in row["message"]


def test_released_notebooks_have_no_solutions_and_fail_everywhere(tmp_path):
    paths = release(SOURCE, tmp_path / "student")
    for path in paths:
        content = path.read_text()
        assert BEGIN not in content and END not in content
        assert all(not cell.get("outputs") for cell in read(path)["cells"])
        numbers = [number for cell in code_cells(read(path)) for number in checked(cell)]
        assert numbers == [number for number in exercises() if f"{int(number.split('.')[0]):02}_" == path.name[:3]]
    marks = grade(tmp_path / "student")
    assert {m.exercise.number for m in marks} == set(exercises())
    for m in marks:
        if m.exercise.number in ON_A_CPU or m.exercise.number not in SECTION_1:
            assert not m.right and m.message.startswith(m.exercise.number) and "not written yet" in m.message, m
    with pytest.raises(InputError, match="is there already"):
        release(SOURCE, tmp_path / "student")


def test_stripping_needs_both_marks():
    source = f"def f():\n    x = 1\n    {BEGIN}\n    return x\n    {END}\nf()"
    assert stripped(source) == "def f():\n    x = 1\n    # YOUR CODE HERE\n    raise NotImplementedError()\nf()"
    for bad in (source.replace(f"    {END}\n", ""), source.replace(f"    {BEGIN}\n", "")):
        with pytest.raises(InputError, match="stands alone"):
            stripped(bad, "01.ipynb, cell 3")


# Python runs it before anything else, in every process: what Windows has not is not there.
ELSEWHERE = """
import os, sys
sys.modules["resource"] = sys.modules["fcntl"] = None
for name in ("fork", "killpg", "setsid", "register_at_fork", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
"""


@pytest.fixture
def elsewhere(tmp_path):
    """Run a command where there is no fork, no fcntl and no resource."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "sitecustomize.py").write_text(ELSEWHERE)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "elsewhere"), str(ROOT)])}

    def run(*command):
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, cwd=tmp_path)

    return run


def test_release_check_and_train_need_nothing_that_windows_has_not(elsewhere, tmp_path):
    module = ["-m", "tinydiff.exercises"]
    done = elsewhere(*module, "release", "handout", "--source", SOURCE)
    assert done.returncode == 0 and len(list((tmp_path / "handout").iterdir())) == 6, done.stderr
    code = (
        "from tinydiff.exercises import check; check('1.2', lambda n, k, stride, pad: (n + 2 * pad - k) // stride + 1)"
    )
    done = elsewhere("-c", code)
    assert done.stdout == "1.2 its output size: right\n", done.stderr
    done = elsewhere("-m", "tinydiff", "train", "words", "--out", "run")
    assert done.returncode == 0 and (tmp_path / "run" / "words.safetensors").exists(), done.stderr


@pytest.mark.slow
def test_grading_without_a_fork(elsewhere, tmp_path):
    """Three exercises of one student: right, a loop without end, a process that ends itself."""
    ends = "def im2col(*a):\n    import os\n    os._exit(3)"
    hand_in(tmp_path / "class", "ada", conv2d_loops=FOR_EVER, im2col=ends)
    code = """if True:
        from pathlib import Path
        from tinydiff.exercises import grading
        chosen = {n: e for n, e in grading.exercises().items() if n in ("1.1", "1.2", "1.6")}
        grading.exercises, grading.STARTING = lambda: chosen, 8
        for mark in grading.grade(Path("class"), workers=2, seconds=4):
            print(mark.message or "right")
        print(grading.limits())
    """
    done = elsewhere("-c", code)
    loop, right, ended, limits = done.stdout.splitlines()
    assert loop.startswith("1.1: not done within 4 seconds") and right == "right"
    assert ended == "1.6: its process ended without an answer (exit status 3)"
    assert limits.startswith("20 seconds for each exercise, no limit of memory, no limit of files")


def test_it_says_what_the_system_can_limit(monkeypatch):
    monkeypatch.setattr(grading, "find_spec", lambda name: object())
    monkeypatch.setattr(grading, "STATM", ROOT / "setup.cfg")
    assert grading.limits(7, 900).startswith("7 seconds for each exercise, 900 MB of memory, files of 64 MB")
    monkeypatch.setattr(grading, "STATM", ROOT / "none")
    assert "no limit of memory, files of 64 MB" in grading.limits()


def test_what_is_refused(tmp_path):
    with pytest.raises(InputError, match="no notebooks here"):
        submissions(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        submissions(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no exercises here"):
        release(tmp_path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "tinydiff.exercises", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    hand_in(tmp_path, "ada")
    done = run("grade", tmp_path / "ada", "--csv", tmp_path / "grades.csv", "--workers", 2)
    assert done.returncode == 0, done.stderr
    total = sum(exercises()[number].points for number in SECTION_1)
    assert done.stdout.splitlines()[-3].split() == ["ada", *(str(exercises()[n].points) for n in SECTION_1), str(total)]
    assert (tmp_path / "grades.csv").exists()
    for wrong in (("grade", tmp_path / "nowhere"), ("grade", ROOT / "data"), ("release",), ()):
        done = run(*wrong)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("tinydiff: ")


def test_a_mark_is_worth_its_points_or_none():
    exercise = exercises()["1.4"]
    assert Mark("ada", exercise, True, "").points == 3 and Mark("ada", exercise, False, "x").points == 0


@pytest.mark.slow
def test_a_hundred_students(tmp_path):
    """All exercises of a hundred, four of whom do harm, within 15 minutes on two cores: nobody else loses a point."""
    harm = {
        "007": ("1.1", {"conv2d_loops": FOR_EVER}),
        "023": ("1.3", {"conv2d_strided": EATS}),
        "042": ("1.6", {"im2col": IMPORTS}),
        "099": ("1.1", {"conv2d_loops": DELETES}),
    }
    for i in range(100):
        name = f"{i:03}"
        hand_in(tmp_path, name, "0*.ipynb", **harm.get(name, ("", {}))[1])
    csv_file = tmp_path.parent / "grades.csv"
    command = [sys.executable, "-m", "tinydiff.exercises", "grade", tmp_path, "--csv", csv_file, "--workers", "2"]
    start = time.monotonic()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    print(f"100 students, {len(exercises())} exercises each: {time.monotonic() - start:.0f} s")
    assert done.returncode == 0 and time.monotonic() - start < 15 * 60, done.stderr
    with open(csv_file, newline="") as file:
        lost = {(row["student"], row["exercise"]) for row in csv.DictReader(file) if row["points"] == "0"}
    assert lost == {(name, number) for name, (number, _) in harm.items()}
