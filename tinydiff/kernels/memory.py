"""What is kept from one call to the next: freed memory, and what is made of weights that do not change."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = (1 << 31) - 1


@functools.cache
def reuse_memory() -> bool:
    """Keep freed memory in this process from here on; False where the C library knows no such thing.

    A training step allocates the same arrays as the one before it.  The C library gives large freed blocks back to the
    operating system, which then clears every page anew at its first use: up to a fifth of a step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _LARGEST))


_made: ContextVar[dict[tuple, tuple[np.ndarray, np.ndarray]] | None] = ContextVar(
    "made of constant weights", default=None
)


@contextlib.contextmanager
def constant_weights() -> Iterator[None]:
    """Within this block no weight changes: a sampler calls the same network 25 times.

    It holds for this thread: two may generate at once, and neither ends the other's block.
    """
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
