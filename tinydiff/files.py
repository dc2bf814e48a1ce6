"""Files that appear whole or not at all, and the folder of the data that comes with tinydiff."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinydiff.errors import InputError


def shipped(*names: str) -> Path:
    """A file or folder of the data that comes with tinydiff: in the checkout's `data/`, or in the installed package."""
    package = Path(__file__).parent
    folder = package / "data"
    return (folder if folder.is_dir() else package.parent / "data").joinpath(*names)


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed to `path` at the end, removed if anything went wrong on the way.

    A rename is all or nothing, so whoever opens the path finds the whole old file or the whole new one, whatever stops
    the writer: a full disk, Ctrl-C, kill −9.  A symbolic link stays one: the file that it leads to is replaced.
    Raises InputError, which names the file, where it can't be written.
    """
    target = Path(os.path.realpath(path))
    # Always the same name: what a killed process left behind is overwritten by the next one, and never piles up.
    beside = target.with_name(f".tinydiff-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.partial")
    try:
        yield beside
        os.replace(beside, target)
    except OSError as error:
        raise InputError(f"{path}: not saved, {error.strerror or error}; an older file there is kept") from error
    finally:
        beside.unlink(missing_ok=True)
