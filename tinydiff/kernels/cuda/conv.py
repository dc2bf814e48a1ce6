"""Convolution on a GPU: the tiles of `product.py`, with a left factor that is never laid out.

    y[position, k] = bias[k] + Σ_{tap, c} x[pixel(position, tap), c] · w[tap, c, k]

The gradient by the input is the same sum over dy, with w transposed; that by the weights is one product for each tap,
over the positions.
"""

from typing import Any

from numba import cuda, float32, int32

from tinydiff.device import array_module
from tinydiff.kernels.cuda.launch import Padding, as_float32, blocks, check_size, launch, uint32
from tinydiff.kernels.cuda.product import (
    ALIGNED,
    COLUMNS,
    DEPTH,
    ENOUGH,
    PART,
    ROW,
    ROWS,
    STEP,
    THREADS,
    TILE,
    add_parts,
    first_column,
    first_row,
    multiply,
    no_bias,
    nth,
)

NOWHERE = -(1 << 30)  # a row above every image


@cuda.jit(device=True)
def _pixel(i, j, apart, height, width):  # type: ignore[no-untyped-def]
    """The number in its image of the pixel at (i, j) / apart; −1 where that is outside, or no whole number."""
    if apart > 1:  # seldom: a division takes as long as dozens of multiply-adds
        if i % apart != 0 or j % apart != 0:
            return -1
        i, j = i // apart, j // apart
    if i < 0 or i >= height or j < 0 or j >= width:
        return -1
    return i * width + j


