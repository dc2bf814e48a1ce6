"""What is kept from one call to the next: what kernels make of weights that do not change."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np

_changes = 0


def weights_changed() -> None:
    """To be said by whoever changes weights in place: what was made of them before no longer holds."""
    global _changes
    _changes += 1


def weights_version() -> int:
    """How often weights have been changed in place in this process."""
    return _changes


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


def weights_are_constant() -> bool:
    """Whether `constant_weights` holds here."""
    return _cache.get() is not None


def cached(w: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`make(w)`, or within `constant_weights` what it gave before for the same memory."""
    cache = _cache.get()
    if cache is None:
        return make(w)
    key = (make, w.__array_interface__["data"][0], w.shape, w.strides)
    if key not in cache:
        cache[key] = w, make(w)  # w as well, so that its memory is not given to another array
    return cache[key][1]
