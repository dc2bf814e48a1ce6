"""Grading: every exercise of every student in a process of its own, forked from one that has all imported.

A process has a folder of its own to work in, and a limit of time and of memory: whatever an answer does there, loop,
eat memory, delete files, it costs that one exercise.  That protects from accidents, not from malice: grade what you do
not trust in a container.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tinydiff.errors import InputError
from tinydiff.exercises import exercises
from tinydiff.exercises.checking import Exercise, Wrong
from tinydiff.exercises.notebooks import checked, code_cells, defined, read
from tinydiff.files import written_whole

SECONDS, MEGABYTES = 20.0, 1500  # for one exercise
LONGEST = 4000  # characters of a message that are kept


@dataclass(frozen=True)
class Mark:
    """What one student got for one exercise."""

    student: str
    exercise: Exercise
    right: bool
    message: str  # empty where it is right

    @property
    def points(self) -> int:
        return self.exercise.points if self.right else 0


@dataclass
class _Running:
    student: str
    exercise: Exercise
    process: int
    pipe: int
    folder: str
    until: float


def grade(
    folder: Path,
    workers: int | None = None,
    seconds: float = SECONDS,
    megabytes: int = MEGABYTES,
    say: Callable[[Mark], None] = lambda mark: None,
) -> list[Mark]:
    """Marks of one student (`folder` holds the notebooks) or of many (each subfolder is one), in order.

    Graded are the sections of which anybody handed in a notebook.  `say` is called with each mark as it is given.
    Raises InputError where there is nothing to grade.
    """
    students = submissions(folder)
    sections = {name[:2] for files in students.values() for name in files}
    wanted = [e for e in exercises().values() if f"{int(e.number.split('.')[0]):02}" in sections]
    jobs = iter([(student, e, _notebook_of(files, e)) for student, files in students.items() for e in wanted])
    marks: list[Mark] = []
    running: list[_Running] = []

    def give(mark: Mark) -> None:
        marks.append(mark)
        say(mark)

    workers = workers or os.cpu_count() or 1
    try:
        while True:
            while len(running) < workers and (job := next(jobs, None)) is not None:
                student, exercise, path = job
                try:
                    cells = cells_for(path, exercise)
                except InputError as error:
                    give(Mark(student, exercise, False, str(error)))
                else:
                    running.append(_start(student, exercise, cells, seconds, megabytes))
            if not running:
                break
            for one in list(running):
                if (mark := _finished(one, seconds)) is not None:
                    running.remove(one)
                    give(mark)
            time.sleep(0.005)
    finally:
        for one in running:
            _end(one)
    order = {e.number: place for place, e in enumerate(wanted)}
    return sorted(marks, key=lambda mark: (list(students).index(mark.student), order[mark.exercise.number]))


def submissions(folder: Path) -> dict[str, dict[str, Path]]:
    """Each student's notebooks by file name.  Raises InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")

    def notebooks(paths: Iterator[Path]) -> dict[str, Path]:
        return {path.name: path for path in sorted(paths) if path.name[:2].isdigit()}

    own = notebooks(folder.glob("*.ipynb"))
    if own:
        return {folder.resolve().name: own}
    found = {
        sub.name: notebooks(path for path in sub.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
        for sub in sorted(folder.iterdir())
        if sub.is_dir()
    }
    if not any(found.values()):
        raise InputError(f"{folder}: no notebooks here, and none in its subfolders (one for each student)")
    return found


def _notebook_of(files: dict[str, Path], exercise: Exercise) -> Path | None:
    section = f"{int(exercise.number.split('.')[0]):02}_"
    return next((path for name, path in files.items() if name.startswith(section)), None)


def cells_for(path: Path | None, exercise: Exercise) -> list[str]:
    """The cells that one exercise needs: what prepares, and the answer, but no other exercise's answer or check.

    Raises InputError where the notebook is missing or not one, or has no answer.
    """
    if path is None:
        raise InputError(f"{exercise.number}: no notebook was handed in")
    cells = code_cells(read(path))
    others = {e.name for e in exercises().values()} - {exercise.name}
    chosen = [cell for cell in cells if not checked(cell) and not defined(cell) & others]
    if not any(exercise.name in defined(cell) for cell in chosen):
        raise InputError(f"{exercise.number}: {exercise.name} is not written yet (no cell of {path.name} defines it)")
    return chosen


def _start(student: str, exercise: Exercise, cells: list[str], seconds: float, megabytes: int) -> _Running:
    folder = tempfile.mkdtemp(prefix="tinydiff-grading-")
    reads, writes = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            os.close(reads)
            message = _answer(exercise, cells, folder, seconds, megabytes)
            os.write(writes, json.dumps(message[:LONGEST]).encode())
        os._exit(0)
    os.close(writes)
    return _Running(student, exercise, process, reads, folder, time.monotonic() + seconds)


def _answer(exercise: Exercise, cells: list[str], folder: str, seconds: float, megabytes: int) -> str:
    """In the child: run the cells, check the answer, and say what is wrong ("" for nothing)."""
    os.setsid()  # what it starts ends with it
    os.chdir(folder)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    bytes_ = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**26, 2**26))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    space: dict[str, object] = {"__name__": "__main__"}
    failed = ""
    try:
        for cell in cells:
            try:
                exec(compile(_plain(cell), f"the cell of {exercise.name}", "exec"), space)
            except MemoryError:
                raise
            except BaseException as error:
                failed = f"a cell raised {type(error).__name__}: {error}"
        if exercise.name not in space:
            return f"{exercise.number}: {exercise.name} is not there; {failed or 'no cell defines it'}"
        from tinydiff.exercises import check

        check(exercise.number, space[exercise.name])  # type: ignore[arg-type]
    except Wrong as wrong:
        return str(wrong)
    except MemoryError:
        return f"{exercise.number}: more than {megabytes} MB of memory"
    except BaseException as error:
        return f"{exercise.number}: {type(error).__name__}: {error}"
    return ""


