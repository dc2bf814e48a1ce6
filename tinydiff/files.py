"""Files that appear whole or not at all, and never one over the other."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tinydiff.errors import InputError


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed to `path` at the end, removed if anything went wrong on the way."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def stems(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by their names without suffix, by which results are named; InputError where two have the same."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path} would write the same files; take turns")
        found[path.stem] = path
    return found
