"""What a network runs, recorded once and replayed.

The tape finds out which kernels run on which arrays, and in the same place it finds the same each time.  So where a
backend can record, the list is kept and run again as it is: on the CPU call by call, on a GPU as one launch.  What is
computed, and in which order, is the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinydiff import kernels
from tinydiff.autograd import Array
from tinydiff.device import to_device_of

MOST = 4  # records that a Replay keeps


@dataclass
class _Record:
    memory: Sequence[Array]
    inputs: list[Array] = field(default_factory=list)
    outputs: Any = None
    refused: str | None = None  # why there is no record
    replay: Callable[[], None] | None = None  # computes the outputs again, in place, from what is in the inputs


class Replay:
    """`replay(work, memory, *arrays)` is `work(*arrays)`, recorded when it comes for the second time, then replayed.

    work: one for each Replay, however often it is made anew.  It must draw nothing at random and decide nothing by
        values: what changes from step to step comes in as arrays.
    memory: the arrays that it reads or changes besides, which must be the same ones for a record to hold.
    What comes back is overwritten by the next call.  `tinydiff.use(replay=False)` lets nothing be recorded.
    """

    def __init__(self, kernel: str = "record", most: int = MOST) -> None:
        self.kernel, self.most = kernel, most
        self._records: dict[tuple, _Record] = {}

    def __call__(self, work: Callable[..., Any], memory: Sequence[Array], *arrays: Array) -> Any:
        record = kernels.find_kernel(self.kernel, memory[0]) if memory else None
        if record is None or not kernels.replay_allowed():
            return work(*arrays)
        shapes = (kernels.winograd_allowed(), *((a.shape, a.dtype.str) for a in arrays))
        known = self._records.get(shapes)
        if known is None or not _same(known.memory, memory):
            self._records.pop(shapes, None)
            self._records[shapes] = _Record(memory)
            if len(self._records) > self.most:
                del self._records[next(iter(self._records))]  # the oldest
            return work(*arrays)
        if known.refused is None and known.replay is None:
            try:
                inputs = [to_device_of(a, memory[0]) for a in arrays]
                known.inputs, known.outputs, known.replay = record(work, inputs, memory)
            except kernels.Unrecordable as error:
                known.refused = str(error)
        if known.replay is None:
            return work(*arrays)
        for own, array in zip(known.inputs, arrays, strict=True):
            own[...] = to_device_of(array, own)
        known.replay()
        return known.outputs


def _same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    """Whether these are the very same arrays."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))
