"""What is made of weights, panels and Winograd's values, is made once where the weights do not change."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np


class _Kept(threading.local):
    """What this thread keeps; two threads may draw at once, and neither ends the other's block."""

    made: dict[tuple, tuple[np.ndarray, np.ndarray]] | None = None


_kept = _Kept()


@contextlib.contextmanager
def constant_weights() -> Iterator[None]:
    """Within this block no weight changes: a sampler calls the same network 25 times.  It holds for this thread."""
    before = _kept.made
    _kept.made = {} if before is None else before
    try:
        yield
    finally:
        _kept.made = before


def made_of(w: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`make(w)`, or what it gave for the same memory before in this block."""
    kept = _kept.made
    if kept is None:
        return make(w)
    key = (make, w.__array_interface__["data"][0], w.shape, w.strides)
    if key not in kept:
        kept[key] = w, make(w)  # w as well, so that its memory is not given to another array
    return kept[key][1]
