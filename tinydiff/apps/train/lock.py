"""One training at a time in a folder: two would overwrite each other's checkpoints."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tinydiff.errors import InputError


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """`with folder_lock(folder):` keeps every other process (and any second lock in this one) out of `folder`.

    The operating system frees the lock, on the file `.lock`, when the process ends, by kill −9 too.
    Raises InputError if the folder is held already (with the holder's process id), or can't be written.
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
