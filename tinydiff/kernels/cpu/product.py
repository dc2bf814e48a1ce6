"""A block of a matrix product on the register tile, and how its right-hand side is laid out.

The right-hand side b (steps, columns) is stored in *panels* (columns / WIDTH, steps, WIDTH): what the tile reads one
after the other lies one after the other.  The last panel is filled up with zeros.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.jit import helper, kernel
from tinydiff.kernels.cpu.tile import ROWS, WIDTH, tile

STEPS = 320  # of the sum at a time, at most: a panel of b, STEPS × WIDTH floats, stays in the first cache


@helper
def multiply_block(a, a_row, a_step, rows, panels, c, accumulate):  # type: ignore[no-untyped-def]
    """c[i, p·WIDTH + j] (+)= Σ_k a[i·a_row + k·a_step] · panels[p, k, j] for i < rows.

    `a` is an address; a and c must have room for a whole number of ROWS, of which those past `rows` are garbage.
    """
    steps, c_row = panels.shape[1], c.shape[1]
    pc, pb = c.ctypes.data, panels.ctypes.data
    parts = (steps + STEPS - 1) // STEPS
    for part in range(parts):
        first = part * steps // parts
        count = (part + 1) * steps // parts - first
        for p in range(panels.shape[0]):
            b = pb + 4 * (p * steps + first) * WIDTH
            for i in range(0, rows, ROWS):
                start = a + 4 * (i * a_row + first * a_step)
                tile(start, a_row, a_step, b, count, pc + 4 * (i * c_row + p * WIDTH), c_row, accumulate or first > 0)


@helper
def _panel(b, first, p, panel):  # type: ignore[no-untyped-def]
    """panel[k, j] = b[first + k, p·WIDTH + j], zero outside b."""
    steps, columns = b.shape
    filled = min(WIDTH, columns - p * WIDTH)
    for k in range(panel.shape[0]):
        inside = filled if first + k < steps else 0
        for j in range(inside):
            panel[k, j] = b[first + k, p * WIDTH + j]
        for j in range(inside, WIDTH):
            panel[k, j] = np.float32(0)


@helper
def _pack(b, panels):  # type: ignore[no-untyped-def]
    for p in range(panels.shape[0]):
        _panel(b, 0, p, panels[p])


@kernel
def _pack_slabs(b, slabs):  # type: ignore[no-untyped-def]
    count, in_a_row, depth, _ = slabs.shape
    for slab in prange(count):
        for p in range(in_a_row):
            _panel(b, slab * depth, p, slabs[slab, p])


def pack(b: np.ndarray) -> np.ndarray:
    """b (steps, columns), C-contiguous float32, in panels (columns / WIDTH, steps, WIDTH).

    For weights: too few numbers to be worth sharing among threads.
    """
    panels = np.empty((-(-b.shape[1] // WIDTH), b.shape[0], WIDTH), np.float32)
    _pack(b, panels)
    return panels


def pack_slabs(b: np.ndarray, depth: int) -> np.ndarray:
    """The same, `depth` steps a slab, in parallel: (steps / depth, columns / WIDTH, depth, WIDTH)."""
    slabs = np.empty((-(-b.shape[0] // depth), -(-b.shape[1] // WIDTH), depth, WIDTH), np.float32)
    _pack_slabs(b, slabs)
    return slabs
