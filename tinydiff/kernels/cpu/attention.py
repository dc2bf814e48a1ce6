"""Scaled dot-product attention, one picture and head at a time, its products on the register tile.

q (N, L, D), k and v (N, M, D) hold their heads side by side in D.  A block of queries meets all keys at once; the
matrix of all weights (L, M) never exists.  The forward keeps one number for each query, the logarithm of its row's sum
of exponentials, and the backward makes the weights again from it.  (Dao 2022, arXiv:2205.14135)
"""

from __future__ import annotations

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import as_float32
from tinydiff.kernels.cpu.elementary import ONE, exp
from tinydiff.kernels.cpu.jit import helper, kernel
from tinydiff.kernels.cpu.product import multiply, multiply_transposed, plan_rows, plan_steps, rounded
from tinydiff.kernels.cpu.tile import ROWS, WIDTH
from tinydiff.kernels.cpu.vectors import LANES, max_of, sum_of

BLOCK = 4 * ROWS  # queries at a time


@helper
def _panels(x, n, first, depth):  # type: ignore[no-untyped-def]
    """One head of x, b = (positions, depth), in panels."""
    panels = np.zeros((rounded(depth, WIDTH) // WIDTH, x.shape[1], WIDTH), np.float32)
    for i in range(x.shape[1]):
        for d in range(depth):
            panels[d // WIDTH, i, d % WIDTH] = x[n, i, first + d]
    return panels


@helper
def _panels_transposed(x, n, first, depth):  # type: ignore[no-untyped-def]
    """One head of x transposed, b = (depth, positions), in panels."""
    panels = np.zeros((rounded(x.shape[1], WIDTH) // WIDTH, depth, WIDTH), np.float32)
    for i in range(x.shape[1]):
        for d in range(depth):
            panels[i // WIDTH, d, i % WIDTH] = x[n, i, first + d]
    return panels


@helper
def _product(a, row, rows, steps, panels, columns, zeros, c):  # type: ignore[no-untyped-def]
    """c[:rows] = a·b, where a's rows are `row` numbers apart and begin at the address a."""
    plan = plan_rows(a, 4 * row, rows)
    b, start = panels.ctypes.data, zeros.ctypes.data
    multiply(plan, 0, steps, b, panels.shape[1], start, rows, columns, c.ctypes.data, c.shape[1])
    return panels[0, 0, 0]  # so that the panels live until here


@helper
def _add_transposed(a, b, rows, columns, c):  # type: ignore[no-untyped-def]
    """c[:rows] += aᵀ·b for matrices a (steps, ≥ rows) and b, a panel for every WIDTH columns."""
    plan = plan_steps(a.ctypes.data, 4 * a.shape[1], b.shape[1])
    where, b_address = c.ctypes.data, b.ctypes.data
    multiply_transposed(plan, b.shape[1], 0, b_address, b.shape[1], rows, columns, where, c.shape[1])
    return a[0, 0] + b[0, 0, 0]  # so that both live until here


@kernel
def _forward(q, k, v, heads, zeros, lse, y):  # type: ignore[no-untyped-def]
    n_images, length, width = q.shape
    memory, depth = k.shape[1], width // heads
    factor = ONE / np.sqrt(np.float32(depth))
    for task in prange(n_images * heads):
        n, head = task // heads, task % heads
        first = head * depth
        keys, values = _panels_transposed(k, n, first, depth), _panels(v, n, first, depth)
        weights = np.empty((BLOCK, rounded(memory, LANES)), np.float32)
        out = np.empty((BLOCK, rounded(depth, LANES)), np.float32)
        for begin in range(0, length, BLOCK):
            rows = min(BLOCK, length - begin)
            address = q.ctypes.data + 4 * ((n * length + begin) * width + first)
            _product(address, width, rows, depth, keys, memory, zeros, weights)
            for i in range(rows):
                largest = max_of(weights[i].ctypes.data, memory)
                for j in range(memory):
                    weights[i, j] = exp((weights[i, j] - largest) * factor)
                total = sum_of(weights[i].ctypes.data, memory)
                lse[n, head, begin + i] = largest * factor + np.log(total)
                for j in range(memory):
                    weights[i, j] /= total
            _product(weights.ctypes.data, weights.shape[1], rows, memory, values, depth, zeros, out)
            for i in range(rows):
                for d in range(depth):
                    y[n, begin + i, first + d] = out[i, d]
        weights[0, 0] = out[0, 0]


@kernel
def _backward(q, k, v, heads, zeros, lse, y, dy, dq, dk, dv):  # type: ignore[no-untyped-def]
    n_images, length, width = q.shape
    memory, depth = k.shape[1], width // heads
    factor = ONE / np.sqrt(np.float32(depth))
    for task in prange(n_images * heads):
        n, head = task // heads, task % heads
        first = head * depth
        keys_transposed, keys = _panels_transposed(k, n, first, depth), _panels(k, n, first, depth)
        values_transposed = _panels_transposed(v, n, first, depth)
        p = np.empty((BLOCK, rounded(memory, LANES)), np.float32)
        ds = np.empty((BLOCK, rounded(memory, LANES)), np.float32)
        out = np.empty((BLOCK, rounded(depth, LANES)), np.float32)
        dk_sum = np.zeros((memory, rounded(depth, LANES)), np.float32)
        dv_sum = np.zeros((memory, rounded(depth, LANES)), np.float32)
        for begin in range(0, length, BLOCK):
            rows = min(BLOCK, length - begin)
            at = 4 * ((n * length + begin) * width + first)
            _product(q.ctypes.data + at, width, rows, depth, keys_transposed, memory, zeros, p)
            _product(dy.ctypes.data + at, width, rows, depth, values_transposed, memory, zeros, ds)  # dp = dy·vᵀ
            for i in range(rows):
                inner, row_lse = np.float32(0), lse[n, head, begin + i]
                for d in range(depth):
                    inner += dy[n, begin + i, first + d] * y[n, begin + i, first + d]  # = Σ p·dp
                for j in range(memory):
                    p[i, j] = exp(p[i, j] * factor - row_lse)
                    ds[i, j] = p[i, j] * (ds[i, j] - inner) * factor
            _product(ds.ctypes.data, ds.shape[1], rows, memory, keys, depth, zeros, out)  # dq = ds·k
            for i in range(rows):
                for d in range(depth):
                    dq[n, begin + i, first + d] = out[i, d]
            _add_transposed(p, _panels(dy[:, begin : begin + rows], n, first, depth), memory, depth, dv_sum)
            _add_transposed(ds, _panels(q[:, begin : begin + rows], n, first, depth), memory, depth, dk_sum)
        for j in range(memory):
            for d in range(depth):
                dk[n, j, first + d], dv[n, j, first + d] = dk_sum[j, d], dv_sum[j, d]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """y (N, L, D), and the logarithms of the sums (N, heads, L) that the backward needs."""
    q, k, v = (as_float32("attention", a) for a in (q, k, v))
    y, lse = np.empty_like(q), np.empty((q.shape[0], heads, q.shape[1]), np.float32)
    _forward(q, k, v, heads, _zeros(k), lse, y)
    return y, lse


def attention_backward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, lse: np.ndarray, y: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dq, dk, dv."""
    q, k, v, lse, y, dy = (as_float32("attention", a) for a in (q, k, v, lse, y, dy))
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    _backward(q, k, v, heads, _zeros(k), lse, y, dy, dq, dk, dv)
    return dq, dk, dv


def _zeros(k: np.ndarray) -> np.ndarray:
    return as_float32("attention", np.zeros(max(k.shape[1:]) + WIDTH, np.float32))
