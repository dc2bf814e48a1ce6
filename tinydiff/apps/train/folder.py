"""The folder of a run: what must not be touched, and one training at a time, as two would overwrite each other's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tinydiff import checkpoint
from tinydiff.errors import InputError

LATER = {"autoencoder", "hidden_act", "causal"}  # what files of former versions do not say


def run_folder(folder: Path) -> Path:
    """The folder, made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"train: the folder {folder} cannot be made ({error.strerror})") from None
    return folder


def refuse_existing(folder: Path, names: tuple[str, ...]) -> None:
    """A new run must not begin where another one's files lie."""
    for name in names:
        for file in (folder / f"{name}.safetensors", folder / f"{name}.checkpoint.safetensors"):
            if file.exists():
                raise InputError(f"train: {file} is there already; go on with --resume, or choose another --out")


def files_of_run(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """What training these parts writes, or removes."""
    kinds = (".safetensors", ".checkpoint.safetensors", ".csv")
    own = [*(f"{name}{kind}" for name in names for kind in kinds), "loss.png", "report.md"]
    return [*(folder / name for name in own), *(folder / "samples").glob("*.png")]


def refuse_another_run(path: Path, training: dict[str, str]) -> None:
    """A finished part is kept only if this run would have made it."""
    if not path.exists():
        return
    found = checkpoint.load(path)[1].get("training")
    if why := difference(found, {**found, **training} if isinstance(found, dict) else training):
        raise InputError(f"{path}: from another run ({why}); choose another --out")


def difference(found: Any, expected: dict[str, Any]) -> str | None:
    """The first thing that tells one run's description from another's, in words; None where both are the same run.

    Data is known by its digest, wherever it lies and however its folder is spelt.  What a file of a former version does
    not say is not compared.
    """
    if not isinstance(found, dict):
        return f"described by {found!r}"
    digests = "data_digest" in found and "data_digest" in expected
    skipped = {"data" if digests else "data_digest", *(LATER - found.keys())}
    for key in (key for key in expected | found if key not in skipped):
        came, wanted = found.get(key), expected.get(key)
        if isinstance(wanted, dict):
            if why := difference(came, wanted):
                return f"{key}: {why}"
        elif came != wanted:
            if key == "data_digest" and found.get("data") != expected.get("data"):
                key = "data"  # which says more
            return f"{key} {found.get(key)!r}, not {expected.get(key)!r}"
    return None


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """`with folder_lock(folder):` keeps every other process (and any second lock in this one) out of `folder`.

    The operating system frees the lock when the process ends, by kill −9 too.  Raises InputError if the folder is held
    already, with the holder's process id, or can't be written.
    """
    folder = Path(folder)
    holder = folder / ".lock.holder"  # beside the lock, since Windows forbids others to read a locked file
    if not folder.is_dir():
        raise InputError(f"{folder}: cannot be locked for training, No such file or directory")
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        process = ""
        with suppress(OSError, ValueError):
            process = holder.read_text().strip()
        busy = f"another training (process {process or 'unknown'}) is at work here"
        raise InputError(f"{folder}: {busy}; wait for it, stop it, or choose another folder") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be locked for training, {error.strerror or error}") from error
    try:
        with suppress(OSError):  # on a full disk the lock holds all the same, and nobody is told who has it
            holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()
