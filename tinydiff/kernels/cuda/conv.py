"""Convolution on a GPU: a product of matrices in tiles, of which the left one is never laid out.

    y[position, k] = bias[k] + Σ_{tap, c} x[pixel(position, tap), c] · w[tap, c, k]

A block of threads makes a tile of 64 positions × 64 filters.  For one tap and 8 channels at a time its threads bring the
tile's numbers of x and w into shared memory, and each thread multiplies and adds an 8 × 8 part of the tile, whose 64
sums stay in registers: 16 numbers are read there for 64 multiply-adds, and each number of x and w comes 64 times less
often from the card's memory than in `plain.py`.  (Volkov & Demmel 2008, doi:10.1109/SC.2008.5214359)

The gradient by the input is the same sum over dy, with w transposed; that by the weights is one such product for each
tap, over the positions, whose parts are summed in one order: the same bits every time.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, int64

from tinydiff.arrays import array_module, simulated
from tinydiff.kernels.cuda.launch import as_float32, blocks, launch

Padding = tuple[int, int, int, int]

# A block's tile is TILE × TILE, over DEPTH numbers at a time, and a thread's part of it PART × PART; Numba's simulator
# runs every thread in Python, so there all is smaller.
TILE, DEPTH, PART = (16, 4, 4) if simulated() else (64, 8, 8)
SIDE = TILE // PART  # threads along each side of a tile
THREADS = SIDE * SIDE
STEP = THREADS // DEPTH  # rows of a tile that are brought at once: eight threads bring the eight channels of a row
ROWS = TILE // STEP  # that a thread brings
ROW = TILE + 4  # numbers from row to row in shared memory: so that threads which write together meet different banks
ENOUGH = 512  # blocks keep a card busy; where there are fewer, the gradient by the weights is made in parts


@cuda.jit(device=True)
def _multiply(a, b, y, x, sums):  # type: ignore[no-untyped-def]
    """The thread's part of aᵀ·b, added to its sums; a and b are (DEPTH, TILE), thread (y, x) takes every SIDE-th row."""
    for k in range(DEPTH):
        for i in range(PART):
            for j in range(PART):
                sums[i, j] += a[k, y + SIDE * i] * b[k, x + SIDE * j]


@cuda.jit(device=True)
def _source(i, step, offset, direction, tap, apart, size):  # type: ignore[no-untyped-def]
    """The row (or column) that output i meets at a tap, or −1 where it lies outside or between."""
    place = i * step + offset + direction * tap
    if place < 0 or place % apart != 0 or place // apart >= size:
        return -1
    return place // apart


