"""How a kernel is compiled, cached and called: one decorator.

* Numba's cache does not see changes in imported modules, so the index folder bears a hash of all kernel sources, the
  instruction set and the versions: a change anywhere is noticed everywhere.
* Numba's simplest threading layer aborts on concurrent calls, so one lock lets one kernel run at a time.
* Division follows NumPy's rules (1/0 is infinite): Python's exception is a branch that keeps a loop from being vectors.
* No fastmath: freedom to reorder or contract lets a kernel round differently when it is compiled and when it comes
  from the cache (seen with the group norm's gradient).  Multiplying and adding at once is the register tile's business.
* The first call compiles; when that takes long, one line says so.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np
from numba.core import config

from tinydiff.kernels.cpu.vectors import INSTRUCTIONS

Function = TypeVar("Function", bound=Callable[..., Any])

_lock = threading.RLock()


def cache_folder() -> Path:
    """Where compiled kernels are kept: $NUMBA_CACHE_DIR, else the user's cache folder; by a hash of what made them."""
    root = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    made_with = f"{INSTRUCTIONS} numba {numba.__version__} llvmlite {llvmlite.__version__} numpy {np.__version__}"
    source = hashlib.sha256(made_with.encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source.update(file.read_bytes())
    return Path(root) / "tinydiff" / source.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        warnings.warn(
            f"tinydiff: cannot write the kernel cache {folder} ({error.strerror}), so kernels compile anew in every "
            "process; set NUMBA_CACHE_DIR to a folder that can be written",
            stacklevel=2,
        )
        return False


FOLDER = cache_folder()
CACHED = _writable(FOLDER)


def _compile(function: Function, **options: Any) -> Any:
    """numba.njit, with the cache in our own folder where that can be written."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
    try:
        return numba.njit(cache=CACHED, error_model="numpy", **options)(function)
    finally:
        config.CACHE_DIR = before


def helper(function: Function) -> Any:
    """A compiled function that kernels call."""
    return _compile(function)


def kernel(function: Function) -> Callable[..., Any]:
    """A compiled function whose `prange` loops run in parallel, called from Python under the lock."""
    compiled, ready = _compile(function, parallel=True), False

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        nonlocal ready
        with _lock:
            if ready:
                return compiled(*args)
            ready = True
            notice = threading.Timer(2.0, _say_compiling)
            notice.daemon = True
            notice.start()
            try:
                return compiled(*args)
            finally:
                notice.cancel()

    return call


_announced = False


def _say_compiling() -> None:
    global _announced
    if not _announced:
        _announced = True
        print("tinydiff: compiling kernels for this machine (once; they are cached) …", file=sys.stderr, flush=True)


@helper
def address(array):  # type: ignore[no-untyped-def]
    """Where an array's numbers begin, in bytes; signed, since Numba makes a float of signed and unsigned added."""
    return np.int64(array.ctypes.data)
