"""Convolution: gather a block of patches, multiply it by all filters on the register tile, go on to the next.

A row of the block is one output position's patch, KH·KW·C numbers in the order of the weights, so that the block
times the weights, taken as a (KH·KW·C, K) matrix, is a block of outputs.  A block counts positions through all
pictures, so 4×4 feature maps fill it as well as large ones; it stays in the second cache, and no whole im2col matrix
ever exists.  A 1×1 convolution is the plain matrix product, so linear layers run here too.

The gradient by the input is the same gathering over dy: `dilation` spreads dy's pixels `stride` apart, and the
kernel is turned round.  The gradient by the weights multiplies transposed blocks of patches by blocks of dy.
Every task writes its own part of the result and sums in one order: the same bits for any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.jit import helper, kernel
from tinydiff.kernels.cpu.product import multiply_block, pack, pack_slabs
from tinydiff.kernels.cpu.tile import ROWS, WIDTH

Padding = tuple[int, int, int, int]
BLOCK = 48  # output positions in a task: a multiple of every tile's rows
DEPTH = 96  # positions that the gradient by the weights takes at a time
COLUMNS = 144  # rows of dw, that is columns of the patches, in a task
GROUPS = 4  # parts of the positions whose sums are kept apart, so that there are tasks enough


@helper
def gather(x, first, count, out_h, out_w, kernel_w, stride, dilation, top, left, begin, end, patches):  # type: ignore[no-untyped-def]
    """Columns begin … end of the patches of `count` output positions from `first` on; zeros outside the picture."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    pixels = x.reshape(-1)
    first_tap, first_channel = divmod(begin, channels)
    first_a, first_b = divmod(first_tap, kernel_w)
    for r in range(count):
        n, place = divmod(first + r, out_h * out_w)
        i, j = divmod(place, out_w)
        a, b, c, at = first_a, first_b, first_channel, begin
        while at < end:
            row, column = i * stride + a - top, j * stride + b - left
            inside = 0 <= row and 0 <= column
            taps = 1
            if dilation > 1:
                inside = inside and row % dilation == 0 and column % dilation == 0
                row, column = row // dilation, column // dilation
            elif 0 <= column and column + kernel_w - b <= width:
                taps = kernel_w - b  # the rest of this row of the kernel is one run of numbers in the picture too
            length = min(taps * channels - c, end - at)
            if inside and row < height and column < width:
                source = ((n * height + row) * width + column) * channels + c
                for t in range(length):
                    patches[r, at - begin + t] = pixels[source + t]
            else:
                for t in range(length):
                    patches[r, at - begin + t] = np.float32(0)
            at += length
            b, c = b + taps, 0
            if b >= kernel_w:
                a, b = a + 1, 0


