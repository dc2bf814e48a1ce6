"""What the compiled kernels take and give: contiguous float32, read-only on the way in, aligned on the way out."""

import contextlib
import ctypes
import functools
import math
from collections import namedtuple

import numpy as np

from tinydiff.kernels.recording import recorder, run_op

LINE = 64  # bytes of a cache line
# Of a convolution: the size of its kernels, its stride, and the zeros above and to the left of an image.
Geometry = namedtuple("Geometry", "kernel_h kernel_w stride top left")


def as_float32(name: str, x: np.ndarray) -> np.ndarray:
    """x, contiguous and read-only: what a kernel reads.  Raises TypeError unless it is float32.

    Numba compiles one version for each combination of types, layouts and read-only flags, and may use any version
    that fits.  Two versions can round differently, so that results would depend on what was called before: hence one.
    """
    if x.dtype != np.float32:
        raise TypeError(f'{name}: backend "cpu" computes in float32, not {x.dtype}; use("numpy") takes any float type')
    flags = x.flags
    if flags.c_contiguous and not flags.writeable:  # as most come from the tape
        return x
    x = (x if flags.c_contiguous else run_op(contiguous, (x,))[0]).view()
    x.setflags(write=False)
    return x


def contiguous(x: np.ndarray) -> tuple[np.ndarray]:
    """A copy with its last axis' numbers side by side; in a tuple, as `run_op` has it."""
    return (np.ascontiguousarray(x),)


def empty(*shape: int) -> np.ndarray:
    """Room for float32 that begins at a whole cache line: elsewhere every vector of AVX-512 would touch two."""
    if (listening := recorder.get()) is not None:
        return listening.empty(shape)
    return np.ndarray(shape, np.float32, aligned_room(math.prod(shape)))


def aligned_room(count: int) -> np.ndarray:
    """So many float32 numbers from a whole cache line on."""
    room = np.empty(count + LINE // 4, np.float32)
    return np.ndarray(count, np.float32, room, -address_of(room) % LINE)


def address_of(x: np.ndarray) -> int:
    """Where a writable contiguous array begins, in bytes; NumPy's own ways to it take four times as long."""
    return ctypes.addressof(ctypes.c_char.from_buffer(x))  # type: ignore[arg-type]


_zeros = np.zeros(1 << 12, np.float32)


def zeros(count: int) -> np.ndarray:
    """At least `count` zeros, read-only, always the same ones: pixels outside an image, and the bias that is none."""
    global _zeros
    found = _zeros  # another thread may put fewer there
    if found.size < count:
        found = _zeros = np.zeros(2 * count, np.float32)
    return as_float32("zeros", found)


def free_memory() -> None:
    """Give freed memory back to the operating system after all, where the C library knows such a thing."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


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
