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


_Made = dict[tuple, tuple[np.ndarray, np.ndarray]]
_made: ContextVar[_Made | None] = ContextVar("made of constant weights", default=None)


@contextlib.contextmanager
def constant_weights() -> Iterator[None]:
    """Within this block, in this thread, no weight changes: a sampler calls the same network 25 times."""
    before = _made.get()
    _made.set({} if before is None else before)
    try:
        yield
    finally:
        _made.set(before)


def cached(w: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`make(w)`, or within `constant_weights` what it gave before for the same memory."""
    made = _made.get()
    if made is None:
        return make(w)
    key = (make, w.__array_interface__["data"][0], w.shape, w.strides)
    if key not in made:
        made[key] = w, make(w)  # w as well, so that its memory is not given to another array
    return made[key][1]
