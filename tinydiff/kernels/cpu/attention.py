"""Scaled dot-product attention, one image and head at a time, its products on the micro-kernel.

q (N, L, D), k and v (N, M, D) hold their heads side by side in D.  A block of queries is multiplied with CHUNK keys at
once; the matrix of all weights (L, M) never exists.  The forward keeps one number for each query, the logarithm of its
row's sum of exponentials, and the backward makes the weights again from it.  (Dao 2022, arXiv:2205.14135)
"""

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import as_float32, empty, zeros
from tinydiff.kernels.cpu.data_movement import transpose
from tinydiff.kernels.cpu.elementary import ONE, exp
from tinydiff.kernels.cpu.gemm import Matrix, Size, as_matrix, as_panels, gemm, gemm_transposed
from tinydiff.kernels.cpu.indirection import fill_row_buffer, step_buffer
from tinydiff.kernels.cpu.jit import address, array_at, helper, kernel, machine_function, rounded
from tinydiff.kernels.cpu.micro_kernel import ENTRY, ROWS, WIDTH
from tinydiff.kernels.cpu.vectors import LANES, copy, dot_of, max_of, sum_of

BLOCK = 4 * ROWS  # queries at a time
CHUNK = 1 << 10  # keys at a time: they, their values and a block's weights then stay in a core's own cache
PARTS = 32  # that the images and heads are shared in: each part uses its memory again


@helper
def _fill(panels, x, count, depth):  # type: ignore[no-untyped-def]
    """`count` rows of `depth` numbers of the Matrix x, in panels."""
    for p in range(panels.shape[0]):
        filled = min(WIDTH, depth - p * WIDTH)
        for i in range(count):
            source, target = i * x.row + p * WIDTH, (p * panels.shape[1] + i) * WIDTH
            copy(x.address + 4 * source, address(panels) + 4 * target, filled)


@helper
def _fill_transposed(panels, x, count, depth):  # type: ignore[no-untyped-def]
    """The same rows as columns, b = (depth, count), in panels."""
    for p in range(panels.shape[0]):
        begin = p * WIDTH
        source, target = x.address + 4 * begin * x.row, address(panels) + 4 * p * depth * WIDTH
        transpose(source, min(WIDTH, count - begin), depth, 4 * x.row, target, 4 * WIDTH)