@cuda.jit
def _convolve(x, height, width, w, kernel_h, kernel_w, bias, step, top, left, direction, apart, out_h, out_w, y):  # type: ignore[no-untyped-def]
    """y (positions, K), x (pixels, C), w (taps, C, K): output row i meets row (i·step + top + direction·a) / apart of x."""
    positions, filters = y.shape
    channels = x.shape[1]
    a_tile = cuda.shared.array((DEPTH, ROW), float32)
    b_tile = cuda.shared.array((DEPTH, ROW), float32)
    sums = cuda.local.array((PART, PART), float32)
    pixels = cuda.local.array(ROWS, int64)  # that this thread reads for a tap, or −1
    thread = cuda.threadIdx.x
    t_y, t_x = thread // SIDE, thread % SIDE
    first, column = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for i in range(PART):
        for j in range(PART):
            sums[i, j] = float32(0)
    for a in range(kernel_h):
        for b in range(kernel_w):
            for r in range(ROWS):
                position, pixel = first + thread // DEPTH + STEP * r, int64(-1)
                if position < positions:
                    i = _source(position // out_w % out_h, step, top, direction, a, apart, height)
                    j = _source(position % out_w, step, left, direction, b, apart, width)
                    if i >= 0 and j >= 0:
                        pixel = (position // (out_h * out_w) * height + i) * width + j
                pixels[r] = pixel
            for begin in range(0, channels, DEPTH):
                c = begin + thread % DEPTH  # eight threads read eight channels of a pixel
                for r in range(ROWS):
                    inside = pixels[r] >= 0 and c < channels
                    a_tile[thread % DEPTH, thread // DEPTH + STEP * r] = x[pixels[r], c] if inside else float32(0)
                for k in range(DEPTH):  # the block's threads read neighbouring filters
                    inside = begin + k < channels and column + thread < filters
                    b_tile[k, thread] = w[a * kernel_w + b, begin + k, column + thread] if inside else float32(0)
                cuda.syncthreads()
                _multiply(a_tile, b_tile, t_y, t_x, sums)
                cuda.syncthreads()
    for i in range(PART):
        for j in range(PART):
            position, k = first + t_y + SIDE * i, column + t_x + SIDE * j
            if position < positions and k < filters:
                y[position, k] = sums[i, j] + bias[k]


@cuda.jit
def _weight_grad(x, height, width, dy, out_h, out_w, kernel_w, stride, top, left, dw):  # type: ignore[no-untyped-def]
    """dw (parts, taps, C, K), each part from its share of the positions; x (pixels, C), dy (positions, K)."""
    parts, taps, channels, filters = dw.shape
    positions = dy.shape[0]
    a_tile = cuda.shared.array((DEPTH, ROW), float32)
    b_tile = cuda.shared.array((DEPTH, ROW), float32)
    pixels = cuda.shared.array(DEPTH, int64)
    sums = cuda.local.array((PART, PART), float32)
    thread = cuda.threadIdx.x
    t_y, t_x = thread // SIDE, thread % SIDE
    row, column = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    tap, part = cuda.blockIdx.z % taps, cuda.blockIdx.z // taps
    first, last = part * positions // parts, (part + 1) * positions // parts
    for i in range(PART):
        for j in range(PART):
            sums[i, j] = float32(0)
    for begin in range(first, last, DEPTH):
        if thread < DEPTH:  # one thread finds a position's pixel, for all
            position, pixel = begin + thread, int64(-1)
            if position < last:
                i = _source(position // out_w % out_h, stride, -top, 1, tap // kernel_w, 1, height)
                j = _source(position % out_w, stride, -left, 1, tap % kernel_w, 1, width)
                if i >= 0 and j >= 0:
                    pixel = (position // (out_h * out_w) * height + i) * width + j
            pixels[thread] = pixel
        cuda.syncthreads()
        for k in range(DEPTH):
            inside = pixels[k] >= 0 and row + thread < channels
            a_tile[k, thread] = x[pixels[k], row + thread] if inside else float32(0)
            inside = begin + k < last and column + thread < filters
            b_tile[k, thread] = dy[begin + k, column + thread] if inside else float32(0)
        cuda.syncthreads()
        _multiply(a_tile, b_tile, t_y, t_x, sums)
    for i in range(PART):
        for j in range(PART):
            c, k = row + t_y + SIDE * i, column + t_x + SIDE * j
            if c < channels and k < filters:
                dw[part, tap, c, k] = sums[i, j]


def conv2d_forward(x: Any, w: Any, stride: int, padding: Padding, bias: Any = None) -> Any:
    """y = x ∗ w (+ bias); as `reference.conv2d_forward`, float32 on the card."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, bottom, left, right = padding
    n, height, width, _ = x.shape
    out_h, out_w = (height + top + bottom - kernel_h) // stride + 1, (width + left + right - kernel_w) // stride + 1
    xp = array_module(x)
    x, w = as_float32("conv2d_forward", x), as_float32("conv2d_forward", w)
    bias = xp.zeros(filters, x.dtype) if bias is None else as_float32("conv2d_forward", bias)
    y = xp.empty((n * out_h * out_w, filters), x.dtype)
    grid = blocks(len(y), TILE), blocks(filters, TILE)
    geometry = stride, -top, -left, 1, 1, out_h, out_w
    x, w = x.reshape(-1, channels), w.reshape(-1, channels, filters)
    launch(_convolve, grid, THREADS, x, height, width, w, kernel_h, kernel_w, bias, *geometry, y)
    return y.reshape(n, out_h, out_w, filters)


def conv2d_input_grad(dy: Any, w: Any, x_shape: tuple[int, ...], stride: int, padding: Padding) -> Any:
    """dx = Σ dy · wᵀ over the outputs that used each input; as `reference.conv2d_input_grad`."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, _, left, _ = padding
    n, height, width, _ = x_shape
    xp = array_module(dy)
    dy, w = as_float32("conv2d_input_grad", dy), as_float32("conv2d_input_grad", w)
    transposed = xp.ascontiguousarray(w.reshape(-1, channels, filters).swapaxes(1, 2))
    dx, none = xp.empty((n * height * width, channels), dy.dtype), xp.zeros(channels, dy.dtype)
    grid = blocks(len(dx), TILE), blocks(channels, TILE)
    geometry = 1, top, left, -1, stride, height, width
    sizes, dy = dy.shape[1:3], dy.reshape(-1, filters)
    launch(_convolve, grid, THREADS, dy, *sizes, transposed, kernel_h, kernel_w, none, *geometry, dx)
    return dx.reshape(x_shape)


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
    return dw.sum(0).reshape(kernel_h, kernel_w, channels, filters)
