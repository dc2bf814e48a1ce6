"""A block of a matrix product on the register tile, and how its right-hand side is laid out.

The right-hand side b (steps, columns) is stored in *panels* (columns / WIDTH, steps, WIDTH): what the tile reads one
after the other lies one after the other.  The last panel is filled up with zeros.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.jit import helper, kernel
from tinydiff.kernels.cpu.tile import ROWS, WIDTH, tile

STEPS = 256  # of the sum at a time: a panel of b, STEPS × WIDTH floats, stays in the first cache


@helper
def multiply_block(a, a_row, a_step, rows, panels, c, accumulate):  # type: ignore[no-untyped-def]
    """c[i, p·WIDTH + j] (+)= Σ_k a[i·a_row + k·a_step] · panels[p, k, j] for i < rows.

    `a` is an address; a and c must have room for a whole number of ROWS, of which those past `rows` are garbage.
    """
    steps, c_row = panels.shape[1], c.shape[1]
    pc, pb = c.ctypes.data, panels.ctypes.data
    for first in range(0, steps, STEPS):
        count = min(STEPS, steps - first)
        for p in range(panels.shape[0]):
            b = pb + 4 * (p * steps + first) * WIDTH
            for i in range(0, rows, ROWS):
                start = a + 4 * (i * a_row + first * a_step)
                tile(start, a_row, a_step, b, count, pc + 4 * (i * c_row + p * WIDTH), c_row, accumulate or first > 0)


@kernel
def _pack(b, panels):  # type: ignore[no-untyped-def]
    slabs, in_a_row, depth, _ = panels.shape
    steps, columns = b.shape
    for task in prange(slabs * in_a_row):
        slab, p = task // in_a_row, task % in_a_row
        filled = min(WIDTH, columns - p * WIDTH)
        for k in range(depth):
            step = slab * depth + k
            if step < steps:
                for j in range(filled):
                    panels[slab, p, k, j] = b[step, p * WIDTH + j]
                for j in range(filled, WIDTH):
                    panels[slab, p, k, j] = np.float32(0)
            else:
                for j in range(WIDTH):
                    panels[slab, p, k, j] = np.float32(0)


def pack(b: np.ndarray, depth: int | None = None) -> np.ndarray:
    """b (steps, columns), C-contiguous float32, in panels, `depth` steps a slab: (slabs, columns / WIDTH, depth, WIDTH)."""
    steps, columns = b.shape
    depth = depth or steps
    panels = np.empty((-(-steps // depth), -(-columns // WIDTH), depth, WIDTH), np.float32)
    _pack(b, panels)
    return panels
