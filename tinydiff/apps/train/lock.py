"""One training at a time in a folder: two would overwrite each other's checkpoints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from tinydiff.errors import InputError

if sys.platform == "win32":
    import msvcrt

    def _acquire(descriptor: int) -> None:
        # Windows forbids others to read a locked byte, so the lock lies far behind the process id.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _acquire(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FolderLock:
    """`with FolderLock(folder):` keeps every other process (and any second lock in this one) out of `folder`.

    The operating system holds the lock on the file `.lock` and frees it when the process ends, by kill −9 too, so
    nothing is ever left to clean up; the file itself stays, since removing it would let two processes lock two files.
    Raises InputError if the folder is held already (with the holder's process id), or can't be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        try:
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be locked for training, {error.strerror}") from error
        try:
            _acquire(descriptor)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            if isinstance(error, (BlockingIOError, PermissionError)):  # PermissionError: what Windows says
                raise InputError(
                    f"{self.folder}: another training (process {holder or 'unknown'}) is at work here; "
                    "wait for it, stop it, or choose another folder"
                ) from error
            raise InputError(f"{self.folder}: cannot be locked for training, {error.strerror}") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # frees the lock
            self._descriptor = None
