"""`python -m tinydiff.exercises release DIR` hands the exercises out, `… grade DIR` grades what comes back."""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")  # one exercise is a kernel for a GPU; before Numba is imported

from tinydiff.apps.console import on_console
from tinydiff.apps.outputs import refuse_overwriting
from tinydiff.errors import InputError
from tinydiff.exercises.grading import MEGABYTES, SECONDS, grade, limits, table, write_csv
from tinydiff.exercises.notebooks import release

SOURCE = Path("notebooks") / "exercises"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def main() -> int:
    parser = Parser(prog="python -m tinydiff.exercises", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sub = commands.add_parser("release", help="write the student's version of the notebooks")
    sub.add_argument("folder", type=Path, metavar="DIR", help="where to; it should be empty")
    sub.add_argument("--source", type=Path, default=SOURCE, metavar="DIR", help=f"with solutions; {SOURCE}")
    sub = commands.add_parser("grade", help="check all answers of one student, or of a folder of many")
    sub.add_argument("folder", type=Path, metavar="DIR", help="notebooks, or a subfolder for each student")
    sub.add_argument("--csv", type=Path, default=Path("grades.csv"), metavar="FILE", help="grades.csv")
    sub.add_argument("--workers", type=int, help="exercises at a time; else as many as cores")
    sub.add_argument("--seconds", type=float, default=SECONDS, help=f"for one exercise; {SECONDS:g}")
    sub.add_argument("--megabytes", type=int, default=MEGABYTES, help=f"for one exercise; {MEGABYTES}")
    try:
        args = parser.parse_args()
        if args.command == "release":
            print(*release(args.source, args.folder), sep="\n")
        else:
            refuse_overwriting([args.csv], args.folder.rglob("*.ipynb"))
            print(limits(args.seconds, args.megabytes), flush=True)
            said = {True: "right", False: "not right"}
            say = lambda m: print(f"{m.student} {m.exercise.number}: {said[m.right]}", flush=True)  # noqa: E731
            marks = grade(args.folder, args.workers, args.seconds, args.megabytes, say)
            write_csv(marks, args.csv)
            print(f"\n{table(marks)}\n\n{args.csv}: every message")
    except InputError as error:
        print(f"tinydiff: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(on_console(main))
