"""Matrix products (gemm) on the micro-kernel, and how their right-hand side is packed.

The right-hand side b (steps, columns) is stored in *panels* (columns / WIDTH, steps, WIDTH): what the micro-kernel
reads one after the other lies one after the other.  The last panel is filled up with zeros.
"""

from collections import namedtuple

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import as_float32, empty
from tinydiff.kernels.cpu.data_movement import transpose
from tinydiff.kernels.cpu.jit import address, helper, kernel, machine_function
from tinydiff.kernels.cpu.micro_kernel import ENTRY, ROWS, WIDTH, multiply_columns, multiply_rows
from tinydiff.kernels.cpu.vectors import copy

STEPS = 256  # of a sum at a time, about: the panel of b, STEPS × WIDTH floats, then stays in the first cache
# float32 numbers in memory: where the first row begins, and how many numbers from row to row.
Matrix = namedtuple("Matrix", "address row")
# A right-hand side in blocks of WIDTH columns: how many numbers from row to row, and from block to block.
Panels = namedtuple("Panels", "address row panel")
# Of a product: the rows and columns of c, and the steps of each sum (for each tap).
Size = namedtuple("Size", "rows columns steps")


@helper
def gemm(buffer, skip, size, b, bias, c):  # type: ignore[no-untyped-def]
    """c[i, :columns] = bias + Σ_{tap, k} a[i, tap, k] · b[tap, k, :], with `steps` numbers of a for each tap.

    The indirection buffer (blocks, taps, ENTRY) holds the addresses of a's rows, ROWS to a block; `skip` bytes are
    added to each.  b is Panels whose rows are WIDTH apart, bias an address, c a Matrix with room for whole vectors.
    """
    (rows, columns, steps), taps = size, buffer.shape[1]
    gemm_blocks(address(buffer), taps, skip, steps, b.address, b.panel, bias, rows, columns, c.address, c.row)


@helper
def gemm_transposed(buffer, skip, size, b, c):  # type: ignore[no-untyped-def]
    """c[i, :columns] += Σ_k a[k, i] · b[k, :], where a's row k begins `skip` bytes after buffer[k]."""
    rows, columns, steps = size
    gemm_blocks_transposed(address(buffer), steps, skip, b.address, b.row, b.panel, rows, columns, c.address, c.row)


# Machine functions take integers only: the named tuples come apart in the two calls above.
@machine_function
def gemm_blocks(buffer, taps, skip, steps, b, panel, bias, rows, columns, c, c_row):  # type: ignore[no-untyped-def]
    """`gemm` block by block: a few taps, or a part of one, of every sum at a time."""
    taps_at_once = max(1, STEPS // steps)
    parts = (steps + STEPS - 1) // STEPS
    for tap in range(0, taps, taps_at_once):
        count = min(taps_at_once, taps - tap)
        for part in range(parts):
            first = part * steps // parts
            depth, skipped = (part + 1) * steps // parts - first, skip + 4 * first
            for column in range(0, columns, WIDTH):
                width = min(WIDTH, columns - column)
                b_at = b + 4 * (column // WIDTH * panel + first * WIDTH)
                for row in range(0, rows, ROWS):
                    height = min(ROWS, rows - row)
                    entries = buffer + 8 * ENTRY * (row // ROWS * taps + tap)
                    c_at = c + 4 * (row * c_row + column)
                    start, start_row = c_at, c_row  # the sums so far
                    if tap == 0 and part == 0:
                        start, start_row = bias + 4 * column, 0
                    multiply_rows(entries, count, depth, skipped, b_at, start, start_row, c_at, c_row, height, width)


@machine_function
def gemm_blocks_transposed(buffer, steps, skip, b, b_row, panel, rows, columns, c, c_row):  # type: ignore[no-untyped-def]
    """`gemm_transposed` block by block."""
    for first in range(0, steps, STEPS):
        count = min(STEPS, steps - first)
        for column in range(0, columns, WIDTH):
            width = min(WIDTH, columns - column)
            b_at = b + 4 * (column // WIDTH * panel + first * b_row)
            for row in range(0, rows, ROWS):
                height = min(ROWS, rows - row)
                c_at = c + 4 * (row * c_row + column)
                multiply_columns(buffer + 8 * first, count, skip + 4 * row, b_at, b_row, c_at, c_row, height, width)


@helper
def as_matrix(c):  # type: ignore[no-untyped-def]
    """A contiguous array (rows, columns) as a Matrix; the array must be used again after it, else it is freed."""
    return Matrix(address(c), c.shape[1])


@helper
def as_panels(panels):  # type: ignore[no-untyped-def]
    """An array (columns / WIDTH, steps, WIDTH) as Panels; the same holds."""
    return Panels(address(panels), WIDTH, WIDTH * panels.shape[1])


@kernel
def _pack(b, panels):  # type: ignore[no-untyped-def]
    steps, columns = b.shape
    for task in prange(panels.shape[0] * ((steps + STEPS - 1) // STEPS)):
        p, first = task % panels.shape[0], task // panels.shape[0] * STEPS
        filled = min(WIDTH, columns - p * WIDTH)
        for k in range(first, min(steps, first + STEPS)):
            copy(address(b) + 4 * (k * columns + p * WIDTH), address(panels[p, k]), filled)
            for j in range(filled, WIDTH):
                panels[p, k, j] = np.float32(0)


@kernel
def _pack_transposed(w, panels):  # type: ignore[no-untyped-def]
    """Panels of b (taps·K, C) for w (taps, C, K)."""
    taps, channels, filters = w.shape
    for task in prange(taps * panels.shape[0]):
        tap, p = task // panels.shape[0], task % panels.shape[0]
        filled = min(WIDTH, channels - p * WIDTH)
        source, target = address(w[tap, p * WIDTH :]), address(panels[p, tap * filters :])
        transpose(source, filled, filters, 4 * filters, target, 4 * WIDTH)
        for k in range(filters):
            for j in range(filled, WIDTH):
                panels[p, tap * filters + k, j] = np.float32(0)


def pack(w: np.ndarray) -> np.ndarray:
    """w (…, K), C-contiguous float32, as a matrix b (steps, K) in panels (K / WIDTH, steps, WIDTH)."""
    b = as_float32("pack", w).reshape(-1, w.shape[-1])
    panels = empty(-(-b.shape[1] // WIDTH), b.shape[0], WIDTH)
    _pack(b, panels)
    return panels


def pack_transposed(w: np.ndarray) -> np.ndarray:
    """w (…, C, K) with its last two axes exchanged, packed: panels (C / WIDTH, steps, WIDTH)."""
    w = as_float32("pack", w).reshape(-1, *w.shape[-2:])
    panels = empty(-(-w.shape[1] // WIDTH), w.shape[0] * w.shape[2], WIDTH)
    _pack_transposed(w, panels)
    return panels
