"""Group norm on a GPU, with or without SiLU after it: a block of threads for each image and group of channels.

The block reads its numbers three times, for the mean, for the variance and to write; sums are made by each thread over
every THREADS-th number, then in pairs in shared memory, so that their order is always one.  The scale's and the shift's
gradients are summed channel by channel, in PARTS shares of the positions.
"""

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from tinydiff.device import array_module, simulated
from tinydiff.kernels.cuda.launch import as_float32, blocks, launch, uint32
from tinydiff.kernels.cuda.product import add_parts

# Threads of a block, a power of two; shares of the positions, and channels in a block, of the scale's and shift's
# gradients.  Numba's simulator runs every thread in Python, so there they are fewer.
THREADS, PARTS, CHANNELS = (8, 3, 4) if simulated() else (128, 128, 32)


@cuda.jit(device=True)
def sum_of_all(value, room):  # type: ignore[no-untyped-def]
    """The sum of every thread's value, to all of them."""
    thread = cuda.threadIdx.x
    room[thread] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half:
            room[thread] += room[thread + half]
        cuda.syncthreads()
        half //= 2
    total = room[0]
    cuda.syncthreads()
    return total


@cuda.jit(device=True)
def _sigmoid(h):  # type: ignore[no-untyped-def]
    return float32(0.5) * math.tanh(float32(0.5) * h) + float32(0.5)


@cuda.jit
def _forward(x, scale, shift, eps, silu, y, mean, rstd):  # type: ignore[no-untyped-def]
    """x and y (N, P, C); mean and rstd (N, groups)."""
    n, g, thread = cuda.blockIdx.x, uint32(cuda.blockIdx.y), uint32(cuda.threadIdx.x)
    width = uint32(x.shape[2] // mean.shape[1])
    count = uint32(x.shape[1] * width)
    room = cuda.shared.array(THREADS, float32)
    total = float32(0)
    for e in range(thread, count, uint32(THREADS)):
        total += x[n, e // width, uint32(g * width + e % width)]
    m = sum_of_all(total, room) / float32(count)
    total = float32(0)
    for e in range(thread, count, uint32(THREADS)):
        d = x[n, e // width, uint32(g * width + e % width)] - m
        total += d * d
    r = float32(1) / math.sqrt(sum_of_all(total, room) / float32(count) + eps)
    for e in range(thread, count, uint32(THREADS)):
        p, c = e // width, uint32(g * width + e % width)
        h = (x[n, p, c] - m) * r * scale[c] + shift[c]
        y[n, p, c] = h * _sigmoid(h) if silu else h
    if thread == 0:
        mean[n, g], rstd[n, g] = m, r


@cuda.jit(device=True)
def _before_silu(h, dy, silu):  # type: ignore[no-untyped-def]
    """The gradient by h of y = h·σ(h), or of y = h."""
    if not silu:
        return dy
    s = _sigmoid(h)
    return dy * s * (float32(1) + h * (float32(1) - s))


@cuda.jit
def _backward(x, scale, shift, silu, mean, rstd, dy, dx):  # type: ignore[no-untyped-def]
    n, g, thread = cuda.blockIdx.x, uint32(cuda.blockIdx.y), uint32(cuda.threadIdx.x)
    width = uint32(x.shape[2] // mean.shape[1])
    count = uint32(x.shape[1] * width)
    m, r = mean[n, g], rstd[n, g]
    room = cuda.shared.array(THREADS, float32)
    first, second = float32(0), float32(0)
    for e in range(thread, count, uint32(THREADS)):
        p, c = e // width, uint32(g * width + e % width)
        xhat = (x[n, p, c] - m) * r
        d = _before_silu(xhat * scale[c] + shift[c], dy[n, p, c], silu) * scale[c]
        first += d
        second += d * xhat
    first = sum_of_all(first, room) / float32(count)
    second = sum_of_all(second, room) / float32(count)
    for e in range(thread, count, uint32(THREADS)):
        p, c = e // width, uint32(g * width + e % width)
        xhat = (x[n, p, c] - m) * r
        d = _before_silu(xhat * scale[c] + shift[c], dy[n, p, c], silu) * scale[c]
        dx[n, p, c] = r * (d - first - xhat * second)


@cuda.jit
def _scale_grad(x, scale, shift, silu, mean, rstd, dy, dscale, dshift):  # type: ignore[no-untyped-def]
    """dscale and dshift (PARTS, C): a thread sums one channel over a share of all images' positions."""
    part, c = cuda.blockIdx.x, cuda.blockIdx.y * CHANNELS + cuda.threadIdx.x
    n_images, positions, channels = x.shape
    if c >= channels:
        return
    g, total = c // (channels // mean.shape[1]), n_images * positions
    by_scale, by_shift = float32(0), float32(0)
    for e in range(uint32(part * total // PARTS), uint32((part + 1) * total // PARTS)):
        n, p = e // uint32(positions), e % uint32(positions)
        xhat = (x[n, p, c] - mean[n, g]) * rstd[n, g]
        d = _before_silu(xhat * scale[c] + shift[c], dy[n, p, c], silu)
        by_shift += d
        by_scale += d * xhat
    dscale[part, c], dshift[part, c] = by_scale, by_shift


def group_norm(x: Any, scale: Any, shift: Any, groups: int, eps: float, silu: bool) -> tuple[Any, tuple]:
    """y and what `group_norm_backward` needs; x (N, …, C), statistics over all but N and within a group of channels."""
    xp, n, channels = array_module(x), x.shape[0], x.shape[-1]
    rows = as_float32("group_norm", x).reshape(n, -1, channels)
    scale, shift = as_float32("group_norm", scale), as_float32("group_norm", shift)
    y, mean, rstd = (xp.empty(shape, np.float32) for shape in (rows.shape, (n, groups), (n, groups)))
    launch(_forward, (n, groups), THREADS, rows, scale, shift, np.float32(eps), silu, y, mean, rstd)
    return y.reshape(x.shape), (rows, scale, shift, silu, mean, rstd)


def group_norm_backward(dy: Any, saved: tuple) -> tuple[Any, Any, Any]:
    """dx, dscale, dshift."""
    rows, mean = saved[0], saved[4]
    xp, channels = array_module(rows), rows.shape[2]
    upstream, dx = as_float32("group_norm", dy).reshape(rows.shape), xp.empty(rows.shape, np.float32)
    launch(_backward, mean.shape, THREADS, *saved, upstream, dx)
    dscale, dshift = xp.empty((PARTS, channels), np.float32), xp.empty((PARTS, channels), np.float32)
    launch(_scale_grad, (PARTS, blocks(channels, CHANNELS)), CHANNELS, *saved, upstream, dscale, dshift)
    return dx.reshape(dy.shape), add_parts(dscale), add_parts(dshift)
