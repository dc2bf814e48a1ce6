"""AdamW on a GPU: a parameter's whole update in one launch, each number read and written once."""

import math
from typing import Any

import numpy as np
from numba import cuda, float32, float64

from tinydiff.device import array_module, to_device_of
from tinydiff.kernels.cuda.launch import as_float32, blocks, launch
from tinydiff.kernels.cuda.norm import THREADS, sum_of_all

SHARES = 32  # blocks that sum an array's squares


@cuda.jit
def _adamw(p, g, m, v, ema, decay, u):  # type: ignore[no-untyped-def]
    i = cuda.grid(1)
    if i >= p.size:
        return
    lr, beta1, beta2, eps = float32(u[0]), float32(u[1]), float32(u[2]), float32(u[3])
    correct1, correct2, scale, ema_decay = float32(u[4]), float32(u[5]), float32(u[6]), float32(u[7])
    one, gradient, weight = float32(1), g[i] * scale, p[i]
    first = m[i] + (one - beta1) * (gradient - m[i])
    second = v[i] + (one - beta2) * (gradient * gradient - v[i])
    weight -= lr * (first * correct1 / (math.sqrt(second * correct2) + eps) + decay * weight)
    m[i], v[i], p[i] = first, second, weight
    ema[i] += (one - ema_decay) * (weight - ema[i])


@cuda.jit
def _square_sum(a, first, sums):  # type: ignore[no-untyped-def]
    """sums[share] = Σ a² of a share of the numbers, float64; a block of threads for each."""
    thread, share = cuda.threadIdx.x, cuda.blockIdx.x
    room = cuda.shared.array(THREADS, float64)
    total = float64(0)
    for i in range(share * THREADS + thread, a.size, SHARES * THREADS):
        total += float64(a[i]) * float64(a[i])
    total = sum_of_all(total, room)
    if thread == 0:
        sums[first + share] = total


def square_sums(arrays: list) -> Any:
    """Σ g² of each array, float64 (len(arrays),)."""
    xp = array_module(arrays[0])
    sums = xp.empty(len(arrays) * SHARES, np.float64)
    for i, array in enumerate(arrays):
        launch(_square_sum, SHARES, THREADS, as_float32("square_sums", array).reshape(-1), i * SHARES, sums)
    return sums.reshape(-1, SHARES).sum(1)


def adamw(p: list, g: list, m: list, v: list, average: list, decays: list[float], settings: Any) -> None:
    """As `training.optim.adamw_step`; a recorded step finds the numbers of its Update in GPU memory."""
    u = to_device_of(np.asarray(settings, np.float64) if isinstance(settings, tuple) else settings, p[0])
    for *arrays, decay in zip(p, g, m, v, average, decays, strict=True):
        flat: list[Any] = [array.reshape(-1) for array in arrays]
        launch(_adamw, blocks(flat[0].size, THREADS), THREADS, *flat, np.float32(decay), u)
