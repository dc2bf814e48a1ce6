"""How a kernel gets onto the GPU: what it takes, and the grid that covers the work."""

import ctypes
import functools
import math
import threading
from typing import Any

import numba
import numpy as np
from numba import boolean, float32, float64, int32
from numba.core import config
from numba.core.types import Array

from tinydiff.device import array_module, simulated
from tinydiff.errors import InputError

Padding = tuple[int, int, int, int]
MOST = 1 << 31  # kernels count numbers in 32 bits
uint32: Any = int if simulated() else numba.uint32  # in the simulator a number is a number, and one of NumPy's slow
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a small feature map has few blocks, and that is all right


def as_float32(name: str, x: Any) -> Any:
    """x, contiguous: what a kernel reads.  Raises TypeError unless it is float32 and lies on the GPU."""
    if x.dtype != np.float32:
        raise TypeError(f'{name}: backend "cuda" computes in float32, not {x.dtype}')
    check_size(name, x.shape)
    xp = array_module(x)
    if xp is np and not simulated():
        raise TypeError(
            f'{name}: backend "cuda" works on CuPy arrays, not NumPy\'s; tinydiff.device.to_device moves one'
        )
    return xp.ascontiguousarray(x)


def check_size(name: str, shape: tuple[int, ...]) -> None:
    """Raises InputError for an array with more numbers than a kernel can count, one that it reads or one it writes."""
    if (size := math.prod(shape)) >= MOST:
        raise InputError(f'{name}: backend "cuda" takes arrays of less than 2³¹ numbers, not {size}: {shape}')


def launch(kernel: Any, grid: int | tuple[int, ...], threads: int, *arguments: Any) -> None:
    """Run `kernel` in blocks of so many threads on CuPy's stream; it is over when that stream's next work begins.

    Numba's own call takes 65 µs, most of it to find out what each array is; this one hands the driver what Numba's
    kernels take, 8 bytes each: of an array two unused ones, its size, its numbers' size, its address, shape, strides.
    """
    if simulated():  # which writes all arrays back, read-only ones too, and takes no strided ones
        kernel[grid, threads](*(a if _may_be_written(a) else np.array(a, order="C") for a in arguments))
        return
    import cupy
    from cuda.bindings import driver

    kinds: list[Any] = []
    words: list[int] = []
    for a in arguments:
        if isinstance(a, cupy.ndarray):
            kinds.append((a.dtype.char, a.ndim, a.flags.c_contiguous))
            words += (0, 0, a.size, a.itemsize, a.data.ptr, *a.shape, *a.strides)
        else:
            kinds.append(type(a))
            words.append(int(a.view(np.int32)) if isinstance(a, np.float32) else a)
    values, addresses = _room(len(words))
    values[:] = words
    x, y, z = (*grid, 1, 1)[:3] if isinstance(grid, tuple) else (grid, 1, 1)
    stream, function = cupy.cuda.get_current_stream().ptr, _compiled(kernel, tuple(kinds))
    (status,) = driver.cuLaunchKernel(function, x, y, z, threads, 1, 1, 0, stream, ctypes.addressof(addresses), 0)
    if status != driver.CUresult.CUDA_SUCCESS:
        name = kernel.py_func.__name__
        raise RuntimeError(f"the GPU refused {name}: {status.name}, grid {grid} of {threads} threads")


def _may_be_written(a: Any) -> bool:
    return not isinstance(a, np.ndarray) or (a.flags.writeable and a.flags.c_contiguous)


def _room(count: int) -> tuple[Any, Any]:
    """Room for so many words, and the addresses of each; the thread's own, since the driver copies them at a launch."""
    rooms: dict[int, tuple[Any, Any]] = vars(_thread).setdefault("rooms", {})
    if count not in rooms:
        values = (ctypes.c_int64 * count)()
        first = ctypes.addressof(values)
        rooms[count] = values, (ctypes.c_void_p * count)(*range(first, first + 8 * count, 8))
    return rooms[count]


_thread = threading.local()
_TYPES: dict[Any, Any] = {"f": float32, "d": float64, "i": int32, bool: boolean, int: int32, np.float32: float32}


@functools.cache
def _compiled(kernel: Any, kinds: tuple) -> Any:
    """The driver's function of the kernel for arguments of these kinds: arrays, or numbers."""
    from cuda.bindings import driver

    types = tuple(
        Array(_TYPES[kind[0]], kind[1], "C" if kind[2] else "A") if isinstance(kind, tuple) else _TYPES[kind]
        for kind in kinds
    )
    return driver.CUfunction(int(kernel.compile(types)._codelibrary.get_cufunc().kernel.handle))


def blocks(work: int, size: int) -> int:
    """How many blocks of `size` cover so much work."""
    return -(-work // size)
