"""The folder of a run: what must not be touched, and one training at a time, as two would overwrite each other's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tinydiff import checkpoint
from tinydiff.errors import InputError


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


def refuse_another_run(path: Path, training: dict[str, str]) -> None:
    """A finished part is kept only if this run would have made it."""
    if not path.exists():
        return
    found = checkpoint.load(path)[1].get("training", {})
    for key, expected in training.items():
        if found.get(key) != expected:
            why = f"{key} {found.get(key)!r}, not {expected!r}"
            raise InputError(f"{path}: from another run ({why}); choose another --out")


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
        process = holder.read_text().strip() if holder.exists() else "unknown"
        busy = f"another training (process {process}) is at work here"
        raise InputError(f"{folder}: {busy}; wait for it, stop it, or choose another folder") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be locked for training, {error.strerror or error}") from error
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
