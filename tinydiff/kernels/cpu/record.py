"""What a network runs, recorded and replayed: the same kernels on the same arrays, with nothing of Python between them.

An op or a backward that calls no kernel is kept as it is and called again.  A record's memory is planned by Python's
own counting of references: an array that nobody holds any more while the record is made leaves its room to the next
one, in every replay as well.
"""

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinydiff.kernels.cpu import jit
from tinydiff.kernels.cpu.arrays import free_memory
from tinydiff.kernels.cpu.rooms import Rooms
from tinydiff.kernels.recording import Unrecordable, recorder

LARGEST = 1 << 27  # bytes that the record of a forward pass may keep


class Calls(list[tuple[Callable[..., Any], tuple]]):
    """Functions with their arguments, in the order in which they ran."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms, self.empty = rooms, rooms.empty

    def note(self, function: Callable[..., Any], arguments: tuple) -> None:
        """Keep a call."""
        self.append((function, tuple(self._kept(a) if isinstance(a, np.ndarray) else a for a in arguments)))

    def _kept(self, a: np.ndarray) -> Any:
        """The array as a record keeps it: what can be written stays so here, whoever closes it later."""
        return self.rooms.view(a) if self.rooms.has(a) else a.view()

    def run_op(self, function: Callable[..., Sequence], arrays: tuple, options: dict[str, Any]) -> Sequence:
        """function(*arrays, **options); where it calls no kernel and makes something new, it is kept itself.

        A backward among its results is replaced by one that calls what it gave last.
        """
        before = len(self)
        results = function(*arrays, **options)
        given = [a for a in arrays if isinstance(a, np.ndarray)]
        new = [not (r is None or callable(r) or any(np.may_share_memory(r, a) for a in given)) for r in results]
        if len(self) > before or not any(new):
            return results
        own = [_writable(r) if is_new else r for r, is_new in zip(results, new, strict=True)]
        last = [self._kept(r) if is_new else r if callable(r) else None for r, is_new in zip(own, new, strict=True)]
        self.note(_again, (function, options, last, *arrays))
        return tuple(_latest(last, i) if callable(r) else r for i, r in enumerate(own))


def _again(function: Callable[..., Sequence], options: dict[str, Any], last: list, *arrays: Any) -> None:
    """Call it again: what it makes goes into the arrays that it made first."""
    for i, result in enumerate(function(*arrays, **options)):
        if isinstance(last[i], np.ndarray):
            last[i][...] = result
        elif last[i] is not None:
            last[i] = result


def _latest(last: list, i: int) -> Callable[..., Any]:
    return lambda *arguments: last[i](*arguments)


def _writable(result: Any) -> np.ndarray:
    """A number as an array, and an array that stands for more numbers than it has as one that has them."""
    a = np.asarray(result)
    return a if a.flags.writeable else a.copy()


def record(
    work: Callable[..., np.ndarray], inputs: Sequence[np.ndarray], memory: Sequence[np.ndarray]
) -> tuple[list, Any, Callable[[], None]]:
    """Where work(*inputs) finds its inputs and leaves its results, and the function that computes one from the other.

    The arrays in `memory`, the weights, must stay as they are.
    Raises Unrecordable where a replay with other inputs does not give what work gives, since something that depends on
    them is neither a kernel nor an op without kernels; or where the arrays would take too much memory.
    """
    return _recorded(work, inputs, [], LARGEST)


def record_step(
    work: Callable[..., Any], inputs: Sequence[np.ndarray], memory: Sequence[np.ndarray]
) -> tuple[list, Any, Callable[[], None]]:
    """The same of a step of training, where the weights, `memory`, change from replay to replay: so they are tried too.

    It keeps as many bytes as the step takes anyway.
    """
    return _recorded(work, inputs, memory, math.inf)


def _recorded(
    work: Callable[..., Any], inputs: Sequence[np.ndarray], changing: Sequence[np.ndarray], largest: float
) -> tuple[list, Any, Callable[[], None]]:
    tried = Rooms()
    with _changed(changing):
        expected = _digests(_noted(Calls(tried), work, [_other(a) for a in inputs]))
    free_memory()  # else what was tried would take as much again, beside the record
    rooms = Rooms(tried)
    if rooms.bytes > largest:
        raise Unrecordable(f"it would keep more than {LARGEST >> 20} MB")
    copies = [np.array(a) for a in inputs]
    own = [a.view() for a in copies]  # writable, where the copies are not: what cannot change is not copied again
    calls = Calls(rooms)
    results = _noted(calls, work, copies)

    def replay() -> None:
        alone = jit.alone()
        for function, arguments in calls:
            with alone:  # each by itself: a step takes long, and other threads have kernels, too
                function(*arguments)

    for a, b in zip(own, inputs, strict=True):
        a[...] = _other(b)
    with _changed(changing):
        replay()
    if _digests(results) != expected:
        raise Unrecordable("replayed with other numbers it gives something else")
    return own, results, replay


def _noted(calls: Calls, work: Callable[..., Any], inputs: Sequence[np.ndarray]) -> Any:
    """What work gives for these inputs, while what runs is kept in `calls`."""
    for a in inputs:
        a.setflags(write=False)
    token = recorder.set(calls)
    try:
        return work(*inputs)
    finally:
        recorder.reset(token)


@contextlib.contextmanager
def _changed(arrays: Sequence[np.ndarray]) -> Iterator[None]:
    """Within this block the arrays hold other numbers, and what they held after it."""
    try:
        for a in arrays:
            a.setflags(write=True)
    except ValueError as error:  # it lies in a file, for instance
        raise Unrecordable(f"a weight cannot change: {error}") from None
    before = [a.copy() for a in arrays]
    try:
        for a in arrays:
            a[...] = _other(a)
        yield
    finally:
        for a, old in zip(arrays, before, strict=True):
            a[...] = old
            a.setflags(write=False)


def _other(a: np.ndarray) -> np.ndarray:
    """Other numbers of the same kind: of integers one less, but none below 0, and else half of each and a little more,
    so that no 0 hides what lies behind it.
    """
    if a.dtype.kind != "f":
        return np.maximum(a - 1, 0)
    little = np.cos(np.arange(a.size, dtype=a.dtype)).reshape(a.shape)
    return a * a.dtype.type(0.5) + little * a.dtype.type(0.01)


def _digests(results: Any) -> list[bytes]:
    """Of all arrays among nested results, so that none has to be kept to be compared."""
    if isinstance(results, (list, tuple)):
        return [digest for part in results for digest in _digests(part)]
    return [] if results is None else [hashlib.sha256(np.ascontiguousarray(results).data).digest()]