def _plain(cell: str) -> str:
    """Without the lines that are IPython's and not Python's."""
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in cell.split("\n"))


def _finished(one: _Running, seconds: float) -> Mark | None:
    """The mark, once the process has ended or its time is over."""
    ended, status = os.waitpid(one.process, os.WNOHANG)
    late = time.monotonic() > one.until
    if not ended and not late:
        return None
    said = b""
    if ended:
        with contextlib.suppress(OSError):
            said = os.read(one.pipe, 16 * LONGEST)
        message = f"{one.exercise.number}: its process ended without an answer ({_how(status)})"
        with contextlib.suppress(ValueError):
            message = json.loads(said)
    else:
        message = f"{one.exercise.number}: not done within {seconds:g} seconds; does a loop not end?"
    _end(one, ended=bool(ended))
    return Mark(one.student, one.exercise, message == "", message)


def _how(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {os.WEXITSTATUS(status)}"


def _end(one: _Running, ended: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(one.process, signal.SIGKILL)
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(one.process, 0)
    os.close(one.pipe)
    shutil.rmtree(one.folder, ignore_errors=True)


def write_csv(marks: list[Mark], path: Path) -> None:
    """A line for each student and exercise."""
    with written_whole(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["student", "exercise", "title", "points", "of", "message"])
        for m in marks:
            rows.writerow([m.student, m.exercise.number, m.exercise.title, m.points, m.exercise.points, m.message])


def table(marks: list[Mark]) -> str:
    """Readable: a row for each student, a column for each exercise, the sum at the end."""
    numbers = list(dict.fromkeys(m.exercise.number for m in marks))
    students = list(dict.fromkeys(m.student for m in marks))
    points = {(m.student, m.exercise.number): m.points for m in marks}
    total = sum({m.exercise.number: m.exercise.points for m in marks}.values())
    width = max(len("student"), *(len(student) for student in students))
    lines = [f"{'student':<{width}}  " + "  ".join(f"{n:>4}" for n in numbers) + f"  {'sum of ' + str(total):>9}"]
    for student in students:
        own = [points[student, number] for number in numbers]
        lines.append(f"{student:<{width}}  " + "  ".join(f"{p or '-':>4}" for p in own) + f"  {sum(own):>9}")
    return "\n".join(lines)
