"""What only moves numbers, or adds two arrays: little work, but a single thread would make the other wait for it."""

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import as_float32, empty
from tinydiff.kernels.cpu.jit import address, kernel, machine_function
from tinydiff.kernels.cpu.vectors import LANES, copy, transpose_square
from tinydiff.kernels.recording import run_op

CHUNK = 1 << 14  # numbers in a task
LONGEST = 1 << 11  # numbers of a row that are summed together
BLOCK = 16  # rows of a task that are transposed


@kernel
def _add(a, b, y):  # type: ignore[no-untyped-def]
    """y (N, P, C) = a (N, P, C) + b (N, P or 1, C)."""
    n_images, positions, channels = y.shape
    rows = max(1, CHUNK // channels)
    parts = (positions + rows - 1) // rows
    for task in prange(n_images * parts):
        n, first = task // parts, task % parts * rows
        for p in range(first, min(positions, first + rows)):
            q = p if b.shape[1] > 1 else 0
            for c in range(channels):
                y[n, p, c] = a[n, p, c] + b[n, q, c]


@kernel
def _sum_positions(x, sums):  # type: ignore[no-untyped-def]
    n_images, positions, channels = x.shape
    parts = (channels + LONGEST - 1) // LONGEST
    for task in prange(n_images * parts):
        n, first = task // parts, task % parts * LONGEST
        last = min(channels, first + LONGEST)
        for c in range(first, last):
            sums[n, c] = np.float32(0)
        for p in range(positions):
            for c in range(first, last):
                sums[n, c] += x[n, p, c]


@machine_function
def transpose(source, rows, columns, source_row, target, target_row):  # type: ignore[no-untyped-def]
    """A matrix of `rows` × `columns` floats at an address, transposed, to another; the sizes of rows are in bytes."""
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            from_, to = source + i * source_row + 4 * j, target + j * target_row + 4 * i
            if rows - i >= LANES and columns - j >= LANES:
                transpose_square(from_, source_row, to, target_row)
            else:
                for p in range(min(LANES, rows - i)):
                    for q in range(min(LANES, columns - j)):
                        copy(from_ + p * source_row + 4 * q, to + q * target_row + 4 * p, 1)


@kernel
def _transpose(x, y):  # type: ignore[no-untyped-def]
    count, rows, columns = x.shape
    parts = (rows + BLOCK - 1) // BLOCK
    for task in prange(count * parts):
        n, first = task // parts, task % parts * BLOCK
        source, target = address(x) + 4 * (n * rows + first) * columns, address(y) + 4 * (n * rows * columns + first)
        transpose(source, min(BLOCK, rows - first), columns, 4 * columns, target, 4 * rows)


@kernel
def _side_by_side(a, b, y, apart):  # type: ignore[no-untyped-def]
    """A row of a and one of b make up each row of y: copied there, or back again if `apart`."""
    rows, cut = a.shape
    step = max(1, CHUNK // y.shape[1])
    for task in prange((rows + step - 1) // step):
        for i in range(task * step, min(rows, (task + 1) * step)):
            left = address(y) + 4 * i * y.shape[1]
            right = left + 4 * cut
            a_row, b_row = address(a) + 4 * i * cut, address(b) + 4 * i * b.shape[1]
            if apart:
                copy(left, a_row, cut)
                copy(right, b_row, b.shape[1])
            else:
                copy(a_row, left, cut)
                copy(b_row, right, b.shape[1])


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, broadcast.  Two threads add float32 of one shape, and b (N, 1, …, 1, C), a row for each image, to a.

    NumPy adds what has another shape or type, and what is so little that a call would cost more.
    """
    each = b.ndim == a.ndim > 1 and b.shape[0] == a.shape[0] and b.shape[-1] == a.shape[-1]
    row = each and set(b.shape[1:-1]) == {1}
    if a.size < CHUNK or not a.dtype == b.dtype == np.float32 or not (a.shape == b.shape or row):
        return run_op(_little, (a, b))[0]
    shape = (1 if a.shape == b.shape else a.shape[0], -1, a.shape[-1])
    y = empty(*a.shape)
    _add(as_float32("add", a).reshape(shape), as_float32("add", b).reshape(shape), y.reshape(shape))
    return y


def _little(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray]:
    """a + b by NumPy, in a tuple, as `run_op` has it."""
    return (a + b,)


def sum_positions(x: np.ndarray) -> np.ndarray:
    """x (N, …, C) summed over all but the first axis and the last: (N, C)."""
    sums = empty(x.shape[0], x.shape[-1])
    _sum_positions(as_float32("sum_positions", x).reshape(x.shape[0], -1, x.shape[-1]), sums)
    return sums


def transposed(x: np.ndarray) -> np.ndarray:
    """x (…, R, C) with its last two axes exchanged: (…, C, R), contiguous."""
    y = empty(*x.shape[:-2], x.shape[-1], x.shape[-2])
    _transpose(as_float32("transposed", x).reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]))
    return y


def concat(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (…, C) and b (…, D) side by side: (…, C + D)."""
    y = empty(*a.shape[:-1], a.shape[-1] + b.shape[-1])
    a, b = as_float32("concat", a), as_float32("concat", b)
    _side_by_side(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), y.reshape(-1, y.shape[-1]), False)
    return y


def split(y: np.ndarray, cut: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `cut` channels of y, and the others."""
    a, b = empty(*y.shape[:-1], cut), empty(*y.shape[:-1], y.shape[-1] - cut)
    y = as_float32("concat", y)
    _side_by_side(a.reshape(-1, cut), b.reshape(-1, b.shape[-1]), y.reshape(-1, y.shape[-1]), True)
    return a, b


@kernel
def _from_float16(halves, bits, y):  # type: ignore[no-untyped-def]
    """Exponent and fraction go to their places in a float32, whose exponent counts from another zero: hence 2^112."""
    for task in prange((len(y) + CHUNK - 1) // CHUNK):
        first, last = task * CHUNK, min(len(y), (task + 1) * CHUNK)
        for i in range(first, last):
            half = np.uint32(halves[i])
            bits[i] = (half & np.uint32(0x8000)) << np.uint32(16) | (half & np.uint32(0x7FFF)) << np.uint32(13)
        for i in range(first, last):
            y[i] *= np.float32(2.0**112)


def from_float16(x: np.ndarray) -> np.ndarray:
    """Finite float16 numbers (…) as float32, exactly; NumPy's own way takes ten times as long."""
    halves = np.ascontiguousarray(x).reshape(-1).view(np.uint16)
    halves.setflags(write=False)
    y = empty(x.size)
    _from_float16(halves, y.view(np.uint32), y)
    return y.reshape(x.shape)
