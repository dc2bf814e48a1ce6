"""The exercises' notebooks as files: found, read, and stripped of their solutions.  A notebook is JSON, no more."""

import ast
import json
import re
from pathlib import Path
from typing import Any

from tinydiff.errors import InputError
from tinydiff.exercises import exercises
from tinydiff.exercises.checking import Exercise
from tinydiff.files import written_whole

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SOLUTION = re.compile(rf"^([ \t]*){BEGIN}$.*?^[ \t]*{END}$", re.MULTILINE | re.DOTALL)
STUB = ["# YOUR CODE HERE", "raise NotImplementedError()"]  # nbgrader's own
CHECK = re.compile(r"""^\s*check\(\s*["']([\d.]+)["']""", re.MULTILINE)


def read(path: Path) -> dict[str, Any]:
    """A notebook.  Raises InputError where the file is not one."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["cell_type"], cell["source"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a notebook ({type(error).__name__})") from None
    return notebook


def code_cells(notebook: dict[str, Any]) -> list[str]:
    """The sources of its code cells."""
    return [text(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])  # a string, or a list of lines


def checked(source: str) -> list[str]:
    """The numbers of the exercises that a cell checks."""
    return CHECK.findall(source)


def defined(source: str) -> set[str]:
    """The names of the functions and variables that a cell makes at its top level; none where it is not Python."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set(re.findall(r"^(?:def|class)\s+(\w+)", source, re.MULTILINE))
    names = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


def cells_for(path: Path | None, exercise: Exercise) -> list[str]:
    """The cells that one exercise needs: what prepares, and the answer, but no other exercise's answer or check.

    Raises InputError where the notebook is missing or not one, or has no answer.
    """
    if path is None:
        raise InputError(f"{exercise.number}: no notebook was handed in")
    others = {e.name for e in exercises().values()} - {exercise.name}
    chosen = [cell for cell in code_cells(read(path)) if not checked(cell) and not defined(cell) & others]
    if not any(exercise.name in defined(cell) for cell in chosen):
        raise InputError(f"{exercise.number}: {exercise.name} is not written yet (no cell of {path.name} defines it)")
    return chosen


def stripped(source: str, where: str = "cell") -> str:
    """The student's version of a cell: what stands between BEGIN and END is left out, a stub takes its place.

    Raises InputError where the two do not come in pairs.
    """
    student = SOLUTION.sub(lambda found: "\n".join(found[1] + line for line in STUB), source)
    for mark in (BEGIN, END):
        if mark in student:
            raise InputError(f"{where}: {mark!r} stands alone")
    return student


def release(source: Path, target: Path) -> list[Path]:
    """Write the student's version of every notebook in `source` to the folder `target`; returns the files.

    Nothing is overwritten.  Raises InputError where there is no notebook, or a file is there already.
    """
    notebooks = sorted(source.glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise InputError(f"{source}: no exercises here (notebooks named 01_….ipynb)")
    made = {target / path.name: read(path) for path in notebooks}
    for path, notebook in made.items():
        if path.exists():
            raise InputError(f"{path} is there already; choose an empty folder")
        for number, cell in enumerate(notebook["cells"], start=1):
            if cell["cell_type"] == "code":
                cell["source"] = stripped(text(cell), f"{path.name}, cell {number}")
                cell["outputs"], cell["execution_count"] = [], None
    target.mkdir(parents=True, exist_ok=True)
    for path, notebook in made.items():
        with written_whole(path) as beside:
            beside.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return list(made)
