"""Attention on a GPU: products of `product.py`, and one kernel for the softmax and one for its gradient.

s = q·kᵀ / √d      p = softmax(s)      y = p·v
dv = pᵀ·dy      ds = p·(dy·vᵀ − Σ p·(dy·vᵀ)) / √d      dq = ds·k      dk = dsᵀ·q
"""

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from tinydiff.device import array_module
from tinydiff.kernels.cuda.launch import as_float32, launch
from tinydiff.kernels.cuda.norm import THREADS, sum_of_all
from tinydiff.kernels.cuda.product import product


@cuda.jit
def _softmax(s):  # type: ignore[no-untyped-def]
    """Each row of s (rows, M) in place, by a block of threads; the largest exponent is 0: nothing overflows."""
    row, thread, width = cuda.blockIdx.x, cuda.threadIdx.x, s.shape[1]
    room = cuda.shared.array(THREADS, float32)
    largest = float32(-math.inf)
    for j in range(thread, width, THREADS):
        largest = s[row, j] if s[row, j] > largest else largest
    room[thread] = largest
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half and room[thread + half] > room[thread]:
            room[thread] = room[thread + half]
        cuda.syncthreads()
        half //= 2
    largest = room[0]
    cuda.syncthreads()
    total = float32(0)
    for j in range(thread, width, THREADS):
        s[row, j] = math.exp(s[row, j] - largest)
        total += s[row, j]
    total = sum_of_all(total, room)
    for j in range(thread, width, THREADS):
        s[row, j] /= total


@cuda.jit
def _softmax_backward(p, dp, factor):  # type: ignore[no-untyped-def]
    """dp becomes ds = factor · p·(dp − Σ p·dp); both (rows, M)."""
    row, thread, width = cuda.blockIdx.x, cuda.threadIdx.x, p.shape[1]
    room = cuda.shared.array(THREADS, float32)
    total = float32(0)
    for j in range(thread, width, THREADS):
        total += p[row, j] * dp[row, j]
    total = sum_of_all(total, room)
    for j in range(thread, width, THREADS):
        dp[row, j] = factor * p[row, j] * (dp[row, j] - total)


def attention(q: Any, k: Any, v: Any, heads: int) -> tuple[Any, Any]:
    """y (N, L, D), and p (N, heads, L, M) for the backward; q (N, L, D), k and v (N, M, D)."""
    q, k, v = (_split(as_float32("attention", x), heads) for x in (q, k, v))
    p = product(q, k, factor=1 / math.sqrt(q.shape[3]))
    rows = p.reshape(-1, p.shape[3])
    launch(_softmax, len(rows), THREADS, rows)
    return _join(product(p, v.swapaxes(2, 3))), p


def attention_backward(q: Any, k: Any, v: Any, heads: int, saved: Any, y: Any, dy: Any) -> tuple[Any, Any, Any]:
    """dq, dk and dv; `saved` is the p that `attention` gave along with y."""
    p = saved
    q, k, v, dy = (_split(as_float32("attention", x), heads) for x in (q, k, v, dy))
    ds = product(dy, v)
    rows = ds.reshape(-1, ds.shape[3])
    launch(_softmax_backward, len(rows), THREADS, p.reshape(rows.shape), rows, np.float32(1 / math.sqrt(q.shape[3])))
    dq = product(ds, k.swapaxes(2, 3))
    dk = product(ds.swapaxes(2, 3), q.swapaxes(2, 3))
    return _join(dq), _join(dk), _join(product(p.swapaxes(2, 3), dy.swapaxes(2, 3)))


def _split(x: Any, heads: int) -> Any:
    """(N, L, D) → (N, heads, L, d), a view."""
    n, length, width = x.shape
    return x.reshape(n, length, heads, width // heads).transpose(0, 2, 1, 3)


def _join(x: Any) -> Any:
    """And back, contiguous."""
    n, heads, length, width = x.shape
    return array_module(x).ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(n, length, heads * width)
