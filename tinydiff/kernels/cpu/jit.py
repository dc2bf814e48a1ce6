"""How a kernel is compiled, cached and called: one decorator.

* Numba's cache does not see changes in imported modules, so its folder bears a hash of all that made the kernels.
* Numba's simplest threading layer aborts on concurrent calls, so one lock lets one kernel run at a time.
* Division follows NumPy's rules (1/0 is infinite): Python's exception is a branch that keeps a loop from being vectors.
* No fastmath: freedom to reorder or contract lets a kernel round differently when it is compiled and when it comes
  from the cache (seen with the group norm's gradient).  Multiplying and adding at once is the micro-kernel's business.
* The first call compiles; when that takes long, one line says so.
"""

import contextlib
import functools
import hashlib
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba import carray, types
from numba.core import config
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic

from tinydiff.kernels.cpu.vectors import I64, INSTRUCTIONS, floats_at

Function = TypeVar("Function", bound=Callable[..., Any])

_lock = threading.RLock()


def cache_folder() -> Path:
    """Where compiled kernels are kept, by a hash of their sources, the instruction set and the versions."""
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
        what = f"cannot write the kernel cache {folder} ({error.strerror}), so kernels compile anew in every process"
        warnings.warn(f"tinydiff: {what}; set NUMBA_CACHE_DIR to a folder that can be written", stacklevel=2)
        return False


FOLDER = cache_folder()
CACHED = _writable(FOLDER)


@contextlib.contextmanager
def _our_folder() -> Iterator[None]:
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def helper(function: Function, **options: Any) -> Any:
    """A compiled function that kernels call, cached in our own folder where that can be written."""
    with _our_folder():
        return numba.njit(cache=CACHED, error_model="numpy", **options)(function)


_functions: dict[str, Callable[..., None]] = {}  # machine functions by their symbols
_ready: dict[str, Any] = {}


def machine_function(function: Callable[..., None]) -> Any:
    """A function of integers that kernels call by its name.

    It is compiled once; a helper is compiled again within every kernel that calls it, three times over.
    """
    symbol = f"{function.__module__}.{function.__name__}"
    _functions[symbol] = function
    return types.ExternalFunction(symbol, _signature(function))


def _signature(function: Callable[..., None]) -> Any:
    return types.void(*[types.intp] * function.__code__.co_argcount)


def _called_by(function: Callable[..., Any]) -> set[str]:
    """The symbols of the machine functions that a function's code names, itself or through a helper."""
    found = [function.__globals__.get(name) for name in function.__code__.co_names]
    through = (_called_by(f.py_func) for f in found if isinstance(f, CPUDispatcher) and f.py_func is not function)
    return {f.symbol for f in found if isinstance(f, types.ExternalFunction)}.union(*through)


def _make_known(symbols: set[str]) -> None:
    """Compile these machine functions, or load them from the cache, so that LLVM finds them."""
    for symbol in sorted(symbols - _ready.keys()):
        function = _functions[symbol]
        _make_known(_called_by(function))
        with _our_folder():
            _ready[symbol] = numba.cfunc(_signature(function), cache=CACHED, error_model="numpy")(function)
        llvm.add_symbol(symbol, _ready[symbol].address)


def kernel(function: Function) -> Callable[..., Any]:
    """A compiled function whose `prange` loops run in parallel, called from Python under the lock."""
    compiled, ready = helper(function, parallel=True), False

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
                _make_known(_called_by(function))
                return compiled(*args)
            finally:
                notice.cancel()

    return call


@functools.cache  # so that it is said once
def _say_compiling() -> None:
    print("tinydiff: compiling kernels for this machine (once; they are cached) …", file=sys.stderr, flush=True)


@intrinsic
def address(typingctx: Any, array: Any) -> Any:
    """Where an array's numbers begin, in bytes; signed, since Numba makes a float of signed and unsigned added."""

    def emit(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, build, arguments[0]).data
        return build.ptrtoint(data, I64)

    return types.intp(array), emit


@helper
def rounded(n, multiple):  # type: ignore[no-untyped-def]
    return (n + multiple - 1) // multiple * multiple


@helper
def array_at(address, shape):  # type: ignore[no-untyped-def]
    """The float32 array that begins at an address."""
    return carray(floats_at(address), shape)
