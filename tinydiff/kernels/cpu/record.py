"""A forward pass recorded and replayed: the same kernels on the same arrays, with nothing of Python between them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinydiff.kernels.cpu import jit
from tinydiff.kernels.recording import Unrecordable, recorder

LARGEST = 1 << 27  # bytes that a record may keep: its arrays stay where they are


class Calls(list[tuple[Callable[..., Any], tuple]]):
    """Functions with their arguments, in the order in which they ran."""

    def __init__(self) -> None:
        self.owners: dict[int, np.ndarray] = {}  # of the memory that the arguments lie in
        self.bytes = 0

    def note(self, function: Callable[..., Any], arguments: tuple) -> None:
        """Keep a call; an array that it writes stays writable here, whoever closes it later."""
        kept = tuple(a.view() if isinstance(a, np.ndarray) else a for a in arguments)
        for owner in (_owner(a) for a in kept if isinstance(a, np.ndarray)):
            self.bytes += 0 if id(owner) in self.owners else owner.nbytes
            self.owners[id(owner)] = owner
        if self.bytes > LARGEST:
            raise Unrecordable(f"it would keep more than {LARGEST >> 20} MB")
        self.append((function, kept))

    def run_op(self, forward: Callable[..., tuple], arrays: tuple, options: dict[str, Any]) -> tuple:
        """Run an op; one that calls no kernel and makes something new is kept itself."""
        before = len(self)
        y, backward = forward(*arrays, **options)
        if len(self) == before and not any(isinstance(a, np.ndarray) and np.may_share_memory(y, a) for a in arrays):
            self.note(_again, (forward, options, np.asarray(y), *arrays))
        return y, backward


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
    token = recorder.set(calls)
    try:
        y = work(*rooms)
    finally:
        recorder.reset(token)

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


def _again(forward: Callable[..., tuple], options: dict[str, Any], y: np.ndarray, *arrays: Any) -> None:
    y[...] = forward(*arrays, **options)[0]


def _owner(a: np.ndarray) -> np.ndarray:
    """The array whose memory it is."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


def _others(a: np.ndarray) -> np.ndarray:
    """Other numbers of the same kind, read-only: half of each, or for integers one less, but none below 0."""
    b = a * a.dtype.type(0.5) if a.dtype.kind == "f" else np.maximum(a - 1, 0)
    b.setflags(write=False)
    return b
