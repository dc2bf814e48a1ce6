"""Grading: every exercise of every student in a process of its own.

It is forked from one that has all imported; where the system cannot fork it starts anew, which takes seconds.  Each has
a folder of its own, and the limits that the system gives: an answer that loops, eats memory or deletes files costs that
one exercise.  That protects from accidents, not from malice: grade what you do not trust in a container.
"""

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from tinydiff.errors import InputError
from tinydiff.exercises import check, exercises
from tinydiff.exercises.checking import Exercise, Wrong
from tinydiff.exercises.notebooks import cells_for
from tinydiff.files import written_whole

SECONDS, MEGABYTES = 20.0, 1500  # for one exercise
STARTING = 20.0  # seconds that a process may take to import all, where it cannot be forked
LONGEST = 4000  # characters of a message that are kept
STATM = Path("/proc/self/statm")  # the size of this process, on Linux
IPYTHON = re.compile(r"^[ \t]*[%!].*", re.MULTILINE)  # lines that are IPython's and not Python's


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
    handed_in = {name[:2] for files in students.values() for name in files}
    section = {e: f"{int(e.number.split('.')[0]):02}" for e in exercises().values()}  # "03", as its notebook begins
    jobs = [(student, e) for student in students for e in section if section[e] in handed_in]
    marks: dict[tuple[str, str], Mark] = {}
    running: list[Generator[Mark | None]] = []
    waiting, workers = jobs[::-1], max(1, workers or os.cpu_count() or 1)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                student, exercise = waiting.pop()
                files = students[student].items()
                path = next((path for name, path in files if name.startswith(section[exercise])), None)
                running.append(_graded(student, exercise, path, seconds, megabytes))
            for one in list(running):
                if (mark := next(one)) is not None:
                    running.remove(one)
                    marks[mark.student, mark.exercise.number] = mark
                    say(mark)
            time.sleep(0.005)
    finally:
        for one in running:
            one.close()
    return [marks[student, e.number] for student, e in jobs]


def submissions(folder: Path) -> dict[str, dict[str, Path]]:
    """Each student's notebooks by file name.  Raises InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")

    def notebooks(paths: Iterable[Path]) -> dict[str, Path]:
        return {p.name: p for p in sorted(paths) if p.name[:2].isdigit() and ".ipynb_checkpoints" not in p.parts}

    if own := notebooks(folder.glob("*.ipynb")):
        return {folder.resolve().name: own}
    found = {sub.name: notebooks(sub.rglob("*.ipynb")) for sub in sorted(folder.iterdir()) if sub.is_dir()}
    if not any(found.values()):
        raise InputError(f"{folder}: no notebooks here, and none in its subfolders (one for each student)")
    return found


def _graded(
    student: str, exercise: Exercise, path: Path | None, seconds: float, megabytes: int
) -> Generator[Mark | None]:
    """None while the process runs, then the mark; `close` ends the process."""
    try:
        cells = cells_for(path, exercise)
    except InputError as error:
        yield Mark(student, exercise, False, str(error))
        return
    message = f"{exercise.number}: not done within {seconds:g} seconds; does a loop not end?"
    folders = tempfile.TemporaryDirectory(prefix="tinydiff-grading-", ignore_cleanup_errors=True)
    with folders as folder, tempfile.TemporaryFile() as said:
        process = (_Forked if hasattr(os, "fork") else _started)(exercise, cells, folder, megabytes, said)
        until = time.monotonic() + seconds + (0 if hasattr(os, "fork") else STARTING)
        code = None
        try:
            while (code := process.poll()) is None and time.monotonic() <= until:
                yield None
        finally:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            if code is None:
                process.kill()
                process.wait()
        if code is not None:
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            message = f"{exercise.number}: its process ended without an answer ({how})"
            said.seek(0)
            with contextlib.suppress(ValueError):
                message = json.loads(said.read())
    yield Mark(student, exercise, message == "", message)


class _Forked:
    """A copy of this process that writes what is wrong with the answer to `said`; with Popen's methods."""

    def __init__(self, exercise: Exercise, cells: list[str], folder: str, megabytes: int, said: IO[bytes]) -> None:
        sys.stdout.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                said.write(json.dumps(_answer(exercise, cells, folder, megabytes)[:LONGEST]).encode())
                said.flush()
            os._exit(0)

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self.pid, 0)


