"""Where the arrays of a record lie: two that are never needed at the same time may share their room.

What runs is run twice.  The first time every array has memory of its own, and Python's counting of references says
when each begins and ends; then all are placed in one block, the largest first, each as low as it can lie; the second
time they lie there.
"""

import math
import weakref
from dataclasses import dataclass

import numpy as np

from tinydiff.kernels.cpu.arrays import LINE, address_of, aligned_room
from tinydiff.kernels.recording import Unrecordable

FOREVER = 1 << 62


@dataclass
class Life:
    """An array's: how many numbers, the first moment, and the one after the last; a moment is an array's beginning."""

    size: int
    begin: int
    end: int


def placed(lives: list[Life]) -> list[int]:
    """Where each array begins in a block of numbers, so that no two that live at the same moment overlap."""
    begins, ends, sizes = (np.array([getattr(life, what) for life in lives]) for what in ("begin", "end", "size"))
    places = np.full(len(lives), -1)
    for i in np.argsort(-sizes, kind="stable"):
        beside = np.flatnonzero((places >= 0) & (begins < ends[i]) & (begins[i] < ends))
        place = 0
        for other in beside[np.argsort(places[beside], kind="stable")]:
            if place + sizes[i] <= places[other]:
                break
            place = max(place, places[other] + sizes[other])
        places[i] = place
    return places.tolist()


class Rooms:
    """Room for float32 arrays, one after the other: each by itself the first time, then in one block.

    Raises Unrecordable where the second time is not like the first.
    """

    def __init__(self, first: "Rooms | None" = None) -> None:
        self._lives: list[Life] = []
        self._alive: dict[int, int] = {}  # the number of an array, by the owner that all its views lead to
        self._expected = first and first._lives
        self._places = placed(first._lives) if first else []
        ends = (place + life.size for place, life in zip(self._places, self._expected or [], strict=True))
        self._block = aligned_room(max(ends, default=0))
        self.bytes = self._block.nbytes

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """As `arrays.empty`."""
        i, size = len(self._lives), -(-math.prod(shape) * 4 // LINE) * LINE // 4
        room = aligned_room(size) if self._expected is None else self._place(i, size)
        owner = np.frombuffer(room.data, np.float32)  # a view's own `base` ends there
        self._lives.append(Life(size, i, FOREVER))
        self._alive[id(owner)] = i
        weakref.finalize(owner, self._end, id(owner)).atexit = False
        return np.ndarray(shape, np.float32, owner)

    def _place(self, i: int, size: int) -> np.ndarray:
        places, expected = self._places, self._expected or []
        if i >= len(places) or expected[i].size != size:
            raise Unrecordable("its arrays are not the same each time")
        begin = places[i]
        if any(begin < places[j] + expected[j].size and places[j] < begin + size for j in self._alive.values()):
            raise Unrecordable("its arrays do not end at the same time each time")
        return self._block[begin : begin + size]

    def _end(self, owner: int) -> None:
        self._lives[self._alive.pop(owner)].end = len(self._lives)

    def has(self, a: np.ndarray) -> bool:
        """Whether an array lies here."""
        return id(owner_of(a)) in self._alive

    def view(self, a: np.ndarray) -> np.ndarray | None:
        """An array's numbers without a hold on their room; None the first time, when there is no block."""
        if self._expected is None:
            return None
        offset = a.__array_interface__["data"][0] - address_of(self._block)
        view = np.ndarray(a.shape, a.dtype, self._block, offset, a.strides)
        view.setflags(write=a.flags.writeable)
        return view


def owner_of(a: np.ndarray) -> np.ndarray:
    """The array whose memory it is."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a
