"""What runs, written down: the kernels that a network's forward calls, with the arrays that they read and write.

The compiled kernels note themselves here, and so does an op that calls none of them.  `kernels/cpu/record.py` plays the
list again.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

Call = tuple[Callable[..., Any], tuple]
LARGEST = 1 << 27  # bytes that a record may keep: its arrays stay where they are


class Unrecordable(Exception):
    """Why something cannot be replayed."""


class Calls(list[Call]):
    """Functions with their arguments, in order; what they write stays writable here."""

    def __init__(self) -> None:
        self.arrays: dict[int, np.ndarray] = {}

    def note(self, function: Callable[..., Any], arguments: tuple) -> None:
        kept = tuple(a.view() if isinstance(a, np.ndarray) else a for a in arguments)
        self.arrays |= {id(owner): owner for a in kept if isinstance(a, np.ndarray) for owner in [_owner(a)]}
        if sum(a.nbytes for a in self.arrays.values()) > LARGEST:
            raise Unrecordable(f"it would keep more than {LARGEST >> 20} MB")
        self.append((function, kept))


_calls: ContextVar[Calls | None] = ContextVar("calls", default=None)


def noting() -> Calls | None:
    """The list that is being written in this context."""
    return _calls.get()


@contextlib.contextmanager
def written_down(calls: Calls) -> Iterator[None]:
    """Within this block, in this thread, calls are noted."""
    token = _calls.set(calls)
    try:
        yield
    finally:
        _calls.reset(token)


def run_op(forward: Callable[..., tuple], arrays: tuple, options: dict[str, Any] | None = None) -> tuple:
    """forward(*arrays, **options); noted as itself where it computes something new without a kernel."""
    calls, options = _calls.get(), options or {}
    if calls is None:
        return forward(*arrays, **options)
    before = len(calls)
    y, backward = forward(*arrays, **options)
    if len(calls) == before and not any(isinstance(a, np.ndarray) and np.may_share_memory(y, a) for a in arrays):
        calls.note(_again, (forward, options, np.asarray(y), *arrays))
    return y, backward


def _again(forward: Callable[..., tuple], options: dict[str, Any], y: np.ndarray, *arrays: Any) -> None:
    y[...] = forward(*arrays, **options)[0]


def _owner(a: np.ndarray) -> np.ndarray:
    """The array whose memory it is."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a
