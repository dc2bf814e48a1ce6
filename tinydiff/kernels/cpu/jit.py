"""How a kernel is compiled and called: one decorator.  `cache.py` keeps what was compiled.

* Numba's simplest threading layer aborts on concurrent calls, so one lock lets one kernel run at a time.
* GCC's OpenMP ends a process that was forked from one where its threads had started: there, calls raise an error.
* Division follows NumPy's rules (1/0 is infinite): Python's exception is a branch that keeps a loop from being vectors.
* No fastmath: freedom to reorder or contract lets a kernel round differently when it is compiled and when it comes
  from the cache (seen with the group norm's gradient).  Multiplying and adding at once is the micro-kernel's business.
"""

import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
from numba import carray, types
from numba.core.ccallback import CFunc
from numba.core.registry import CPUDispatcher
from numba.core.sigutils import normalize_signature
from numba.extending import intrinsic

from tinydiff.errors import InputError
from tinydiff.kernels.cpu.cache import Cache
from tinydiff.kernels.cpu.vectors import I64, floats_at
from tinydiff.kernels.recording import recorder

Function = TypeVar("Function", bound=Callable[..., Any])


class _Lost:
    """Stands for the lock in a forked process whose threads stayed behind: whoever takes it hears why not."""

    def __enter__(self) -> None:
        why = "this process was forked from one whose kernels had run, and GCC's OpenMP does not survive that"
        raise RuntimeError(f"tinydiff: {why}; start it anew: multiprocessing.get_context('spawn')")

    def __exit__(self, *_: object) -> None: ...


_lock: Any = threading.RLock()


def _after_fork() -> None:
    """In the new process nobody holds the lock, and what is raised here is not heard."""
    global _lock
    try:
        running = numba.threading_layer()
    except ValueError:  # none has started
        running = ""
    _lock = _Lost() if running == "omp" and sys.platform == "linux" else threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def helper(function: Function, **options: Any) -> Any:
    """A compiled function that kernels call."""
    compiled = numba.njit(error_model="numpy", **options)(function)
    compiled._cache = Cache(function)
    return compiled


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
        compiled: Any = CFunc(function, normalize_signature(_signature(function)), {}, {"error_model": "numpy"})
        compiled._cache = Cache(function)
        compiled.compile()
        _ready[symbol] = compiled
        llvm.add_symbol(symbol, compiled.address)


def kernel(function: Function) -> Callable[..., Any]:
    """A compiled function whose `prange` loops run in parallel, called from Python under the lock."""
    compiled, ready = helper(function, parallel=True), False

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        nonlocal ready
        if (listening := recorder.get()) is not None:
            listening.note(compiled, args)
        with _lock:
            if not ready:
                try:
                    numba.get_num_threads()  # starts them
                except ValueError as error:
                    why = " ".join(str(error).split())  # in one line
                    raise InputError(f"NUMBA_THREADING_LAYER={numba.config.THREADING_LAYER}: {why}") from None
                _make_known(_called_by(function))
                ready = True
            return compiled(*args)

    return call


def alone() -> Any:
    """The lock: within it this thread's kernels are the only ones that run."""
    return _lock


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
