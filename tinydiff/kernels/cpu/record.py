"""A forward pass recorded and replayed: the same kernels on the same arrays, with nothing of Python between them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinydiff.kernels.cpu import jit
from tinydiff.kernels.recording import Calls, Unrecordable, written_down


def record(work: Callable[..., np.ndarray], inputs: Sequence[np.ndarray]) -> tuple[list, Any, Callable[[], None]]:
    """Where work(*inputs) finds its inputs and leaves its result, and the function that computes one from the other.

    Raises Unrecordable where a replay with other inputs does not give what work gives, since something that depends on
    them is neither a kernel nor an op without kernels; or where the arrays would take too much memory.
    """
    calls = Calls()
    rooms = [np.array(a) for a in inputs]
    own = [room.view() for room in rooms]  # writable, where the rooms are not: what cannot change is not copied
    for room in rooms:
        room.setflags(write=False)
    with written_down(calls):
        y = work(*rooms)

    def replay() -> None:
        with jit.alone():
            for function, arguments in calls:
                function(*arguments)

    for room, a in zip(own, inputs, strict=True):
        room[...] = _others(a)
    replay()
    if not np.array_equal(y, work(*(_others(a) for a in inputs)), equal_nan=True):
        raise Unrecordable("replayed with other inputs it gives something else")
    return own, y, replay


def _others(a: np.ndarray) -> np.ndarray:
    """Other numbers of the same kind, read-only: smaller ones, and integers no larger and not below 0."""
    b = a * a.dtype.type(0.5) if a.dtype.kind == "f" else np.maximum(a - 1, 0)
    b.setflags(write=False)
    return b
