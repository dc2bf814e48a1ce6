"""`python -m tinydiff.exercises release DIR` hands the exercises out, `… grade DIR` grades what comes back."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")  # one exercise is a kernel for a GPU; before Numba is imported

from tinydiff.cli.types import Parser, at_least, existing_folder, file_to_write, folder_to_make
from tinydiff.errors import InputError
from tinydiff.exercises.grading import MEGABYTES, SECONDS, Mark, grade, table, write_csv
from tinydiff.exercises.notebooks import release

SOURCE = Path("notebooks") / "exercises"


def main() -> int:
    parser = Parser(prog="python -m tinydiff.exercises", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sub = commands.add_parser("release", help="write the student's version of the notebooks")
    sub.add_argument("folder", type=folder_to_make, metavar="DIR", help="where to; it should be empty")
    sub.add_argument("--source", type=existing_folder, default=SOURCE, metavar="DIR", help=f"with solutions; {SOURCE}")
    sub = commands.add_parser("grade", help="check all answers of one student, or of a folder of many")
    sub.add_argument("folder", type=existing_folder, metavar="DIR", help="notebooks, or a subfolder for each student")
    sub.add_argument("--csv", type=file_to_write, default=Path("grades.csv"), metavar="FILE", help="grades.csv")
    sub.add_argument("--workers", type=at_least(1), help="exercises at a time; else as many as cores")
    sub.add_argument("--seconds", type=at_least(1), default=SECONDS, help=f"for one exercise; {SECONDS:g}")
    sub.add_argument("--megabytes", type=at_least(100), default=MEGABYTES, help=f"for one exercise; {MEGABYTES}")
    args = parser.parse_args()
    try:
        if args.command == "release":
            for path in release(args.source, args.folder):
                print(path)
        else:
            marks = grade(args.folder, args.workers, args.seconds, args.megabytes, say=_say)
            write_csv(marks, args.csv)
            print(f"\n{table(marks)}\n\n{args.csv}: every message")
    except InputError as error:
        print(f"tinydiff: {error}", file=sys.stderr)
        return 2
    return 0


def _say(mark: Mark) -> None:
    print(f"{mark.student} {mark.exercise.number}: {'right' if mark.right else 'not right'}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
