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

import functools

import numpy as np
from numba import prange

from tinydiff.kernels.cpu import kn2row, winograd
from tinydiff.kernels.cpu.arrays import as_float32, empty, zeros
from tinydiff.kernels.cpu.data_movement import sum_first, transposed
from tinydiff.kernels.cpu.gemm import multiply, multiply_transposed, pack, pack_transposed, rounded
from tinydiff.kernels.cpu.jit import address, helper, kernel
from tinydiff.kernels.cpu.micro_kernel import PLAN, ROWS, WIDTH
from tinydiff.kernels.cpu.vectors import LANES, copy
from tinydiff.kernels.memory import cached

Padding = tuple[int, int, int, int]
BLOCK = 4 * ROWS  # output positions in a task
FEW = 8  # channels, or fewer, whose patches are read a kernel row at a time
# The gradient by the weights: if it is larger than CACHE (bytes), a task makes a block of so many channels and filters
# of one tap; a task adds a SLAB of positions at a time, whose panel of dy leaves room in the first cache; and where
# there would be fewer than TASKS, up to GROUPS of positions are summed apart.
CACHE, BLOCK_ROWS, BLOCK_COLUMNS = 1 << 18, 16 * ROWS, 4 * WIDTH
SLAB, TASKS, GROUPS = 128, 8, 4
_WHOLE = np.zeros((1, 2), np.int64)  # all positions of y as one class
_NONE = (0, 0, 0, 0)  # no padding


