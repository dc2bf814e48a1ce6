"""An output never replaces an input: checked before any work, by every command."""

import os
from collections.abc import Iterable
from pathlib import Path

from tinydiff.errors import InputError


def refuse_overwriting(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Raise InputError where an output would replace an input, or another output, under whatever name.

    None stands for a file that was not asked for.  Raises OSError where the system can have no file of that name.
    """
    taken: dict[object, str] = {}
    for path in inputs:
        if path is not None:
            taken |= dict.fromkeys((_place(path), _name(path)), f"the input {path}")
    for path in outputs:
        if path is not None:
            place = _place(path) or _name(path)
            if place in taken:
                raise InputError(f"the output {path} would replace {taken[place]}; choose another place or name")
            taken[place] = f"the output {path}"


def _place(path: Path) -> tuple[int, int] | None:
    """What all names of a file that exists have in common, links of both kinds among them."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _name(path: Path) -> str:
    """Where a file would be written, without the case of its letters, which not every disk tells apart."""
    return os.path.realpath(path).casefold()