@cuda.jit
def _convolve(  # type: ignore[no-untyped-def]
    x, height, width, channels, w, kernel_w, bias, step, top, left, direction, apart, out_h, out_w, positions, y
):
    """y (parts, positions · K), each part from its share of the taps; x flat, w (taps, C · K).

    Output row i uses row (i·step + top + direction·a) / apart of x at a tap's row a; so do columns.
    """
    taps, parts = w.shape[0], y.shape[0]
    filters, depth = uint32(bias.size), uint32(channels)
    tiles = cuda.shared.array((2, DEPTH, ROW), float32, 16) if ALIGNED else cuda.shared.array((2, DEPTH, ROW), float32)
    a_tile, b_tile = tiles[0], tiles[1]
    pixels = cuda.shared.array(TILE, int32)  # where in x each position's pixel begins at the tap at hand, −1 for none
    places = cuda.local.array(ROWS, int32)  # the same of those that this thread brings
    sums = cuda.local.array((PART, PART), float32)
    t = uint32(cuda.threadIdx.x)
    row, column = first_row(t), first_column(t)
    first, right = uint32(cuda.blockIdx.x) * uint32(TILE), uint32(cuda.blockIdx.y) * uint32(TILE)
    part = cuda.blockIdx.z
    for i in range(PART):
        for j in range(PART):
            sums[i, j] = float32(0)
    k_brought, first_brought = t % uint32(DEPTH), t // uint32(DEPTH)
    filter_brought, place = uint32(right + t % uint32(TILE)), t % uint32(TILE)
    for tap in range(part * taps // parts, (part + 1) * taps // parts):
        for number in range(t, uint32(TILE), uint32(THREADS)):  # once, unless a tile has more positions than threads
            position = uint32(first + number)
            out_row = position // uint32(out_w)
            i = int32(out_row % uint32(out_h)) * step + top + direction * (tap // kernel_w)
            j = int32(position % uint32(out_w)) * step + left + direction * (tap % kernel_w)
            pixel = _pixel(i if position < uint32(positions) else NOWHERE, j, apart, height, width)
            image = int32(out_row // uint32(out_h)) * (height * width)
            pixels[number] = (image + pixel) * channels if pixel >= 0 else -1
        cuda.syncthreads()
        for r in range(ROWS):
            places[r] = pixels[first_brought + uint32(STEP * r)]
        for begin in range(uint32(0), depth, uint32(DEPTH)):
            c = uint32(begin + k_brought)  # eight threads read eight channels of a pixel
            for r in range(ROWS):
                inside = places[r] >= 0 and c < depth
                a_tile[k_brought, first_brought + uint32(STEP * r)] = (
                    x[uint32(uint32(places[r]) + c)] if inside else float32(0)
                )
            for k in range(t // uint32(TILE), uint32(DEPTH), uint32(COLUMNS)):  # TILE threads read TILE filters
                inside = uint32(begin + k) < depth and filter_brought < filters
                at = uint32(uint32(begin + k) * filters + filter_brought)
                b_tile[k, place] = w[tap, at] if inside else float32(0)
            cuda.syncthreads()
            multiply(a_tile, b_tile, row, column, sums)
            cuda.syncthreads()
    for j in range(PART):
        k = uint32(right + column + nth(j))
        if k < filters:
            more = bias[k] if part == 0 else float32(0)
            for i in range(PART):
                position = uint32(first + row + nth(i))
                if position < uint32(positions):
                    y[part, uint32(position * filters + k)] = sums[i, j] + more


@cuda.jit
def _weight_grad(x, height, width, dy, out_h, out_w, kernel_w, stride, top, left, dw):  # type: ignore[no-untyped-def]
    """dw (parts, taps, C, K), each part from its share of the positions; x (pixels, C), dy (positions, K)."""
    parts, taps = dw.shape[0], dw.shape[1]
    channels, filters, positions = uint32(x.shape[1]), uint32(dy.shape[1]), dy.shape[0]
    tiles = cuda.shared.array((2, DEPTH, ROW), float32, 16) if ALIGNED else cuda.shared.array((2, DEPTH, ROW), float32)
    a_tile, b_tile = tiles[0], tiles[1]
    pixels = cuda.shared.array(THREADS, int32)
    sums = cuda.local.array((PART, PART), float32)
    t = uint32(cuda.threadIdx.x)
    row, column = first_row(t), first_column(t)
    above, right = uint32(cuda.blockIdx.x) * uint32(TILE), uint32(cuda.blockIdx.y) * uint32(TILE)
    tap, part = cuda.blockIdx.z % taps, cuda.blockIdx.z // taps
    first, last = uint32(part * positions // parts), uint32((part + 1) * positions // parts)
    place = t % uint32(TILE)
    channel, filter_ = uint32(above + place), uint32(right + place)
    for i in range(PART):
        for j in range(PART):
            sums[i, j] = float32(0)
    for slab in range(first, last, uint32(THREADS)):
        position = uint32(slab + t)  # each thread finds one position's pixel, for all
        out_row = position // uint32(out_w)
        i = int32(out_row % uint32(out_h)) * stride - top + tap // kernel_w
        j = int32(position % uint32(out_w)) * stride - left + tap % kernel_w
        pixel = _pixel(i if position < last else NOWHERE, j, 1, height, width)
        pixels[t] = int32(out_row // uint32(out_h)) * (height * width) + pixel if pixel >= 0 else -1
        cuda.syncthreads()
        found = uint32(last - slab) if last - slab < uint32(THREADS) else uint32(THREADS)
        for begin in range(uint32(0), found, uint32(DEPTH)):
            for k in range(t // uint32(TILE), uint32(DEPTH), uint32(COLUMNS)):
                pixel = pixels[uint32(begin + k)]
                inside = pixel >= 0 and channel < channels
                a_tile[k, place] = x[uint32(pixel), channel] if inside else float32(0)
                position = uint32(slab + begin + k)
                inside = position < last and filter_ < filters
                b_tile[k, place] = dy[position, filter_] if inside else float32(0)
            cuda.syncthreads()
            multiply(a_tile, b_tile, row, column, sums)
            cuda.syncthreads()
    for i in range(PART):
        for j in range(PART):
            c, k = uint32(above + row + nth(i)), uint32(right + column + nth(j))
            if c < channels and k < filters:
                dw[part, tap, c, k] = sums[i, j]


def conv2d_forward(x: Any, w: Any, b: Any, stride: int, padding: Padding) -> Any:
    """y = x ∗ w + b; as `reference.conv2d_forward`, float32 on the GPU."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, bottom, left, right = padding
    n, height, width, _ = x.shape
    out_h, out_w = (height + top + bottom - kernel_h) // stride + 1, (width + left + right - kernel_w) // stride + 1
    xp = array_module(x)
    x, w = as_float32("conv2d_forward", x), as_float32("conv2d_forward", w)
    bias = no_bias(xp, filters) if b is None else as_float32("conv2d_forward", b)
    geometry = stride, -top, -left, 1, 1, out_h, out_w
    y = _convolved(x, w.reshape(-1, channels, filters), kernel_w, bias, geometry, n * out_h * out_w)
    return y.reshape(n, out_h, out_w, filters)


def conv2d_input_grad(dy: Any, w: Any, x_shape: tuple[int, ...], stride: int, padding: Padding) -> Any:
    """dx = Σ dy · wᵀ over the outputs that used each input; as `reference.conv2d_input_grad`."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, _, left, _ = padding
    n, height, width, _ = x_shape
    xp = array_module(dy)
    dy, w = as_float32("conv2d_input_grad", dy), as_float32("conv2d_input_grad", w)
    transposed = xp.ascontiguousarray(w.reshape(-1, channels, filters).swapaxes(1, 2))
    geometry = 1, top, left, -1, stride, height, width
    dx = _convolved(dy, transposed, kernel_w, no_bias(xp, channels), geometry, n * height * width)
    return dx.reshape(x_shape)


def _convolved(x: Any, w: Any, kernel_w: int, bias: Any, geometry: tuple[int, ...], positions: int) -> Any:
    """The (positions, K) sums of `_convolve`."""
    _, height, width, channels = x.shape
    taps, _, filters = w.shape
    tiles = blocks(positions, TILE), blocks(filters, TILE)
    parts = taps_apart(taps, blocks(ENOUGH, tiles[0] * tiles[1]))
    check_size("conv2d", (positions, filters))
    y = array_module(x).empty((parts, positions * filters), x.dtype)
    image, weights = (x.reshape(-1), height, width, channels), (w.reshape(taps, -1), kernel_w, bias)
    launch(_convolve, (*tiles, parts), THREADS, *image, *weights, *geometry, positions, y)
    return add_parts(y)


def taps_apart(taps: int, parts: int) -> int:
    """The least number of equal parts, of so many at least, that the taps fall into; else each tap is one."""
    return next((size for size in range(parts, taps) if taps % size == 0), taps) if parts < taps else taps


def conv2d_weight_grad(x: Any, dy: Any, kernel_size: tuple[int, int], stride: int, padding: Padding) -> Any:
    """dw = xᵀ · dy for each tap; as `reference.conv2d_weight_grad`."""
    (kernel_h, kernel_w), channels, filters = kernel_size, x.shape[3], dy.shape[3]
    top, _, left, _ = padding
    x, dy = as_float32("conv2d_weight_grad", x), as_float32("conv2d_weight_grad", dy)
    _, height, width, _ = x.shape
    n, out_h, out_w, _ = dy.shape
    taps, tiles = kernel_h * kernel_w, (blocks(channels, TILE), blocks(filters, TILE))
    parts = min(blocks(ENOUGH, taps * tiles[0] * tiles[1]), blocks(n * out_h * out_w, TILE))
    dw = array_module(x).empty((parts, taps, channels, filters), x.dtype)
    x, dy = x.reshape(-1, channels), dy.reshape(-1, filters)
    grid, geometry = (*tiles, taps * parts), (out_h, out_w, kernel_w, stride, top, left)
    launch(_weight_grad, grid, THREADS, x, height, width, dy, *geometry, dw)
    return add_parts(dw).reshape(kernel_h, kernel_w, channels, filters)