def _started(exercise: Exercise, cells: list[str], folder: str, megabytes: int, said: IO[bytes]) -> subprocess.Popen:
    """The same where a process cannot be copied: a new one, which gets what it needs through its standard input."""
    code = "from tinydiff.exercises import grading; grading._answer_from_stdin()"
    with tempfile.TemporaryFile() as job:
        job.write(json.dumps([exercise.number, cells, folder, megabytes]).encode())
        job.seek(0)
        return subprocess.Popen([sys.executable, "-c", code], stdin=job, stdout=said, stderr=subprocess.DEVNULL)


def _answer_from_stdin() -> None:
    number, cells, folder, megabytes = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "wb") as said:
        said.write(json.dumps(_answer(exercises()[number], cells, folder, megabytes)[:LONGEST]).encode())


def _answer(exercise: Exercise, cells: list[str], folder: str, megabytes: int) -> str:
    """In the child: run the cells, check the answer, and say what is wrong ("" for nothing)."""
    if hasattr(os, "setsid"):
        os.setsid()  # what it starts ends with it
    os.chdir(folder)
    _limit(megabytes)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    space: dict[str, object] = {"__name__": "__main__"}
    failed = ""
    try:
        for cell in cells:
            try:
                exec(compile(IPYTHON.sub("", cell), f"the cell of {exercise.name}", "exec"), space)
            except MemoryError:
                raise
            except BaseException as error:
                failed = f"a cell raised {type(error).__name__}: {error}"
        if exercise.name not in space:
            return f"{exercise.number}: {exercise.name} is not there; {failed or 'no cell defines it'}"
        check(exercise.number, space[exercise.name])  # type: ignore[arg-type]
    except Wrong as wrong:
        return str(wrong)
    except MemoryError:
        return f"{exercise.number}: more than {megabytes} MB of memory"
    except BaseException as error:
        return f"{exercise.number}: {type(error).__name__}: {error}"
    return ""


def limits(seconds: float = SECONDS, megabytes: int = MEGABYTES) -> str:
    """What holds an answer on this system."""
    files = "files of 64 MB" if find_spec("resource") else "no limit of files"
    memory = f"{megabytes} MB of memory" if find_spec("resource") and STATM.exists() else "no limit of memory"
    return f"{seconds:g} seconds for each exercise, {memory}, {files} (what this system can limit)"


def _limit(megabytes: int) -> None:
    """So much memory more than now, files of 64 MB, and no dump of a crash, where the system has such limits."""
    try:
        import resource  # which Windows has not
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**26, 2**26))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if STATM.exists():
        size = int(STATM.read_text().split()[0]) * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def write_csv(marks: list[Mark], path: Path) -> None:
    """A line for each student and exercise."""
    with written_whole(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["student", "exercise", "title", "points", "of", "message"])
        for m in marks:
            rows.writerow([m.student, m.exercise.number, m.exercise.title, m.points, m.exercise.points, m.message])


def table(marks: list[Mark]) -> str:
    """Readable: a row for each student, a column for each exercise, the sum at the end."""
    numbers = {m.exercise.number: m.exercise.points for m in marks}
    rows: list[list[Any]] = [["student", *numbers, f"sum of {sum(numbers.values())}"]]
    for student in dict.fromkeys(m.student for m in marks):
        own = [m.points for m in marks if m.student == student]
        rows.append([student, *(points or "-" for points in own), sum(own)])
    width = max(len(row[0]) for row in rows)
    lines = [[f"{row[0]:<{width}}", *(f"{points:>4}" for points in row[1:-1]), f"{row[-1]:>9}"] for row in rows]
    return "\n".join("  ".join(line) for line in lines)