@helper
def _plan_patches(plan, x, first, count, out_h, out_w, meeting, kernel_w, outside):  # type: ignore[no-untyped-def]
    """The plan of the patches of output positions first … first + count; `outside` is the address of C zeros.

    meeting (2, 6) says which pixels an output meets, by rows and by columns: step, offset, direction, first tap, tap
    step, taps.  Output row i meets, for tap number u, row i·step + offset + direction·u of x with row (first tap) +
    (tap step)·u of the kernel; so do columns.
    """
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    i_step, i_offset, i_direction, a_first, a_step, a_taps = meeting[0]
    j_step, j_offset, j_direction, b_first, b_step, b_taps = meeting[1]
    base, pixel = address(x), 4 * channels
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
def _convolve(x, outside, steps, panels, bias, kernel_w, meetings, classes, apart, y):  # type: ignore[no-untyped-def]
    """`steps` numbers of x for each tap.  The positions of y fall into classes, each with its meeting; `classes` (…, 2)
    says where each begins, from where on its positions lie `apart`.
    """
    filters, longest = y.shape[3], (y.shape[1] + apart - 1) // apart * ((y.shape[2] + apart - 1) // apart)
    straight = apart == 1 and filters % LANES == 0  # the tile may write to y itself
    c_row = filters if straight else rounded(filters, LANES)
    for task in prange(len(classes) * ((y.shape[0] * longest + BLOCK - 1) // BLOCK)):
        number, first = task % len(classes), task // len(classes) * BLOCK
        row, column = classes[number]
        meeting = meetings[number]
        out_h, out_w = (y.shape[1] - row + apart - 1) // apart, (y.shape[2] - column + apart - 1) // apart
        count = max(0, min(BLOCK, y.shape[0] * out_h * out_w - first))  # some classes are smaller
        plan = np.empty(((count + ROWS - 1) // ROWS, meeting[0, 5] * meeting[1, 5], PLAN), np.int64)
        _plan_patches(plan, x, first, count, out_h, out_w, meeting, kernel_w, address(outside))
        block = np.empty((0 if straight else count, c_row), np.float32)
        c = address(y) + 4 * first * filters if straight else address(block)
        multiply(plan, 0, steps, address(panels), panels.shape[1], address(bias), count, filters, c, c_row)
        if not straight:
            for r in range(count):
                n, place = divmod(first + r, out_h * out_w)
                i, j = divmod(place, out_w)
                copy(address(block[r]), address(y[n, row + apart * i, column + apart * j]), filters)


@helper
def _plan_pixels(plan, x, first, count, out_h, out_w, a, b, stride, top, left, outside):  # type: ignore[no-untyped-def]
    """The pixels of x that output positions first … first + count meet at the kernel's row a and column b."""
    height, width, pixel = x.shape[1], x.shape[2], 4 * x.shape[3]
    n, place = divmod(first, out_h * out_w)
    i, j = divmod(place, out_w)
    for k in range(count):
        row, column = i * stride + a - top, j * stride + b - left
        inside = 0 <= row and row < height and 0 <= column and column < width
        plan[k] = address(x) + ((n * height + row) * width + column) * pixel if inside else outside
        j += 1
        if j == out_w:
            i, j = i + 1, 0
            if i == out_h:
                n, i = n + 1, 0


@kernel
def _weight_grad(x, outside, dy, kernel_w, stride, top, left, block_taps, block_rows, block_columns, dw):  # type: ignore[no-untyped-def]
    """dw (groups, taps, steps, K): the sums over each group's positions; `steps` numbers of x for each tap.

    A task makes one block of a group's sums, from slab after slab of positions.
    """
    groups, taps, steps, filters = dw.shape
    flat = dy.reshape(-1, filters)
    slabs = (flat.shape[0] + SLAB - 1) // SLAB
    tap_blocks, row_blocks = (taps + block_taps - 1) // block_taps, (steps + block_rows - 1) // block_rows
    column_blocks = (filters + block_columns - 1) // block_columns
    for task in prange(groups * tap_blocks * row_blocks * column_blocks):
        group, rest = task % groups, task // groups
        tap, rest = rest % tap_blocks * block_taps, rest // tap_blocks
        row, column = rest % row_blocks * block_rows, rest // row_blocks * block_columns
        rows, columns = min(block_rows, steps - row), min(block_columns, filters - column)
        plan = np.empty(SLAB, np.int64)
        panels = np.zeros((rounded(columns, WIDTH) // WIDTH, SLAB, WIDTH), np.float32)
        sums = np.zeros((min(block_taps, taps - tap), rows, rounded(columns, LANES)), np.float32)
        for slab in range(group * slabs // groups, (group + 1) * slabs // groups):
            first = slab * SLAB
            count = min(SLAB, flat.shape[0] - first)
            for p in range(panels.shape[0]):
                begin = column + p * WIDTH
                for k in range(count):
                    source, target = address(flat) + 4 * ((first + k) * filters + begin), address(panels[p, k])
                    copy(source, target, min(WIDTH, filters - begin))
            for t in range(sums.shape[0]):
                a, b = divmod(tap + t, kernel_w)
                _plan_pixels(plan, x, first, count, dy.shape[1], dy.shape[2], a, b, stride, top, left, address(outside))
                b_at, c_at, c_row = address(panels), address(sums[t]), sums.shape[2]
                multiply_transposed(plan, count, 4 * row, b_at, WIDTH, WIDTH * SLAB, rows, columns, c_at, c_row)
        for t in range(sums.shape[0]):
            for r in range(rows):
                copy(address(sums[t, r]), address(dw[group, tap + t, row + r, column:]), columns)


def conv2d_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: int, padding: Padding) -> np.ndarray:
    """y = x ∗ w + b; as `reference.conv2d_forward`, float32."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, bottom, left, right = padding
    out_h = (x.shape[1] + top + bottom - kernel_h) // stride + 1
    out_w = (x.shape[2] + left + right - kernel_w) // stride + 1
    x, w = as_float32("conv2d_forward", x), as_float32("conv2d_forward", w)
    y = empty(x.shape[0], out_h, out_w, filters)
    bias = _whole_panels(b, filters)
    if winograd.is_supported(w.shape, stride):
        winograd.convolve(x, cached(w, winograd.transformed), bias, top, left, y)
        return y
    if kn2row.is_supported(w.shape, stride):
        kn2row.convolve(x, w, bias, top, left, y)
        return y
    panels = cached(w, pack)
    rows, columns, steps = (stride, -top, 1, 0, 1, kernel_h), (stride, -left, 1, 0, 1, kernel_w), channels
    if channels <= FEW and kernel_w > 1:
        x, steps = _with_border(x, padding), kernel_w * channels
        rows, columns = (stride, 0, 1, 0, 1, kernel_h), (stride, 0, 1, 0, 1, 1)
    _convolve(x, zeros(steps), steps, panels, bias, kernel_w, np.array([[rows, columns]]), _WHOLE, 1, y)
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int, padding: Padding
) -> np.ndarray:
    """dx = Σ dy · wᵀ over the outputs that used each input; as `reference.conv2d_input_grad`, float32."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, bottom, left, right = padding
    dy, w = as_float32("conv2d_input_grad", dy), as_float32("conv2d_input_grad", w)
    # With stride 1 it is a convolution too, with the kernel turned round and its channels exchanged.
    turned = kernel_h, kernel_w, filters, channels
    border = kernel_h - 1 - top, kernel_h - 1 - bottom, kernel_w - 1 - left, kernel_w - 1 - right
    if stride == 1 and min(border) >= 0 and (kn2row.is_supported(turned, 1) or filters <= FEW and kernel_w > 1):
        return conv2d_forward(dy, transposed(w[::-1, ::-1]), None, 1, border)
    dx = empty(*x_shape)
    if winograd.is_supported(turned, stride):
        winograd.convolve(dy, winograd.transformed_turned(w), zeros(channels + WIDTH), border[0], border[2], dx)
        return dx
    if min(kernel_h, kernel_w) < stride:  # then some inputs meet no output
        dx[:] = 0
    meetings, classes = _classes(x_shape[1:3], stride, (top, left), (kernel_h, kernel_w))
    none = zeros(channels + WIDTH)
    _convolve(dy, zeros(filters), filters, pack_transposed(w), none, kernel_w, meetings, classes, stride, dx)
    return dx


@functools.cache
def _classes(
    size: tuple[int, int], stride: int, before: tuple[int, int], kernel: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The meetings of `_convolve`, and where each class begins, for the gradient by an input of this size."""
    rows, columns = (_meetings(size[i], stride, before[i], kernel[i]) for i in range(2))
    places = [(i, j) for i in rows for j in columns]
    meetings = np.array([(rows[i], columns[j]) for i, j in places], np.int64).reshape(-1, 2, 6)
    return meetings, np.array(places, np.int64).reshape(-1, 2)


def _meetings(height: int, stride: int, before: int, kernel: int) -> dict[int, tuple[int, ...]]:
    """For each i < stride the taps a that input rows i, i + stride, … meet, in rows (row + before − a) / stride of dy.

    An i whose rows meet no tap is left out.
    """
    meetings: dict[int, tuple[int, ...]] = {}
    for i in range(min(stride, height)):
        first = (i + before) % stride
        if first < kernel:
            meetings[i] = 1, (i + before - first) // stride, -1, first, stride, len(range(first, kernel, stride))
    return meetings


def conv2d_weight_grad(
    x: np.ndarray, dy: np.ndarray, kernel_size: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    """dw = xᵀ · dy for each tap; as `reference.conv2d_weight_grad`, float32."""
    (kernel_h, kernel_w), channels, filters = kernel_size, x.shape[3], dy.shape[3]
    top, _, left, _ = padding
    x, dy = as_float32("conv2d_weight_grad", x), as_float32("conv2d_weight_grad", dy)
    if winograd.is_supported((kernel_h, kernel_w, channels, filters), stride):
        return winograd.weight_grad(x, dy, top, left)
    if kn2row.is_supported((kernel_h, kernel_w, channels, filters), stride):
        return kn2row.weight_grad(x, dy, kernel_size, top, left)
    taps, steps, tap_columns = kernel_h * kernel_w, channels, kernel_w
    if channels <= FEW and kernel_w > 1:
        x, taps, steps, tap_columns = _with_border(x, padding), kernel_h, kernel_w * channels, 1
        top = left = 0
    block, groups = (taps, steps, filters), GROUPS
    if 4 * taps * steps * filters > CACHE:
        block = 1, min(steps, BLOCK_ROWS), min(filters, BLOCK_COLUMNS)
        tasks = taps * -(-steps // block[1]) * -(-filters // block[2])
        groups = next(g for g in (1, 2, GROUPS) if tasks * g >= TASKS or g == GROUPS)
    dw = empty(groups, taps, steps, filters)
    _weight_grad(x, zeros(steps), dy, tap_columns, stride, top, left, *block, dw)
    return (dw if groups == 1 else sum_first(dw)).reshape(kernel_h, kernel_w, channels, filters)


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """a·b (+ bias) for matrices, as the convolution that it is: rows are pixels, 1×1 kernels.

    A transposed matrix makes it one of the convolution's gradients, which have no bias.
    """
    a_, b_ = a[None, None], b[None, None]
    if transpose_a and transpose_b:
        return matmul(b, a).T
    if transpose_a:
        return conv2d_weight_grad(a_, b_, (1, 1), 1, _NONE)[0, 0]
    if transpose_b:
        return conv2d_input_grad(a_, b_, (1, 1, a.shape[0], b.shape[0]), 1, _NONE)[0, 0]
    return conv2d_forward(a_, b_, bias, 1, _NONE)[0, 0]


def _whole_panels(bias: np.ndarray | None, filters: int) -> np.ndarray:
    """The bias, or zeros, with room for whole panels."""
    room = -(-filters // WIDTH) * WIDTH
    if bias is None:
        return zeros(room)
    bias = as_float32("conv2d_forward", bias)
    if room == filters:
        return bias
    whole = empty(room)
    whole[:filters], whole[filters:] = bias, 0
    return as_float32("conv2d_forward", whole)


def _with_border(x: np.ndarray, padding: Padding) -> np.ndarray:
    """x with its zeros around it: then each row of a patch, kernel_w·C numbers, is one run."""
    top, bottom, left, right = padding
    return as_float32("conv2d", np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))))
