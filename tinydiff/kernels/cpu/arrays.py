"""What the compiled kernels take and give: contiguous float32, read-only on the way in, aligned on the way out."""

from __future__ import annotations

import math

import numpy as np

LINE = 64  # bytes of a cache line


def as_float32(name: str, x: np.ndarray) -> np.ndarray:
    """x, contiguous and read-only: what a kernel reads.  Raises TypeError unless it is float32.

    Numba compiles one version for each combination of types, layouts and read-only flags, and may use any version
    that fits.  Two versions can round differently, so that results would depend on what was called before: hence one.
    """
    if x.dtype != np.float32:
        raise TypeError(f'{name}: backend "cpu" computes in float32, not {x.dtype}; use("numpy") takes any float type')
    x = np.ascontiguousarray(x).view()
    x.setflags(write=False)
    return x


def empty(*shape: int) -> np.ndarray:
    """Room for float32 that begins at a whole cache line: elsewhere every vector of AVX-512 would touch two."""
    size = math.prod(shape)
    room = np.empty(size + LINE // 4, np.float32)
    first = -room.__array_interface__["data"][0] % LINE // 4
    return room[first : first + size].reshape(shape)


_zeros = np.zeros(1 << 12, np.float32)


def zeros(count: int) -> np.ndarray:
    """At least `count` zeros, read-only, always the same ones: pixels outside a picture, and the bias that is none."""
    global _zeros
    if _zeros.size < count:
        _zeros = np.zeros(2 * count, np.float32)
    return as_float32("zeros", _zeros)
