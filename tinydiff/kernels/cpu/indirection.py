"""Indirection buffers: where the micro-kernel finds a's numbers, address by address.

For `gemm` a buffer is (blocks, taps, ENTRY): for each block of ROWS rows and each tap the address of every row's run of
numbers, then where in b the tap begins.  For `gemm_transposed` it is one address for each step.
"""

from collections import namedtuple

import numpy as np

from tinydiff.kernels.cpu.jit import address, helper
from tinydiff.kernels.cpu.micro_kernel import ENTRY, ROWS, WIDTH

# Output row i uses, for tap number u < taps, row i·step + offset + direction·u of x with row first_tap + tap_step·u of
# the kernel; so do columns.
TapMap = namedtuple("TapMap", "step offset direction first_tap tap_step taps")
# Output positions first … end − 1, counted through all images of height × width of them.
Positions = namedtuple("Positions", "first end height width")


@helper
def fill_buffer(buffer, lanes, x, positions, rows, columns, outside):  # type: ignore[no-untyped-def]
    """The addresses of the positions' pixels, `lanes` positions to a block; `outside` is the address of C zeros."""
    height, width, pixel = x.shape[1], x.shape[2], 4 * x.shape[3]
    n, place = divmod(positions.first, positions.height * positions.width)
    i, j = divmod(place, positions.width)
    block = lane = 0
    for _ in range(positions.first, positions.end):
        tap = 0
        for u in range(rows.taps):
            row = i * rows.step + rows.offset + rows.direction * u
            row_inside = 0 <= row and row < height
            line = address(x) + (n * height + row) * width * pixel
            for v in range(columns.taps):
                column = j * columns.step + columns.offset + columns.direction * v
                inside = row_inside and 0 <= column and column < width
                buffer[block, tap, lane] = line + column * pixel if inside else outside
                tap += 1
        lane += 1
        if lane == lanes:
            block, lane = block + 1, 0
        j += 1
        if j == positions.width:
            i, j = i + 1, 0
            if i == positions.height:
                n, i = n + 1, 0


@helper
def fill_taps(buffer, rows, columns, kernel_w, steps):  # type: ignore[no-untyped-def]
    """Where each tap begins in weights (taps, steps, K) that are packed in panels."""
    for block in range(buffer.shape[0]):
        for u in range(rows.taps):
            for v in range(columns.taps):
                tap = (rows.first_tap + rows.tap_step * u) * kernel_w + columns.first_tap + columns.tap_step * v
                buffer[block, u * columns.taps + v, ROWS] = 4 * tap * steps * WIDTH


@helper
def row_buffer(a, rows):  # type: ignore[no-untyped-def]
    """The indirection buffer (blocks, 1, ENTRY) of the Matrix a, for `gemm`."""
    buffer = np.zeros(((rows + ROWS - 1) // ROWS, 1, ENTRY), np.int64)
    fill_row_buffer(buffer, a, rows)
    return buffer


@helper
def fill_row_buffer(buffer, a, rows):  # type: ignore[no-untyped-def]
    for i in range(rows):
        buffer[i // ROWS, 0, i % ROWS] = a.address + 4 * i * a.row


@helper
def step_buffer(a, steps):  # type: ignore[no-untyped-def]
    """The indirection buffer (steps,) of the Matrix a, for `gemm_transposed`."""
    buffer = np.empty(steps, np.int64)
    for k in range(steps):
        buffer[k] = a.address + 4 * k * a.row
    return buffer
