"""Direct convolution on the micro-kernel: no patch is ever copied.

An output position's patch is KH·KW runs of C numbers, one for each tap of the kernel, and the indirection buffer says
where each run begins in the image, or that it lies outside and is zeros.  The micro-kernel follows it through the taps:

    y[position, :] = b + Σ_{tap, c} x[buffer(position, tap) + c] · w[tap, c, :]

A block counts positions through all images, so 4×4 feature maps fill it as well as large ones.  A 1×1 convolution
has one tap and is the plain matrix product, so linear layers run here too.

The gradient by the input is the same sum over dy: each input position sums over the outputs that used it.  With stride
s the positions fall into s·s phases, and those of one phase use the same taps.  The gradient by the weights is, for
each tap, the product of the positions' pixels, transposed, and dy.
Every task writes its own part of the result and sums in one order: the same bits for any number of threads.
"""

import functools
import math
from collections import namedtuple

import numpy as np
from numba import get_num_threads, prange

from tinydiff.kernels.cpu import kn2row, winograd
from tinydiff.kernels.cpu.arrays import Geometry, as_float32, empty, zeros
from tinydiff.kernels.cpu.data_movement import sum_positions, transposed
from tinydiff.kernels.cpu.gemm import (
    Matrix,
    Panels,
    Size,
    as_matrix,
    as_panels,
    gemm,
    gemm_transposed,
    pack,
    pack_transposed,
)
from tinydiff.kernels.cpu.indirection import Positions, TapMap, fill_buffer, fill_taps
from tinydiff.kernels.cpu.jit import address, helper, kernel, rounded
from tinydiff.kernels.cpu.micro_kernel import ENTRY, ROWS, WIDTH
from tinydiff.kernels.cpu.vectors import LANES, copy
from tinydiff.kernels.memory import cached
from tinydiff.kernels.recording import run_op

Padding = tuple[int, int, int, int]
BLOCK = 4 * ROWS  # output positions in a task
LARGE, LARGEST = 1 << 21, 32 * ROWS  # where weights take more bytes, all tasks read them anew: positions in a task then
SHORT = 8  # channels, or fewer: too short a run, so a run is a whole row of the kernel
# The gradient by the weights: if it is larger than CACHE (bytes), a task makes a block of so many channels and filters
# of one tap; a task adds a SLAB of positions at a time, whose panel of dy leaves room in the first cache; and where
# there would be fewer than TASKS, up to GROUPS of positions are summed apart.
CACHE, BLOCK_ROWS, BLOCK_COLUMNS = 1 << 18, 16 * ROWS, 4 * WIDTH
SLAB, TASKS, GROUPS = 128, 8, 4
_WHOLE = np.zeros((1, 2), np.int64)  # all positions of y as one phase
_NONE = (0, 0, 0, 0)  # no padding
Share = namedtuple("Share", "rows columns")  # output positions and filters in a task
Block = namedtuple("Block", "taps rows columns")  # how much of the gradient by the weights one task makes


@helper
def _tap_map(numbers):  # type: ignore[no-untyped-def]
    """A row of an array as the TapMap that it is."""
    return TapMap(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5])


