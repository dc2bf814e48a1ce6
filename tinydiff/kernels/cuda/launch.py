"""How a kernel gets onto the GPU: what it takes, and the grid that covers the work."""

from typing import Any

import numpy as np
from numba.core import config

from tinydiff.device import array_module, simulated
from tinydiff.errors import InputError

Padding = tuple[int, int, int, int]
MOST = 1 << 31  # kernels count numbers in 32 bits
config.CUDA_ARRAY_INTERFACE_SYNC = 0  # CuPy's work goes to the same stream, in order: a launch need not wait for it
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a small feature map has few blocks, and that is all right


def as_float32(name: str, x: Any) -> Any:
    """x, contiguous: what a kernel reads.  Raises TypeError unless it is float32 and lies on the GPU."""
    if x.dtype != np.float32:
        raise TypeError(f'{name}: backend "cuda" computes in float32, not {x.dtype}')
    if x.size >= MOST:
        raise InputError(f'{name}: backend "cuda" takes arrays of less than 2³¹ numbers, not {x.size}: {x.shape}')
    xp = array_module(x)
    if xp is np and not simulated():
        raise TypeError(
            f'{name}: backend "cuda" works on CuPy arrays, not NumPy\'s; tinydiff.device.to_device moves one'
        )
    return xp.ascontiguousarray(x)


def launch(kernel: Any, grid: int | tuple[int, ...], threads: int, *arguments: Any) -> None:
    """Run `kernel` in blocks of so many threads; it is over when the GPU's next work begins."""
    if simulated():  # which writes all arrays back, read-only ones too
        arguments = tuple(a.copy() if isinstance(a, np.ndarray) and not a.flags.writeable else a for a in arguments)
    kernel[grid, threads](*arguments)


def blocks(work: int, size: int) -> int:
    """How many blocks of `size` cover so much work."""
    return -(-work // size)
