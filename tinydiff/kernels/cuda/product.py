"""The product of matrices on a GPU, in tiles: linear layers, attention, and the core of the convolutions.

A block of 64 threads makes a tile of 64 × 64 numbers.  For 8 of the numbers that are multiplied and added at a time its
threads bring both factors' parts into shared memory, and each thread multiplies and adds an 8 × 8 part of the tile,
whose 64 sums stay in registers: 16 numbers are read there, in four instructions, for 64 multiply-adds, and each number
comes 64 times less often from the GPU's memory than in `naive.py`.  (Volkov & Demmel 2008, doi:10.1109/SC.2008.5214359)

Where tiles are few, a sum is made in parts, by more blocks; these are added in one order: the same bits every time.
"""

import functools
from importlib.util import find_spec
from typing import Any

import numpy as np
from numba import cuda, float32

from tinydiff.device import array_module, simulated
from tinydiff.kernels.cuda.launch import as_float32, blocks, launch, uint32

# A block's tile is TILE × TILE, over DEPTH numbers at a time, and a thread's part of it PART × PART.  ENOUGH blocks
# keep a GPU busy.  Numba's simulator runs every thread in Python, so there all is smaller.
TILE, DEPTH, PART, ENOUGH = (16, 4, 4, 3) if simulated() else (64, 8, 8, 512)
HALF = TILE // 2
SIDE = TILE // PART  # threads along each side of a tile
THREADS = SIDE * SIDE
STEP = THREADS // DEPTH  # rows of a tile that are brought at once, where DEPTH threads bring the numbers of a row
ROWS = TILE // STEP  # that a thread brings
COLUMNS = THREADS // TILE  # that are brought at once, where TILE threads bring the numbers of a column
ROW = TILE + 4  # numbers from row to row in shared memory: so that threads which write together use different banks
WIDE, ROWS_SUMMED = (4, 3) if simulated() else (32, 32)  # threads of a block that sums rows, and rows of each
ALIGNED = find_spec("numba_cuda") is not None and not simulated()  # to 16 bytes: four numbers are read at once then

# Unsigned 32-bit numbers below are not a detail: with Python's signed ones the compiler looks at each index for a
# negative one, in 64 bits, and the kernel needs twice the instructions and half as many registers more.


