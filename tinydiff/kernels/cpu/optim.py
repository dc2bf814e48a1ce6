"""AdamW with clipping and the moving average, in one pass over all parameters of a model.

A model has hundreds of arrays, most of them small, so that a call for each would cost more than its work.  A table of
addresses names them all, and the tasks are chunks of it.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import address_of, as_float32
from tinydiff.kernels.cpu.elementary import ONE
from tinydiff.kernels.cpu.jit import array_at, kernel
from tinydiff.kernels.cpu.vectors import dot_of

Arrays = Sequence[np.ndarray]
CHUNK = 1 << 14  # numbers in a task


@kernel
def _squares(addresses, chunks, sums):  # type: ignore[no-untyped-def]
    """The sum of squares of each chunk (array, first, count)."""
    for i in prange(chunks.shape[0]):
        at = addresses[chunks[i, 0]] + 4 * chunks[i, 1]
        sums[i] = dot_of(at, at, chunks[i, 2])


@kernel
def _adamw(addresses, chunks, decays, lr, beta1, beta2, eps, correct1, correct2, scale, ema):  # type: ignore[no-untyped-def]
    for task in prange(chunks.shape[0]):
        array, first, count = chunks[task, 0], chunks[task, 1], chunks[task, 2]
        p = array_at(addresses[0, array] + 4 * first, count)
        g = array_at(addresses[1, array] + 4 * first, count)
        m = array_at(addresses[2, array] + 4 * first, count)
        v = array_at(addresses[3, array] + 4 * first, count)
        average = array_at(addresses[4, array] + 4 * first, count)
        decay = decays[array]
        for i in range(count):
            gradient = g[i] * scale
            m[i] = beta1 * m[i] + (ONE - beta1) * gradient
            v[i] = beta2 * v[i] + (ONE - beta2) * gradient * gradient
            step = (m[i] * correct1) / (np.sqrt(v[i] * correct2) + eps)
            p[i] -= lr * (step + decay * p[i])
            average[i] += (ONE - ema) * (p[i] - average[i])


def square_sums(arrays: Arrays) -> np.ndarray:
    """Σ g² of each array, float64 (len(arrays),)."""
    arrays = [as_float32("square_sums", a) for a in arrays]
    chunks = _chunks(tuple(a.size for a in arrays))
    sums = np.empty(len(chunks), np.float32)
    _squares(np.array(_addresses(arrays), np.int64), chunks, sums)
    return np.bincount(chunks[:, 0], sums, len(arrays))  # in float64


def adamw(
    p: Arrays, g: Arrays, m: Arrays, v: Arrays, average: Arrays, decays: Sequence[float], settings: Sequence[float]
) -> None:
    """Each array of p, m, v and average in place, all contiguous; `settings` as `training.optim` names them."""
    g = [as_float32("adamw", a) for a in g]
    table = np.array([_addresses(arrays) for arrays in (p, g, m, v, average)], np.int64)
    _adamw(table, _chunks(tuple(a.size for a in g)), np.array(decays, np.float32), *(np.float32(s) for s in settings))


def _addresses(arrays: Arrays) -> list[int]:
    return [address_of(a) if a.flags.writeable else a.__array_interface__["data"][0] for a in arrays]


@functools.cache
def _chunks(sizes: tuple[int, ...]) -> np.ndarray:
    """(array, first number, count) of each task."""
    rows = [(i, first, min(CHUNK, size - first)) for i, size in enumerate(sizes) for first in range(0, size, CHUNK)]
    return np.array(rows, np.int64).reshape(-1, 3)