@kernel
def _convolve(x, panels, bias, kernel_w, stride, dilation, top, left, y):  # type: ignore[no-untyped-def]
    n_images, out_h, out_w, filters = y.shape
    positions, steps = n_images * out_h * out_w, panels.shape[1]
    rows = y.reshape(positions, filters)
    for task in prange((positions + BLOCK - 1) // BLOCK):
        first = task * BLOCK
        count = min(BLOCK, positions - first)
        patches = np.empty((BLOCK, steps), np.float32)
        block = np.empty((BLOCK, panels.shape[0] * WIDTH), np.float32)
        gather(x, first, count, out_h, out_w, kernel_w, stride, dilation, top, left, 0, steps, patches)
        multiply_block(patches.ctypes.data, steps, 1, count, panels, block, False)
        for r in range(count):
            for k in range(filters):
                rows[first + r, k] = block[r, k] + bias[k]


@kernel
def _weight_grad(x, slabs, out_h, out_w, kernel_w, stride, top, left, columns, dw):  # type: ignore[no-untyped-def]
    groups, steps, filters = dw.shape
    positions = x.shape[0] * out_h * out_w
    for task in prange(groups * ((steps + columns - 1) // columns)):
        group, begin = task % groups, task // groups * columns
        end = min(steps, begin + columns)
        patches = np.zeros((DEPTH, columns), np.float32)
        block = np.zeros((columns, slabs.shape[1] * WIDTH), np.float32)
        for slab in range(group * slabs.shape[0] // groups, (group + 1) * slabs.shape[0] // groups):
            first = slab * DEPTH
            count = min(DEPTH, positions - first)
            gather(x, first, count, out_h, out_w, kernel_w, stride, 1, top, left, begin, end, patches)
            patches[count:] = np.float32(0)
            multiply_block(patches.ctypes.data, 1, columns, end - begin, slabs[slab], block, True)
        for r in range(end - begin):
            for k in range(filters):
                dw[group, begin + r, k] = block[r, k]


def conv2d_forward(
    x: np.ndarray, w: np.ndarray, stride: int, padding: Padding, bias: np.ndarray | None = None
) -> np.ndarray:
    """y = x ∗ w (+ bias); as `reference.conv2d_forward`, float32."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, bottom, left, right = padding
    out_h = (x.shape[1] + top + bottom - kernel_h) // stride + 1
    out_w = (x.shape[2] + left + right - kernel_w) // stride + 1
    y = np.empty((x.shape[0], out_h, out_w, filters), np.float32)
    bias = as_float32("conv2d_forward", np.zeros(filters, np.float32) if bias is None else bias)
    panels = pack(as_float32("conv2d_forward", w).reshape(-1, filters))
    _convolve(as_float32("conv2d_forward", x), panels, bias, kernel_w, stride, 1, top, left, y)
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int, padding: Padding
) -> np.ndarray:
    """dx = dy ∗ (w turned round, its channels exchanged); as `reference.conv2d_input_grad`, float32."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, _, left, _ = padding
    turned = as_float32("conv2d_input_grad", w[::-1, ::-1].transpose(0, 1, 3, 2))
    panels = pack(turned.reshape(-1, channels))
    dx = np.empty(x_shape, np.float32)
    dy = as_float32("conv2d_input_grad", dy)
    none = as_float32("conv2d_input_grad", np.zeros(channels, np.float32))
    _convolve(dy, panels, none, kernel_w, 1, stride, kernel_h - 1 - top, kernel_w - 1 - left, dx)
    return dx


def conv2d_weight_grad(
    x: np.ndarray, dy: np.ndarray, kernel_size: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    """dw = patches of xᵀ · dy; as `reference.conv2d_weight_grad`, float32."""
    (kernel_h, kernel_w), channels, filters = kernel_size, x.shape[3], dy.shape[3]
    top, _, left, _ = padding
    steps = kernel_h * kernel_w * channels
    tasks = -(-steps // COLUMNS)
    columns = ROWS * -(-steps // (tasks * ROWS))  # nearly equal tasks, each a whole number of tiles
    slabs = pack_slabs(as_float32("conv2d_weight_grad", dy).reshape(-1, filters), DEPTH)
    dw = np.empty((GROUPS, steps, filters), np.float32)
    x = as_float32("conv2d_weight_grad", x)
    _weight_grad(x, slabs, dy.shape[1], dy.shape[2], kernel_w, stride, top, left, columns, dw)
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


def as_float32(name: str, x: np.ndarray) -> np.ndarray:
    """x, contiguous and read-only: what a kernel reads.  Raises TypeError unless it is float32.

    Numba compiles one version for each combination of types, layouts and read-only flags, and may use any version
    that fits.  Two versions can round differently, so that results would depend on what was called before: hence one.
    """
    if x.dtype != np.float32:
        raise TypeError(f'{name}: backend "cpu" computes in float32, not {x.dtype}; use("numpy") takes any float type')
    x = np.ascontiguousarray(x).view()
    x.setflags(write=False)
    return x
