"""Direct convolution on the register tile: no patch is ever copied.

An output position's patch is KH·KW runs of C numbers, one for each tap of the kernel, and a plan says where each run
begins in the picture, or that it lies outside and is zeros.  The tile follows the plan through the taps and sums

    y[position, :] = bias + Σ_{tap, c} x[plan(position, tap) + c] · w[tap, c, :]

A block counts positions through all pictures, so 4×4 feature maps fill it as well as large ones.  A 1×1 convolution
has one tap and is the plain matrix product, so linear layers run here too.

The gradient by the input is the same sum over dy: each input position meets the outputs that used it.  With stride s
the positions fall into s·s classes, and those of one class meet the same taps.  The gradient by the weights is, for
each tap, the product of the positions' pixels, transposed, and dy.
Every task writes its own part of the result and sums in one order: the same bits for any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from tinydiff.kernels.cpu import winograd
from tinydiff.kernels.cpu.arrays import as_float32
from tinydiff.kernels.cpu.jit import helper, kernel
from tinydiff.kernels.cpu.product import STEPS, multiply, multiply_transposed, pack, rounded
from tinydiff.kernels.cpu.tile import PLAN, ROWS, WIDTH
from tinydiff.kernels.cpu.vectors import LANES

Padding = tuple[int, int, int, int]
BLOCK = 4 * ROWS  # output positions in a task
GROUPS = 4  # parts of the positions whose weight gradients are summed apart, so that there are tasks enough


@helper
def _plan_patches(plan, x, first, count, out_h, out_w, rows, columns, kernel_w, outside):  # type: ignore[no-untyped-def]
    """The plan of the patches of output positions first … first + count; `outside` is the address of C zeros.

    rows = (step, offset, direction, first tap, tap step, taps): output row i meets, for tap number u, row
    i·step + offset + direction·u of x with row (first tap) + (tap step)·u of the kernel; so do columns.
    """
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    i_step, i_offset, i_direction, a_first, a_step, a_taps = rows
    j_step, j_offset, j_direction, b_first, b_step, b_taps = columns
    base, pixel = x.ctypes.data, 4 * channels
    n, place = divmod(first, out_h * out_w)
    i, j = divmod(place, out_w)
    for r in range(count):
        block, lane, tap = r // ROWS, r % ROWS, 0
        for u in range(a_taps):
            row = i * i_step + i_offset + i_direction * u
            row_inside = 0 <= row and row < height
            line = base + (n * height + row) * width * pixel
            for v in range(b_taps):
                column = j * j_step + j_offset + j_direction * v
                inside = row_inside and 0 <= column and column < width
                plan[block, tap, lane] = line + column * pixel if inside else outside
                tap += 1
        j += 1
        if j == out_w:
            i, j = i + 1, 0
            if i == out_h:
                n, i = n + 1, 0
    for block in range((count + ROWS - 1) // ROWS):
        for u in range(a_taps):
            for v in range(b_taps):
                b_tap = (a_first + a_step * u) * kernel_w + b_first + b_step * v
                plan[block, u * b_taps + v, ROWS] = b_tap * pixel * WIDTH


@kernel
def _convolve(x, outside, panels, bias, kernel_w, rows, columns, class_row, class_column, class_step, y):  # type: ignore[no-untyped-def]
    """The positions (class_row + class_step·i, class_column + class_step·j) of y."""
    channels, filters = x.shape[3], y.shape[3]
    out_h = (y.shape[1] - class_row + class_step - 1) // class_step
    out_w = (y.shape[2] - class_column + class_step - 1) // class_step
    positions, taps = y.shape[0] * out_h * out_w, rows[5] * columns[5]
    straight = class_step == 1 and filters % LANES == 0  # the tile may write to y itself
    c_row = filters if straight else rounded(filters, LANES)
    for task in prange((positions + BLOCK - 1) // BLOCK):
        first = task * BLOCK
        count = min(BLOCK, positions - first)
        plan = np.empty(((count + ROWS - 1) // ROWS, taps, PLAN), np.int64)
        _plan_patches(plan, x, first, count, out_h, out_w, rows, columns, kernel_w, outside.ctypes.data)
        block = np.empty((0 if straight else count, c_row), np.float32)
        c = y.ctypes.data + 4 * first * filters if straight else block.ctypes.data
        multiply(plan, 0, channels, panels.ctypes.data, panels.shape[1], bias.ctypes.data, count, filters, c, c_row)
        if not straight:
            for r in range(count):
                n, place = divmod(first + r, out_h * out_w)
                i, j = divmod(place, out_w)
                for k in range(filters):
                    y[n, class_row + class_step * i, class_column + class_step * j, k] = block[r, k]


@kernel
def _weight_grad(x, outside, slabs, out_h, out_w, kernel_w, stride, top, left, dw):  # type: ignore[no-untyped-def]
    groups, taps, channels, filters = dw.shape
    height, width, pixel = x.shape[1], x.shape[2], 4 * channels
    positions, in_a_task = x.shape[0] * out_h * out_w, 4 * ROWS
    tasks = (channels + in_a_task - 1) // in_a_task
    for task in prange(groups * taps * tasks):
        group, tap, begin = task % groups, task // groups % taps, task // groups // taps * in_a_task
        rows = min(in_a_task, channels - begin)
        a, b = divmod(tap, kernel_w)
        plan = np.empty(STEPS, np.int64)
        block = np.zeros((rows, rounded(filters, LANES)), np.float32)
        for slab in range(group * slabs.shape[0] // groups, (group + 1) * slabs.shape[0] // groups):
            count = min(STEPS, positions - slab * STEPS)
            n, place = divmod(slab * STEPS, out_h * out_w)
            i, j = divmod(place, out_w)
            for k in range(count):
                row, column = i * stride + a - top, j * stride + b - left
                inside = 0 <= row and row < height and 0 <= column and column < width
                at = x.ctypes.data + ((n * height + row) * width + column) * pixel
                plan[k] = at if inside else outside.ctypes.data
                j += 1
                if j == out_w:
                    i, j = i + 1, 0
                    if i == out_h:
                        n, i = n + 1, 0
            b_address = slabs[slab].ctypes.data
            multiply_transposed(
                plan, count, 4 * begin, b_address, STEPS, rows, filters, block.ctypes.data, block.shape[1]
            )
        for r in range(rows):
            for k in range(filters):
                dw[group, tap, begin + r, k] = block[r, k]


def conv2d_forward(
    x: np.ndarray, w: np.ndarray, stride: int, padding: Padding, bias: np.ndarray | None = None
) -> np.ndarray:
    """y = x ∗ w (+ bias); as `reference.conv2d_forward`, float32."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, bottom, left, right = padding
    out_h = (x.shape[1] + top + bottom - kernel_h) // stride + 1
    out_w = (x.shape[2] + left + right - kernel_w) // stride + 1
    x, w = as_float32("conv2d_forward", x), as_float32("conv2d_forward", w)
    y = np.empty((x.shape[0], out_h, out_w, filters), np.float32)
    bias = _padded(bias, filters)
    if winograd.wins(w.shape, stride):
        winograd.convolve(x, w, bias, top, left, y)
        return y
    panels = pack(w.reshape(-1, filters))[0]
    rows, columns = (stride, -top, 1, 0, 1, kernel_h), (stride, -left, 1, 0, 1, kernel_w)
    _convolve(x, _padded(None, channels), panels, bias, kernel_w, rows, columns, 0, 0, 1, y)
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int, padding: Padding
) -> np.ndarray:
    """dx = Σ dy · wᵀ over the outputs that used each input; as `reference.conv2d_input_grad`, float32."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, _, left, _ = padding
    dy, none = as_float32("conv2d_input_grad", dy), _padded(None, channels)
    if winograd.wins((kernel_h, kernel_w, filters, channels), stride):
        dx = np.empty(x_shape, np.float32)
        turned = as_float32("conv2d_input_grad", w[::-1, ::-1].transpose(0, 1, 3, 2))
        winograd.convolve(dy, turned, none, kernel_h - 1 - top, kernel_w - 1 - left, dx)
        return dx
    dx = np.zeros(x_shape, np.float32)
    panels = pack(as_float32("conv2d_input_grad", w.transpose(0, 1, 3, 2)).reshape(-1, channels))[0]
    for class_row in range(min(stride, x_shape[1])):
        rows = _meeting(class_row, stride, top, kernel_h)
        for class_column in range(min(stride, x_shape[2])):
            columns = _meeting(class_column, stride, left, kernel_w)
            if rows[5] and columns[5]:
                _convolve(dy, _padded(None, filters), panels, none, kernel_w, rows, columns, class_row, class_column, stride, dx)
    return dx


def _meeting(place: int, stride: int, before: int, kernel: int) -> tuple[int, int, int, int, int, int]:
    """The taps a that input rows place, place + stride, … meet, and in which row of dy: (place + before − a) / stride."""
    first = (place + before) % stride
    return 1, (place + before - first) // stride, -1, first, stride, len(range(first, kernel, stride))


def conv2d_weight_grad(
    x: np.ndarray, dy: np.ndarray, kernel_size: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    """dw = xᵀ · dy for each tap; as `reference.conv2d_weight_grad`, float32."""
    (kernel_h, kernel_w), channels, filters = kernel_size, x.shape[3], dy.shape[3]
    top, _, left, _ = padding
    x, dy = as_float32("conv2d_weight_grad", x), as_float32("conv2d_weight_grad", dy)
    if winograd.wins((kernel_h, kernel_w, channels, filters), stride):
        return winograd.weight_grad(x, dy, top, left)
    dw = np.empty((GROUPS, kernel_h * kernel_w, channels, filters), np.float32)
    slabs = pack(dy.reshape(-1, filters), STEPS)
    _weight_grad(x, _padded(None, channels), slabs, dy.shape[1], dy.shape[2], kernel_w, stride, top, left, dw)
    return dw.sum(0).reshape(kernel_h, kernel_w, channels, filters)


def matmul(a: np.ndarray, b: np.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> np.ndarray:
    """a·b for matrices, as the convolution that it is: rows are pixels, 1×1 kernels."""
    if transpose_a and transpose_b:
        return matmul(b, a).T
    if transpose_a:
        return conv2d_weight_grad(a[None, None], b[None, None], (1, 1), 1, (0, 0, 0, 0))[0, 0]
    if transpose_b:
        b = b.T
    return conv2d_forward(a[None, None], b[None, None], 1, (0, 0, 0, 0))[0, 0]


def _padded(bias: np.ndarray | None, filters: int) -> np.ndarray:
    """The bias, or zeros, with room for whole panels."""
    padded = np.zeros(-(-filters // WIDTH) * WIDTH, np.float32)
    if bias is not None:
        padded[:filters] = as_float32("conv2d_forward", bias)
    return as_float32("conv2d_forward", padded)
