"""What the benchmarks that are programs of their own share: `python -m tinydiff.bench.NAME`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinydiff.cli.results import write_json
from tinydiff.cli.types import Parser, folder_to_make
from tinydiff.errors import InputError


def program(name: str, doc: str | None, out: str | None = None) -> Parser:
    """Its parser, described by the first line of `doc`; with -o for a folder, where it writes to one."""
    parser = Parser(prog=f"python -m tinydiff.bench.{name}", description=(doc or "").splitlines()[0])
    if out is not None:
        parser.add_argument("-o", "--output", type=folder_to_make, default=f"runs/{out}", metavar="DIR")
    return parser


def run(main: Callable[[], None]) -> int:
    """Call it; 0 if it went well, 2 and one line for bad input."""
    try:
        main()
    except InputError as error:
        print(f"tinydiff: {error}", file=sys.stderr)
        return 2
    return 0


def write_results(path: Path, results: Sequence[Any]) -> None:
    """Results, dataclasses each, as a JSON list."""
    write_json(path, [asdict(result) for result in results])
