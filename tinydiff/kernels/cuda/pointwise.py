"""Max-pool and nearest ×2 on a GPU: a thread for each number that is written."""

from typing import Any

import numpy as np
from numba import cuda, float32

from tinydiff.device import array_module, simulated
from tinydiff.kernels.cuda.launch import as_float32, blocks, check_size, launch, uint32

THREADS = 16 if simulated() else 256


@cuda.jit(device=True)
def _place(number, height, width, channels):  # type: ignore[no-untyped-def]
    """Number `number` of an array (N, H, W, C) as n, i, j, c."""
    height, width, channels = uint32(height), uint32(width), uint32(channels)
    row = number // uint32(channels * width)
    return row // height, row % height, number // channels % width, number % channels


@cuda.jit
def _max_pool(x, size, y, argmax):  # type: ignore[no-untyped-def]
    number = uint32(cuda.grid(1))
    if number >= y.size:
        return
    n, i, j, c = _place(number, y.shape[1], y.shape[2], y.shape[3])
    best, place = x[n, i * size, j * size, c], 0
    for a in range(size):
        for b in range(size):
            value = x[n, i * size + a, j * size + b, c]
            if value > best or (value != value and best == best):  # NaN is the largest, as in NumPy
                best, place = value, a * size + b
    y[n, i, j, c] = best
    argmax[n, i, j, c] = place


@cuda.jit
def _max_pool_backward(dy, argmax, size, dx):  # type: ignore[no-untyped-def]
    number = uint32(cuda.grid(1))
    if number >= dx.size:
        return
    n, row, column, c = _place(number, dx.shape[1], dx.shape[2], dx.shape[3])
    i, j = row // size, column // size
    won = argmax[n, i, j, c] == row % size * size + column % size
    dx[n, row, column, c] = dy[n, i, j, c] if won else float32(0)


@cuda.jit
def _upsample(x, y):  # type: ignore[no-untyped-def]
    number = uint32(cuda.grid(1))
    if number < y.size:
        n, i, j, c = _place(number, y.shape[1], y.shape[2], y.shape[3])
        y[n, i, j, c] = x[n, i // 2, j // 2, c]


@cuda.jit
def _upsample_backward(dy, dx):  # type: ignore[no-untyped-def]
    number = uint32(cuda.grid(1))
    if number < dx.size:
        n, i, j, c = _place(number, dx.shape[1], dx.shape[2], dx.shape[3])
        above = dy[n, 2 * i, 2 * j, c] + dy[n, 2 * i, 2 * j + 1, c]
        dx[n, i, j, c] = above + dy[n, 2 * i + 1, 2 * j, c] + dy[n, 2 * i + 1, 2 * j + 1, c]


def max_pool2d_forward(x: Any, size: int) -> tuple[Any, Any]:
    """As `reference.max_pool2d_forward`, float32 on the GPU."""
    xp, (n, height, width, channels) = array_module(x), x.shape
    y = xp.empty((n, height // size, width // size, channels), np.float32)
    argmax = xp.empty(y.shape, np.int32)
    _over(y, _max_pool, as_float32("max_pool2d", x), size, y, argmax)
    return y, argmax


def max_pool2d_backward(dy: Any, argmax: Any, size: int) -> Any:
    """As `reference.max_pool2d_backward`."""
    n, out_h, out_w, channels = dy.shape
    check_size("max_pool2d", (n, out_h * size, out_w * size, channels))
    dx = array_module(dy).empty((n, out_h * size, out_w * size, channels), np.float32)
    _over(dx, _max_pool_backward, as_float32("max_pool2d", dy), argmax, size, dx)
    return dx


def upsample_nearest_forward(x: Any) -> Any:
    """As `reference.upsample_nearest_forward`."""
    n, height, width, channels = x.shape
    check_size("upsample_nearest", (n, 2 * height, 2 * width, channels))
    y = array_module(x).empty((n, 2 * height, 2 * width, channels), np.float32)
    _over(y, _upsample, as_float32("upsample_nearest", x), y)
    return y


def upsample_nearest_backward(dy: Any) -> Any:
    """As `reference.upsample_nearest_backward`."""
    n, height, width, channels = dy.shape
    dx = array_module(dy).empty((n, height // 2, width // 2, channels), np.float32)
    _over(dx, _upsample_backward, as_float32("upsample_nearest", dy), dx)
    return dx


def _over(written: Any, kernel: Any, *arguments: Any) -> None:
    launch(kernel, blocks(written.size, THREADS), THREADS, *arguments)