@kernel
def _convolve(x, outside, steps, panels, bias, kernel_w, tap_maps, phases, apart, share, y):  # type: ignore[no-untyped-def]
    """`steps` numbers of x for each tap.  The positions of y fall into phases, of which each has its tap maps (2, 6) by
    rows and by columns; `phases` (…, 2) says where each begins, and from there on its positions lie `apart`.
    """
    filters, longest = y.shape[3], (y.shape[1] + apart - 1) // apart * ((y.shape[2] + apart - 1) // apart)
    straight = apart == 1 and filters % LANES == 0  # the micro-kernel may write to y itself
    parts = (filters + share.columns - 1) // share.columns
    for task in prange(len(phases) * parts * ((y.shape[0] * longest + share.rows - 1) // share.rows)):
        phase, rest = task % len(phases), task // len(phases)
        begin, first = rest % parts * share.columns, rest // parts * share.rows
        width = min(share.columns, filters - begin)
        row, column = phases[phase]
        rows, columns = _tap_map(tap_maps[phase, 0]), _tap_map(tap_maps[phase, 1])
        out_h, out_w = (y.shape[1] - row + apart - 1) // apart, (y.shape[2] - column + apart - 1) // apart
        count = max(0, min(share.rows, y.shape[0] * out_h * out_w - first))  # some phases are smaller
        buffer = np.empty(((count + ROWS - 1) // ROWS, rows.taps * columns.taps, ENTRY), np.int64)
        fill_buffer(buffer, ROWS, x, Positions(first, first + count, out_h, out_w), rows, columns, address(outside))
        fill_taps(buffer, rows, columns, kernel_w, x.shape[3])
        block = np.empty((0 if straight else count, rounded(width, LANES)), np.float32)
        c = Matrix(address(y) + 4 * (first * filters + begin), filters) if straight else as_matrix(block)
        b = Panels(address(panels) + 4 * begin * panels.shape[1], WIDTH, WIDTH * panels.shape[1])
        gemm(buffer, 0, Size(count, width, steps), b, address(bias) + 4 * begin, c)
        if not straight:
            for r in range(count):
                n, place = divmod(first + r, out_h * out_w)
                i, j = divmod(place, out_w)
                copy(address(block[r]), address(y[n, row + apart * i, column + apart * j, begin:]), width)


@kernel
def _weight_grad(x, outside, dy, geometry, block, dw):  # type: ignore[no-untyped-def]
    """dw (groups, taps, steps, K), with `steps` numbers of x for each tap.

    A task makes one block of a group's sums, from slab after slab of the group's positions.
    """
    (groups, taps, steps, filters), stride = dw.shape, geometry.stride
    flat = dy.reshape(-1, filters)
    slabs = (flat.shape[0] + SLAB - 1) // SLAB
    tap_blocks, row_blocks = (taps + block.taps - 1) // block.taps, (steps + block.rows - 1) // block.rows
    column_blocks = (filters + block.columns - 1) // block.columns
    for task in prange(groups * tap_blocks * row_blocks * column_blocks):
        group, rest = task % groups, task // groups
        tap, rest = rest % tap_blocks * block.taps, rest // tap_blocks
        row, column = rest % row_blocks * block.rows, rest // row_blocks * block.columns
        rows, columns = min(block.rows, steps - row), min(block.columns, filters - column)
        buffer = np.empty((SLAB, 1, 1), np.int64)
        panels = np.zeros((rounded(columns, WIDTH) // WIDTH, SLAB, WIDTH), np.float32)
        sums = np.zeros((min(block.taps, taps - tap), rows, rounded(columns, LANES)), np.float32)
        for slab in range(group * slabs // groups, (group + 1) * slabs // groups):
            first = slab * SLAB
            count = min(SLAB, flat.shape[0] - first)
            for p in range(panels.shape[0]):
                begin = column + p * WIDTH
                for k in range(count):
                    source, target = address(flat) + 4 * ((first + k) * filters + begin), address(panels[p, k])
                    copy(source, target, min(WIDTH, filters - begin))
            for t in range(sums.shape[0]):
                p, q = divmod(tap + t, geometry.kernel_w)
                by_row = TapMap(stride, p - geometry.top, 1, p, 1, 1)
                by_column = TapMap(stride, q - geometry.left, 1, q, 1, 1)
                positions = Positions(first, first + count, dy.shape[1], dy.shape[2])
                fill_buffer(buffer, 1, x, positions, by_row, by_column, address(outside))
                gemm_transposed(buffer, 4 * row, Size(rows, columns, count), as_panels(panels), as_matrix(sums[t]))
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
    if winograd.is_supported(w.shape, stride, out_h * out_w):
        winograd.convolve(x, cached(w, winograd.transformed), bias, top, left, y)
        return y
    if kn2row.is_supported(w.shape, stride):
        kn2row.convolve(x, w, bias, top, left, y)
        return y
    rows, columns = TapMap(stride, -top, 1, 0, 1, kernel_h), TapMap(stride, -left, 1, 0, 1, kernel_w)
    panels, steps = cached(w, pack), channels
    if channels <= SHORT and kernel_w > 1:
        x, steps = _with_border(x, padding), kernel_w * channels
        rows, columns = TapMap(stride, 0, 1, 0, 1, kernel_h), TapMap(stride, 0, 1, 0, 1, 1)
    share = _share(y.shape[0] * out_h * out_w, filters, panels)
    _convolve(x, zeros(steps), steps, panels, bias, kernel_w, np.array([[rows, columns]]), _WHOLE, 1, share, y)
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int, padding: Padding
) -> np.ndarray:
    """dx = Σ dy · wᵀ over the outputs that used each input; as `reference.conv2d_input_grad`, float32."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, bottom, left, right = padding
    dy, w = as_float32("conv2d_input_grad", dy), as_float32("conv2d_input_grad", w)
    # With stride 1 it is a convolution too, with the kernel rotated by 180° and its channels exchanged.
    rotated = kernel_h, kernel_w, filters, channels
    border = kernel_h - 1 - top, kernel_h - 1 - bottom, kernel_w - 1 - left, kernel_w - 1 - right
    if stride == 1 and min(border) >= 0 and (kn2row.is_supported(rotated, 1) or filters <= SHORT and kernel_w > 1):
        return conv2d_forward(dy, transposed(w[::-1, ::-1]), None, 1, border)
    unused = min(kernel_h, kernel_w) < stride  # some of the inputs, by any output
    dx, none = run_op(_all_zero, (x_shape,))[0] if unused else empty(*x_shape), zeros(channels + WIDTH)
    if winograd.is_supported(rotated, stride, x_shape[1] * x_shape[2]):
        winograd.convolve(dy, winograd.transformed_rotated(w), none, border[0], border[2], dx)
        return dx
    tap_maps, phases = _phases(x_shape[1:3], stride, (top, left), (kernel_h, kernel_w))
    panels = pack_transposed(w)
    share = _share(math.prod(x_shape[:3]), channels, panels)
    _convolve(dy, zeros(filters), filters, panels, none, kernel_w, tap_maps, phases, stride, share, dx)
    return dx


def _share(positions: int, filters: int, weights: np.ndarray) -> Share:
    """What a task of `_convolve` makes, the same for each thread.

    Each task reads the weights of its filters once.  Where they are many that takes time, so a task has many positions;
    where positions are few, each thread makes all of them for some of the filters.
    """
    threads, panels, many = get_num_threads(), -(-filters // WIDTH), weights.nbytes > LARGE
    most = LARGEST if many else BLOCK
    parts = min(threads, panels) if positions <= (most if many else ROWS) else 1
    blocks = threads * -(-positions // (threads * most)) if parts == 1 else 1
    rows = max(1, -(-positions // (blocks * ROWS))) * ROWS
    return Share(rows, -(-panels // parts) * WIDTH)


@functools.cache
def _phases(size: tuple, stride: int, before: tuple, kernel: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The tap maps of `_convolve`, and where each phase begins, for the gradient by an input of this size."""
    rows, columns = (_tap_maps(size[i], stride, before[i], kernel[i]) for i in range(2))
    phases = [(i, j) for i in rows for j in columns]
    tap_maps = np.array([(rows[i], columns[j]) for i, j in phases], np.int64).reshape(-1, 2, 6)
    return tap_maps, np.array(phases, np.int64).reshape(-1, 2)


def _tap_maps(height: int, stride: int, before: int, kernel: int) -> dict[int, TapMap]:
    """For each i < stride the taps p that input rows i, i + stride, … use, with rows (row + before − p) / stride of dy.

    An i whose rows use no tap is left out.
    """
    tap_maps = {}
    for i in range(min(stride, height)):
        first = (i + before) % stride
        if first < kernel:
            taps = len(range(first, kernel, stride))
            tap_maps[i] = TapMap(1, (i + before - first) // stride, -1, first, stride, taps)
    return tap_maps


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
    geometry, steps = Geometry(kernel_h, kernel_w, stride, top, left), channels
    if channels <= SHORT and kernel_w > 1:
        x, geometry, steps = _with_border(x, padding), Geometry(kernel_h, 1, stride, 0, 0), kernel_w * channels
    taps = geometry.kernel_h * geometry.kernel_w
    block, groups = Block(taps, steps, filters), GROUPS
    if 4 * taps * steps * filters > CACHE:
        block = Block(1, min(steps, BLOCK_ROWS), min(filters, BLOCK_COLUMNS))
        tasks = taps * -(-steps // block.rows) * -(-filters // block.columns)
        groups = next(g for g in (1, 2, GROUPS) if tasks * g >= TASKS or g == GROUPS)
    dw = empty(groups, taps, steps, filters)
    _weight_grad(x, zeros(steps), dy, geometry, block, dw)
    total = dw if groups == 1 else sum_positions(dw.reshape(1, groups, -1))
    return total.reshape(kernel_h, kernel_w, channels, filters)


def matmul(
    a: np.ndarray, b: np.ndarray, transpose_a: bool = False, transpose_b: bool = False, bias: np.ndarray | None = None
) -> np.ndarray:
    """a·b (+ bias) as a 1×1 convolution over rows; a transposed matrix makes it one of its gradients, without bias."""
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
    return as_float32("conv2d_forward", run_op(_filled_up, (bias, room))[0])


def _filled_up(a: np.ndarray, size: int) -> tuple[np.ndarray]:
    """a (K,) with zeros behind it: (size,)."""
    whole = np.zeros(size, np.float32)  # np.pad takes ten times as long
    whole[: len(a)] = a
    return (whole,)


def _all_zero(shape: tuple[int, ...]) -> tuple[np.ndarray]:
    """Zeros, in every replay anew."""
    return (np.zeros(shape, np.float32),)


def _with_border(x: np.ndarray, padding: Padding) -> np.ndarray:
    """x with its zeros around it: then each row of a patch, kernel_w·C numbers, is one run."""
    top, bottom, left, right = padding

    def padded(x: np.ndarray) -> tuple[np.ndarray]:
        n, height, width, channels = x.shape
        y = np.zeros((n, top + height + bottom, left + width + right, channels), np.float32)
        y[:, top : top + height, left : left + width] = x
        return (y,)

    return as_float32("conv2d", run_op(padded, (x,))[0])