@cuda.jit(device=True)
def first_row(t):  # type: ignore[no-untyped-def]
    """The first row of the tile that thread t's part holds; the others are `nth`."""
    return uint32(4) * (t // uint32(SIDE))


@cuda.jit(device=True)
def first_column(t):  # type: ignore[no-untyped-def]
    """The same of its columns."""
    return uint32(4) * (t % uint32(SIDE))


@cuda.jit(device=True)
def nth(i):  # type: ignore[no-untyped-def]
    """Where the i-th row (or column) of a thread's part lies after its first: four neighbours in each half."""
    return uint32(HALF * (i // 4) + i % 4)


@cuda.jit(device=True)
def _multiply_one(a, b, k, row, column, sums):  # type: ignore[no-untyped-def]
    """One step of `multiply`: 16 numbers read, 64 multiply-adds."""
    for i in range(PART):
        for j in range(PART):
            sums[i, j] += a[k, row + HALF * (i // 4) + i % 4] * b[k, column + HALF * (j // 4) + j % 4]


@cuda.jit(device=True)
def multiply(a, b, row, column, sums):  # type: ignore[no-untyped-def]
    """The thread's part of aᵀ·b, added to its sums; a and b are (DEPTH, ROW) in shared memory."""
    for k in range(uint32(0), uint32(DEPTH), uint32(4)):  # four a turn: else a fifth would be the loop's own work
        _multiply_one(a, b, uint32(k), row, column, sums)
        _multiply_one(a, b, uint32(k + uint32(1)), row, column, sums)
        _multiply_one(a, b, uint32(k + uint32(2)), row, column, sums)
        _multiply_one(a, b, uint32(k + uint32(3)), row, column, sums)


@cuda.jit(device=True)
def _bring(tile, matrix, first, begin, end, along, t):  # type: ignore[no-untyped-def]
    """tile[k, i] = matrix[first + i, begin + k], zero from column `end` on; along: neighbours in memory share a row."""
    rows = uint32(matrix.shape[0])
    if along:  # DEPTH threads read a row's numbers
        k = t % uint32(DEPTH)
        for r in range(ROWS):
            i = t // uint32(DEPTH) + uint32(STEP * r)
            inside = uint32(first + i) < rows and uint32(begin + k) < end
            tile[k, i] = matrix[uint32(first + i), uint32(begin + k)] if inside else float32(0)
    else:  # TILE threads read a column's
        i = t % uint32(TILE)
        for k in range(t // uint32(TILE), uint32(DEPTH), uint32(COLUMNS)):
            inside = uint32(first + i) < rows and uint32(begin + k) < end
            tile[k, i] = matrix[uint32(first + i), uint32(begin + k)] if inside else float32(0)


@cuda.jit
def _product(a, b, a_along, b_along, factor, bias, y):  # type: ignore[no-untyped-def]
    """y[part, n, h] = factor · a[n, h] · b[n, h]ᵀ + bias, each part from its share of the numbers that are multiplied.

    a (N, H, rows, depth) and b (N, H, columns, depth) with any strides; y (parts, N, H, rows, columns).
    """
    tiles = cuda.shared.array((2, DEPTH, ROW), float32, 16) if ALIGNED else cuda.shared.array((2, DEPTH, ROW), float32)
    a_tile, b_tile = tiles[0], tiles[1]
    sums = cuda.local.array((PART, PART), float32)
    t = uint32(cuda.threadIdx.x)
    row, column = first_row(t), first_column(t)
    first, left = uint32(cuda.blockIdx.x) * uint32(TILE), uint32(cuda.blockIdx.y) * uint32(TILE)
    parts, images, heads, rows, columns = y.shape
    part, pair = cuda.blockIdx.z // (images * heads), cuda.blockIdx.z % (images * heads)
    n, h = pair // heads, pair % heads
    slabs = (a.shape[3] + DEPTH - 1) // DEPTH
    begin, end = uint32(part * slabs // parts * DEPTH), uint32((part + 1) * slabs // parts * DEPTH)
    if end > uint32(a.shape[3]):
        end = uint32(a.shape[3])
    for i in range(PART):
        for j in range(PART):
            sums[i, j] = float32(0)
    left_factor, right_factor = a[n, h], b[n, h]
    for k in range(begin, end, uint32(DEPTH)):
        _bring(a_tile, left_factor, first, uint32(k), end, a_along, t)
        _bring(b_tile, right_factor, left, uint32(k), end, b_along, t)
        cuda.syncthreads()
        multiply(a_tile, b_tile, row, column, sums)
        cuda.syncthreads()
    for j in range(PART):
        k = uint32(left + column + nth(j))
        if k < uint32(columns):
            more = bias[k] if part == 0 else float32(0)
            for i in range(PART):
                p = uint32(first + row + nth(i))
                if p < uint32(rows):
                    y[part, n, h, p, k] = factor * sums[i, j] + more


@cuda.jit
def _sum_rows(x, sums):  # type: ignore[no-untyped-def]
    """sums (parts, C): a thread sums one column over a share of the rows of x (rows, C)."""
    part, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    rows, parts = x.shape[0], sums.shape[0]
    if column >= x.shape[1]:
        return
    total = float32(0)
    for row in range(part * rows // parts, (part + 1) * rows // parts):
        total += x[row, column]
    sums[part, column] = total


@cuda.jit
def _add_parts(parts, y):  # type: ignore[no-untyped-def]
    """y (numbers,) = the sum of parts (parts, numbers), the first first."""
    number = cuda.grid(1)
    if number < y.size:
        total = parts[0, number]
        for part in range(1, parts.shape[0]):
            total += parts[part, number]
        y[number] = total


def add_parts(parts: Any) -> Any:
    """The sum of the parts that several blocks made: (parts, …) → (…)."""
    if len(parts) == 1:
        return parts[0]
    y = array_module(parts).empty(parts.shape[1:], parts.dtype)
    launch(_add_parts, blocks(y.size, 4 * THREADS), 4 * THREADS, parts.reshape(len(parts), -1), y.reshape(-1))
    return y


def sum_rows(x: Any) -> Any:
    """As `reference.sum_rows`: x (…, C) → (C,)."""
    rows = as_float32("sum_rows", x).reshape(-1, x.shape[-1])
    count, columns = rows.shape
    sums = array_module(x).empty((blocks(count, ROWS_SUMMED), columns), x.dtype)
    launch(_sum_rows, (len(sums), blocks(columns, WIDE)), WIDE, rows, sums)
    return add_parts(sums)


@functools.cache
def no_bias(xp: Any, columns: int) -> Any:
    """Zeros, which are only read."""
    return xp.zeros(columns, np.float32)


def product(a: Any, b: Any, factor: float = 1.0, bias: Any = None) -> Any:
    """factor · a · bᵀ + bias for each image and head: a (N, H, L, D) and b (N, H, M, D), any strides → (N, H, L, M)."""
    (images, heads, rows, depth), columns, xp = a.shape, b.shape[2], array_module(a)
    tiles = blocks(rows, TILE), blocks(columns, TILE)
    parts = min(blocks(ENOUGH, tiles[0] * tiles[1] * images * heads), blocks(depth, 4 * DEPTH))
    y = xp.empty((parts, images, heads, rows, columns), a.dtype)
    bias = no_bias(xp, columns) if bias is None else bias
    along = (a.strides[3] == a.itemsize, b.strides[3] == b.itemsize)
    launch(_product, (*tiles, parts * images * heads), THREADS, a, b, *along, np.float32(factor), bias, y)
    return add_parts(y)


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, bias: Any = None) -> Any:
    """As `reference.matmul`: a · b + bias, where a and b may be transposed first."""
    a, b = as_float32("matmul", a), as_float32("matmul", b)
    a, b = a.T if transpose_a else a, b if transpose_b else b.T
    return product(a[None, None], b[None, None], bias=None if bias is None else as_float32("matmul", bias))[0, 0]
