"""Scaled dot-product attention, one picture and head at a time, its products on the register tile.

q (N, L, D), k and v (N, M, D) hold their heads side by side in D; each task copies its own head out.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.conv import as_float32
from tinydiff.kernels.cpu.elementary import ONE, exp
from tinydiff.kernels.cpu.jit import helper, kernel
from tinydiff.kernels.cpu.product import multiply_block
from tinydiff.kernels.cpu.tile import ROWS, WIDTH


@helper
def rounded(n, multiple):  # type: ignore[no-untyped-def]
    return (n + multiple - 1) // multiple * multiple


@helper
def panels_of(x, out):  # type: ignore[no-untyped-def]
    """x (steps, columns) in panels (columns / WIDTH, steps, WIDTH)."""
    out[:] = np.float32(0)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j // WIDTH, i, j % WIDTH] = x[i, j]


@helper
def product(a, transpose, b_panels, rows, c):  # type: ignore[no-untyped-def]
    """c[:rows] = a·b, or aᵀ·b; a's rows (columns, if transposed) and c's rows have room for whole tiles."""
    if transpose:
        multiply_block(a.ctypes.data, 1, a.shape[1], rows, b_panels, c, False)
    else:
        multiply_block(a.ctypes.data, a.shape[1], 1, rows, b_panels, c, False)


@helper
def head_of(x, n, first, depth, out):  # type: ignore[no-untyped-def]
    for i in range(x.shape[1]):
        for d in range(depth):
            out[i, d] = x[n, i, first + d]


@kernel
def _forward(q, k, v, heads, p, y):  # type: ignore[no-untyped-def]
    n_images, length, width = q.shape
    memory, depth = k.shape[1], width // heads
    factor = ONE / np.sqrt(np.float32(depth))
    for task in prange(n_images * heads):
        n, first = task // heads, task % heads * depth
        qh = np.zeros((rounded(length, ROWS), depth), np.float32)
        head_of(q, n, first, depth, qh)
        key_panels = np.empty((rounded(memory, WIDTH) // WIDTH, depth, WIDTH), np.float32)
        panels_of(k[n, :, first : first + depth].T, key_panels)
        value_panels = np.empty((rounded(depth, WIDTH) // WIDTH, memory, WIDTH), np.float32)
        panels_of(v[n, :, first : first + depth], value_panels)
        scores = np.empty((rounded(length, ROWS), rounded(memory, WIDTH)), np.float32)
        product(qh, False, key_panels, length, scores)
        weights = np.zeros((rounded(length, ROWS), memory), np.float32)
        for i in range(length):
            largest = scores[i, 0]
            for j in range(memory):
                largest = max(largest, scores[i, j])
            for j in range(memory):
                weights[i, j] = exp((scores[i, j] - largest) * factor)
            total = np.float32(0)
            for j in range(memory):
                total += weights[i, j]
            for j in range(memory):
                weights[i, j] /= total
                p[n, task % heads, i, j] = weights[i, j]
        out = np.empty((rounded(length, ROWS), rounded(depth, WIDTH)), np.float32)
        product(weights, False, value_panels, length, out)
        for i in range(length):
            for d in range(depth):
                y[n, i, first + d] = out[i, d]


@kernel
def _backward(q, k, v, heads, p, dy, dq, dk, dv):  # type: ignore[no-untyped-def]
    n_images, length, width = q.shape
    memory, depth = k.shape[1], width // heads
    factor = ONE / np.sqrt(np.float32(depth))
    long_rows, memory_rows = rounded(length, ROWS), rounded(memory, ROWS)
    for task in prange(n_images * heads):
        n, first = task // heads, task % heads * depth
        dyh = np.zeros((long_rows, depth), np.float32)
        head_of(dy, n, first, depth, dyh)
        weights = np.zeros((length, memory_rows), np.float32)
        for i in range(length):
            for j in range(memory):
                weights[i, j] = p[n, task % heads, i, j]

        dy_panels = np.empty((rounded(depth, WIDTH) // WIDTH, length, WIDTH), np.float32)
        panels_of(dy[n, :, first : first + depth], dy_panels)
        out = np.empty((max(long_rows, memory_rows), rounded(depth, WIDTH)), np.float32)
        product(weights, True, dy_panels, memory, out)  # dv = pᵀ·dy
        for j in range(memory):
            for d in range(depth):
                dv[n, j, first + d] = out[j, d]

        value_panels = np.empty((rounded(memory, WIDTH) // WIDTH, depth, WIDTH), np.float32)
        panels_of(v[n, :, first : first + depth].T, value_panels)
        dp = np.empty((long_rows, rounded(memory, WIDTH)), np.float32)
        product(dyh, False, value_panels, length, dp)  # dp = dy·vᵀ
        ds = np.zeros((long_rows, memory_rows), np.float32)
        for i in range(length):
            inner = np.float32(0)
            for j in range(memory):
                inner += weights[i, j] * dp[i, j]
            for j in range(memory):
                ds[i, j] = weights[i, j] * (dp[i, j] - inner) * factor

        key_panels = np.empty((rounded(depth, WIDTH) // WIDTH, memory_rows, WIDTH), np.float32)
        panels_of(k[n, :, first : first + depth], key_panels)
        product(ds, False, key_panels, length, out)  # dq = ds·k
        for i in range(length):
            for d in range(depth):
                dq[n, i, first + d] = out[i, d]

        query_panels = np.empty((rounded(depth, WIDTH) // WIDTH, length, WIDTH), np.float32)
        panels_of(q[n, :, first : first + depth], query_panels)
        product(ds, True, query_panels, memory, out)  # dk = dsᵀ·q
        for j in range(memory):
            for d in range(depth):
                dk[n, j, first + d] = out[j, d]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """y (N, L, D) and the attention weights (N, heads, L, M)."""
    q, k, v = (as_float32("attention", a) for a in (q, k, v))
    y = np.empty_like(q)
    p = np.empty((q.shape[0], heads, q.shape[1], k.shape[1]), np.float32)
    _forward(q, k, v, heads, p, y)
    return y, p


def attention_backward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, p: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dq, dk, dv."""
    q, k, v, dy = (as_float32("attention", a) for a in (q, k, v, dy))
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    _backward(q, k, v, heads, p, dy, dq, dk, dv)
    return dq, dk, dv