@helper
def _panels(columns, steps):  # type: ignore[no-untyped-def]
    return np.zeros((rounded(columns, WIDTH) // WIDTH, steps, WIDTH), np.float32)


@helper
def _multiply(buffer, a, panels, size, none, c):  # type: ignore[no-untyped-def]
    """c[:rows] = a·b for the Matrix a and b in panels; the buffer's memory is used again."""
    fill_row_buffer(buffer, a, size.rows)
    gemm(buffer, 0, size, as_panels(panels), none, as_matrix(c))


@helper
def _add_transposed(a, panels, size, c):  # type: ignore[no-untyped-def]
    """c[:rows] += aᵀ·b for a (steps, ≥ rows) and b in panels."""
    gemm_transposed(step_buffer(as_matrix(a), size.steps), 0, size, as_panels(panels), as_matrix(c))


@machine_function
def forward_part(part, n_images, length, memory, heads, depth, q, k, v, none, lse, y):  # type: ignore[no-untyped-def]
    width, tasks, factor = heads * depth, n_images * heads, ONE / np.sqrt(np.float32(depth))
    most = min(memory, CHUNK)
    keys, values = _panels(most, depth), _panels(depth, most)
    weights = np.empty((BLOCK, rounded(most, LANES)), np.float32)
    out = np.empty((BLOCK, rounded(depth, LANES)), np.float32)
    # Of each query, as far as the keys have been seen: the largest score, and the sum of the powers below it.
    largest, total = np.empty(length, np.float32), np.empty(length, np.float32)
    buffer, sums = np.zeros((BLOCK // ROWS, 1, ENTRY), np.int64), array_at(lse, (tasks, length))
    for task in range(part * tasks // PARTS, (part + 1) * tasks // PARTS):
        n, first = task // heads, task % heads * depth
        for begin_key in range(0, memory, CHUNK):
            count = min(CHUNK, memory - begin_key)
            at_memory = 4 * ((n * memory + begin_key) * width + first)
            _fill_transposed(keys, Matrix(k + at_memory, width), count, depth)
            _fill(values, Matrix(v + at_memory, width), count, depth)
            for begin in range(0, length, BLOCK):
                rows = min(BLOCK, length - begin)
                at = 4 * ((n * length + begin) * width + first)
                _multiply(buffer, Matrix(q + at, width), keys, Size(rows, count, depth), none, weights)
                for i in range(rows):
                    row, query = weights[i], begin + i
                    top, before = max_of(address(row), count), largest[query]
                    if begin_key > 0:
                        top = max(top, before)
                    for j in range(count):
                        row[j] = exp((row[j] - top) * factor)
                    found = sum_of(address(row), count)
                    if begin_key > 0:  # what was summed below another largest score
                        shrunk = exp((before - top) * factor)
                        found += total[query] * shrunk
                        so_far = array_at(y + at + 4 * i * width, depth)
                        for c in range(depth):
                            so_far[c] *= shrunk
                    largest[query], total[query] = top, found
                _multiply(buffer, as_matrix(weights), values, Size(rows, depth, count), none, out)
                for i in range(rows):
                    so_far, query = array_at(y + at + 4 * i * width, depth), begin + i
                    if begin_key > 0:
                        for c in range(depth):
                            out[i, c] += so_far[c]
                    if begin_key + count == memory:
                        share = ONE / total[query]
                        for c in range(depth):
                            out[i, c] *= share
                        sums[task, query] = largest[query] * factor + np.log(total[query])
                    copy(address(out[i]), y + at + 4 * i * width, depth)


@kernel
def _forward(q, k, v, heads, none, lse, y):  # type: ignore[no-untyped-def]
    (n_images, length, width), memory = q.shape, k.shape[1]
    arrays = address(q), address(k), address(v), address(none), address(lse), address(y)
    for part in prange(PARTS):
        forward_part(part, n_images, length, memory, heads, width // heads, *arrays)


@machine_function
def backward_part(part, n_images, length, memory, heads, depth, q, k, v, none, lse, y, dy, dq, dk, dv):  # type: ignore[no-untyped-def]
    width, tasks, factor = heads * depth, n_images * heads, ONE / np.sqrt(np.float32(depth))
    keys_transposed, values_transposed = _panels(memory, depth), _panels(memory, depth)
    keys, rows_of_q, rows_of_dy = _panels(depth, memory), _panels(depth, BLOCK), _panels(depth, BLOCK)
    p = np.empty((BLOCK, rounded(memory, LANES)), np.float32)
    ds = np.empty((BLOCK, rounded(memory, LANES)), np.float32)
    out = np.empty((BLOCK, rounded(depth, LANES)), np.float32)
    dk_sum = np.empty((memory, rounded(depth, LANES)), np.float32)
    dv_sum = np.empty((memory, rounded(depth, LANES)), np.float32)
    buffer, sums = np.zeros((BLOCK // ROWS, 1, ENTRY), np.int64), array_at(lse, (tasks, length))
    for task in range(part * tasks // PARTS, (part + 1) * tasks // PARTS):
        n, first = task // heads, task % heads * depth
        at_memory = 4 * (n * memory * width + first)
        _fill_transposed(keys_transposed, Matrix(k + at_memory, width), memory, depth)
        _fill_transposed(values_transposed, Matrix(v + at_memory, width), memory, depth)
        _fill(keys, Matrix(k + at_memory, width), memory, depth)
        dk_sum[:], dv_sum[:] = np.float32(0), np.float32(0)
        for begin in range(0, length, BLOCK):
            rows = min(BLOCK, length - begin)
            at = 4 * ((n * length + begin) * width + first)
            queries, upstream, square = Matrix(q + at, width), Matrix(dy + at, width), Size(rows, memory, depth)
            _multiply(buffer, queries, keys_transposed, square, none, p)
            _multiply(buffer, upstream, values_transposed, square, none, ds)  # dp = dy·vᵀ
            for i in range(rows):
                p_row, ds_row, row_lse = p[i], ds[i], sums[task, begin + i]
                here = at + 4 * i * width
                inner = dot_of(dy + here, y + here, depth)  # = Σ p·dp
                for j in range(memory):
                    p_row[j] = exp(p_row[j] * factor - row_lse)
                    ds_row[j] = p_row[j] * (ds_row[j] - inner) * factor
            _multiply(buffer, as_matrix(ds), keys, Size(rows, depth, memory), none, out)  # dq = ds·k
            for i in range(rows):
                copy(address(out[i]), dq + at + 4 * i * width, depth)
            _fill(rows_of_dy, upstream, rows, depth)
            _add_transposed(p, rows_of_dy, Size(memory, depth, rows), dv_sum)  # dv = pᵀ·dy
            _fill(rows_of_q, queries, rows, depth)
            _add_transposed(ds, rows_of_q, Size(memory, depth, rows), dk_sum)  # dk = dsᵀ·q
        for j in range(memory):
            copy(address(dk_sum[j]), dk + at_memory + 4 * j * width, depth)
            copy(address(dv_sum[j]), dv + at_memory + 4 * j * width, depth)


@kernel
def _backward(q, k, v, heads, none, lse, y, dy, dq, dk, dv):  # type: ignore[no-untyped-def]
    (n_images, length, width), memory = q.shape, k.shape[1]
    arrays = address(q), address(k), address(v), address(none), address(lse), address(y)
    gradients = address(dy), address(dq), address(dk), address(dv)
    for part in prange(PARTS):
        backward_part(part, n_images, length, memory, heads, width // heads, *arrays, *gradients)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """y (N, L, D), and the logarithms of the sums (N, heads, L) that the backward needs."""
    q, k, v = (as_float32("attention", a) for a in (q, k, v))
    y, lse = empty(*q.shape), empty(q.shape[0], heads, q.shape[1])
    _forward(q, k, v, heads, zeros(max(k.shape[1:]) + WIDTH), lse, y)
    return y, lse


def attention_backward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, saved: np.ndarray, y: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dq, dk, dv; `saved` is what `attention` gave along with y."""
    q, k, v, lse, y, dy = (as_float32("attention", a) for a in (q, k, v, saved, y, dy))
    dq, dk, dv = empty(*q.shape), empty(*k.shape), empty(*v.shape)
    _backward(q, k, v, heads, zeros(max(k.shape[1:]) + WIDTH), lse, y, dy, dq, dk, dv)
    return dq, dk, dv
