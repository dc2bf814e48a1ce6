"""What is kept from one call to the next: freed memory, and what is made of weights that do not change."""

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _LARGEST = -1, -3, (1 << 31) - 1  # malloc.h


@functools.cache
def reuse_memory() -> bool:
    """Keep freed memory in this process from here on; False where the C library knows no such thing.

    The C library gives large freed blocks back to the operating system, which clears every page anew at its next use:
    up to a fifth of a training step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _LARGEST))


_Cache = dict[tuple, tuple[np.ndarray, np.ndarray]]
_cache: ContextVar[_Cache | None] = ContextVar("cache", default=None)


@contextlib.contextmanager
def constant_weights() -> Iterator[None]:
    """Within this block, in this thread, weights must not change: what kernels make of them is made once.

    A sampler calls the same network at every step, and Winograd's transform of its kernels is the same each time.
    """
    before = _cache.get()
    _cache.set({} if before is None else before)
    try:
        yield
    finally:
        _cache.set(before)


def cached(w: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`make(w)`, or within `constant_weights` what it gave before for the same memory."""
    cache = _cache.get()
    if cache is None:
        return make(w)
    key = (make, w.__array_interface__["data"][0], w.shape, w.strides)
    if key not in cache:
        cache[key] = w, make(w)  # w as well, so that its memory is not given to another array
    return cache[key][1]
