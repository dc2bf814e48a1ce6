"""Products of matrices on the register tile, and how their right-hand side is laid out.

The right-hand side b (steps, columns) is stored in *panels* (columns / WIDTH, steps, WIDTH): what the tile reads one
after the other lies one after the other.  The last panel is filled up with zeros.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import LINE, as_float32, empty
from tinydiff.kernels.cpu.data_movement import transpose
from tinydiff.kernels.cpu.jit import address, helper, kernel, machine_function
from tinydiff.kernels.cpu.micro_kernel import PLAN, ROWS, WIDTH, multiply_columns, multiply_rows
from tinydiff.kernels.cpu.vectors import copy

STEPS = 256  # of a sum at a time, about: the panel of b, STEPS × WIDTH floats, then stays in the first cache


@machine_function
def multiply_blocks(plan, taps, skip, steps, b, b_rows, bias, rows, columns, c, c_row):  # type: ignore[no-untyped-def]
    """`multiply`, all in addresses and numbers."""
    taps_at_once = max(1, STEPS // steps)
    parts = (steps + STEPS - 1) // STEPS
    for tap in range(0, taps, taps_at_once):
        for part in range(parts):
            first = part * steps // parts
            count = (part + 1) * steps // parts - first
            beginning = tap == 0 and part == 0
            for column in range(0, columns, WIDTH):
                b_part = b + 4 * (column * b_rows + first * WIDTH)
                for row in range(0, rows, ROWS):
                    c_part = c + 4 * (row * c_row + column)
                    multiply_rows(
                        plan + 8 * PLAN * (row // ROWS * taps + tap),
                        min(taps_at_once, taps - tap),
                        count,
                        skip + 4 * first,
                        b_part,
                        bias + 4 * column if beginning else c_part,
                        0 if beginning else c_row,
                        c_part,
                        c_row,
                        min(ROWS, rows - row),
                        min(WIDTH, columns - column),
                    )


@machine_function
def multiply_blocks_transposed(plan, steps, skip, b, b_row, b_panel, rows, columns, c, c_row):  # type: ignore[no-untyped-def]
    """`multiply_transposed`, all in addresses and numbers."""
    for first in range(0, steps, STEPS):
        for column in range(0, columns, WIDTH):
            for row in range(0, rows, ROWS):
                multiply_columns(
                    plan + 8 * first,
                    min(STEPS, steps - first),
                    skip + 4 * row,
                    b + 4 * (column // WIDTH * b_panel + first * b_row),
                    b_row,
                    c + 4 * (row * c_row + column),
                    c_row,
                    min(ROWS, rows - row),
                    min(WIDTH, columns - column),
                )


@helper
def multiply(plan, skip, steps, b, b_rows, bias, rows, columns, c, c_row):  # type: ignore[no-untyped-def]
    """c[i, :columns] = bias + Σ_{tap, k} a[i, tap, k] · b[tap, k, :]; `steps` numbers of a for each tap of the plan.

    plan (blocks, taps, PLAN) holds the addresses of a's rows, ROWS to a block; `skip` bytes are added to each.
    b, bias and c are addresses: b's of panels (columns / WIDTH, b_rows, WIDTH), c's of room for whole vectors.
    """
    multiply_blocks(address(plan), plan.shape[1], skip, steps, b, b_rows, bias, rows, columns, c, c_row)


@helper
def multiply_transposed(plan, steps, skip, b, b_row, b_panel, rows, columns, c, c_row):  # type: ignore[no-untyped-def]
    """c[i, :columns] += Σ_k a[k, i] · b[k, :], where a's row k begins `skip` bytes after plan[k].

    b's rows are b_row numbers apart and its panels of WIDTH columns b_panel numbers: WIDTH and WIDTH times its rows for
    panels, its columns and WIDTH for a plain matrix of whole vectors.
    """
    multiply_blocks_transposed(address(plan), steps, skip, b, b_row, b_panel, rows, columns, c, c_row)


@helper
def plan_rows(start, row_bytes, rows):  # type: ignore[no-untyped-def]
    """The plan (blocks, 1, PLAN) of a plain matrix of `rows` rows, for `multiply`."""
    plan = np.zeros(((rows + ROWS - 1) // ROWS, 1, PLAN), np.int64)
    for i in range(rows):
        plan[i // ROWS, 0, i % ROWS] = start + i * row_bytes
    return plan


@helper
def plan_steps(start, row_bytes, steps):  # type: ignore[no-untyped-def]
    """The plan (steps,) of a plain matrix, for `multiply_transposed`."""
    plan = np.empty(steps, np.int64)
    for k in range(steps):
        plan[k] = start + k * row_bytes
    return plan


@helper
def aligned(room):  # type: ignore[no-untyped-def]
    """The address of the first whole cache line in an array."""
    return (address(room) + LINE - 1) // LINE * LINE


@helper
def rounded(n, multiple):  # type: ignore[no-untyped-def]
    return (n + multiple - 1) // multiple * multiple


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
