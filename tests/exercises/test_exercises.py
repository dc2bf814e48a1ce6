"""Solutions are right, students' versions fail by name, plausible wrong answers are rejected with a fitting hint."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinydiff.device import simulated
from tinydiff.exercises import SECTIONS, Wrong, check, exercises
from tinydiff.exercises.notebooks import cells_for, stripped

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parents[1] / "notebooks" / "exercises"
SECONDS = 5  # a check may take


def wrong_answers(section):
    """The dictionary in wrong_{section}.py."""
    spec = importlib.util.spec_from_file_location(f"wrong_{section}", HERE / f"wrong_{section}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.WRONG


ALL = exercises()
WRONG = {number: answers for section in SECTIONS for number, answers in wrong_answers(section).items()}


def mark(number):
    marks = [getattr(pytest.mark, f"ex{number.replace('.', '_')}")]
    if number == "1.8":  # a GPU's simulator has to be chosen before Numba is imported
        marks.append(pytest.mark.skipif(not simulated(), reason="runs in Numba's simulator, see test_in_the_simulator"))
    return marks


def each(numbers):
    return [pytest.param(number, id=number, marks=mark(number)) for number in numbers]


def answer_in(number, strip=False):
    """What the notebook's cells define, as they stand or as a student gets them."""
    (path,) = NOTEBOOKS.glob(f"{int(number.split('.')[0]):02}_*.ipynb")
    space, environment = {}, dict(os.environ)
    for cell in cells_for(path, ALL[number]):
        try:
            exec(compile(stripped(cell) if strip else cell, path.name, "exec"), space)
        except NotImplementedError:
            assert strip
    os.environ.clear()  # a cell may ask for the simulator: that is not for the tests that follow
    os.environ.update(environment)
    return space.get(ALL[number].name)


@pytest.mark.parametrize("number", each(ALL))
def test_the_solution_is_right_and_is_checked_in_seconds(number, capsys):
    answer = answer_in(number)
    start = time.monotonic()
    check(number, answer)
    assert time.monotonic() - start < SECONDS
    assert capsys.readouterr().out == f"{number} {ALL[number].title}: right\n"


@pytest.mark.parametrize("number", each(ALL))
def test_the_student_s_version_fails_and_names_the_exercise(number):
    with pytest.raises(Wrong) as caught:
        check(number, answer_in(number, strip=True))
    message = str(caught.value)
    assert message.startswith(f"{number} {ALL[number].title}: not right yet\n  ") and "not written yet" in message
    assert caught.value._render_traceback_() == [message]  # what a notebook shows: no traceback


@pytest.mark.parametrize(
    "number, name",
    [pytest.param(n, name, id=f"{n} {name}", marks=mark(n)) for n, answers in WRONG.items() for name in answers],
)
def test_a_wrong_answer_is_rejected(number, name):
    answer, said = WRONG[number][name]
    with pytest.raises(Wrong) as caught:
        check(number, answer)
    message = str(caught.value)
    assert message.startswith(number) and re.search(re.escape(said), message), message


def test_every_exercise_has_four_wrong_answers():
    assert {number: len(WRONG.get(number, ())) for number in ALL if len(WRONG.get(number, ())) < 4} == {}


def test_in_the_simulator():
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "ex1_8", str(Path(__file__))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0 and "6 passed" in done.stdout, done.stdout[-2000:]
