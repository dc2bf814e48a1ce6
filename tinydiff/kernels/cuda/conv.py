"""Convolution on a GPU: a product of matrices in tiles, of which the left one is never laid out.

    y[position, k] = bias[k] + Σ_{tap, c} x[pixel(position, tap), c] · w[tap, c, k]

A block of threads makes a tile of 64 positions × 64 filters.  For one tap and 8 channels at a time its threads bring
the tile's numbers of x and w into shared memory, and each thread multiplies and adds an 8 × 8 part of the tile, whose
64 sums stay in registers: 16 numbers are read there for 64 multiply-adds, and each number of x and w comes 64 times
less often from the GPU's memory than in `naive.py`.  (Volkov & Demmel 2008, doi:10.1109/SC.2008.5214359)

The gradient by the input is the same sum over dy, with w transposed; that by the weights is one such product for each
tap, over the positions.  Where tiles are few, a sum is made in parts, by more blocks; these are added in one order: the
same bits every time.
"""

from typing import Any

from numba import cuda, float32, int32

from tinydiff.device import array_module, simulated
from tinydiff.kernels.cuda.launch import Padding, as_float32, blocks, launch

# A block's tile is TILE × TILE, over DEPTH numbers at a time, and a thread's part of it PART × PART.  ENOUGH blocks
# keep a GPU busy; where there are fewer, a sum over taps or positions is made in parts.  Numba's simulator runs every
# thread in Python, so there all is smaller.
TILE, DEPTH, PART, ENOUGH = (16, 4, 4, 3) if simulated() else (64, 8, 8, 512)
SIDE = TILE // PART  # threads along each side of a tile
THREADS = SIDE * SIDE
STEP = THREADS // DEPTH  # rows of a tile that are brought at once: eight threads bring the eight channels of a row
ROWS = TILE // STEP  # that a thread brings
ROW = TILE + 4  # numbers from row to row in shared memory: so that threads which write together use different banks
NOWHERE = -(1 << 30)  # a row above every image


@cuda.jit(device=True)
def _multiply(a, b, y, x, sums):  # type: ignore[no-untyped-def]
    """The thread's part of aᵀ·b, added to its sums; a and b are (DEPTH, TILE), thread (y, x) has every SIDE-th row."""
    for k in range(DEPTH):
        for i in range(PART):
            for j in range(PART):
                sums[i, j] += a[k, y + SIDE * i] * b[k, x + SIDE * j]


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
def _convolve(x, height, width, w, kernel_w, bias, step, top, left, direction, apart, out_h, out_w, y):  # type: ignore[no-untyped-def]
    """y (parts, positions, K), each part from its share of the taps; x flat, w (taps, C, K).

    Output row i uses row (i·step + top + direction·a) / apart of x at a tap's row a; so do columns.
    """
    parts, positions, filters = y.shape
    taps, channels = w.shape[0], w.shape[1]
    a_tile = cuda.shared.array((DEPTH, ROW), float32)
    b_tile = cuda.shared.array((DEPTH, ROW), float32)
    sums = cuda.local.array((PART, PART), float32)
    rows = cuda.local.array(ROWS, int32)  # where the pixels are that this thread brings for the first tap,
    columns = cuda.local.array(ROWS, int32)
    images = cuda.local.array(ROWS, int32)
    places = cuda.local.array(ROWS, int32)  # and where in x those of the tap at hand begin, −1 for none
    thread = cuda.threadIdx.x
    t_y, t_x = thread // SIDE, thread % SIDE
    first, column, part = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE, cuda.blockIdx.z
    for i in range(PART):
        for j in range(PART):
            sums[i, j] = float32(0)
    for r in range(ROWS):
        position = first + thread // DEPTH + STEP * r
        rows[r] = position // out_w % out_h * step + top if position < positions else NOWHERE
        columns[r] = position % out_w * step + left
        images[r] = position // (out_h * out_w) * (height * width)
    for tap in range(part * taps // parts, (part + 1) * taps // parts):
        a, b = tap // kernel_w, tap % kernel_w
        for r in range(ROWS):
            pixel = _pixel(rows[r] + direction * a, columns[r] + direction * b, apart, height, width)
            places[r] = (images[r] + pixel) * channels if pixel >= 0 else -1
        for begin in range(0, channels, DEPTH):
            c = begin + thread % DEPTH  # eight threads read eight channels of a pixel
            for r in range(ROWS):
                inside = places[r] >= 0 and c < channels
                a_tile[thread % DEPTH, thread // DEPTH + STEP * r] = x[places[r] + c] if inside else float32(0)
            for k in range(DEPTH):  # the block's threads read neighbouring filters
                inside = begin + k < channels and column + thread < filters
                b_tile[k, thread] = w[tap, begin + k, column + thread] if inside else float32(0)
            cuda.syncthreads()
            _multiply(a_tile, b_tile, t_y, t_x, sums)
            cuda.syncthreads()
    for i in range(PART):
        for j in range(PART):
            position, k = first + t_y + SIDE * i, column + t_x + SIDE * j
            if position < positions and k < filters:
                y[part, position, k] = sums[i, j] + bias[k] if part == 0 else sums[i, j]


@cuda.jit
def _weight_grad(x, height, width, dy, out_h, out_w, kernel_w, stride, top, left, dw):  # type: ignore[no-untyped-def]
    """dw (parts, taps, C, K), each part from its share of the positions; x (pixels, C), dy (positions, K)."""
    parts, taps, channels, filters = dw.shape
    positions = dy.shape[0]
    a_tile = cuda.shared.array((DEPTH, ROW), float32)
    b_tile = cuda.shared.array((DEPTH, ROW), float32)
    pixels = cuda.shared.array(THREADS, int32)
    sums = cuda.local.array((PART, PART), float32)
    thread = cuda.threadIdx.x
    t_y, t_x = thread // SIDE, thread % SIDE
    row, column = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    tap, part = cuda.blockIdx.z % taps, cuda.blockIdx.z // taps
    first, last = part * positions // parts, (part + 1) * positions // parts
    for i in range(PART):
        for j in range(PART):
            sums[i, j] = float32(0)
    for slab in range(first, last, THREADS):
        position = slab + thread  # each thread finds one position's pixel, for all
        i = position // out_w % out_h * stride - top + tap // kernel_w if position < last else NOWHERE
        j = position % out_w * stride - left + tap % kernel_w
        pixel = _pixel(i, j, 1, height, width)
        pixels[thread] = position // (out_h * out_w) * (height * width) + pixel if pixel >= 0 else -1
        cuda.syncthreads()
        end = slab + THREADS if slab + THREADS < last else last
        for begin in range(slab, end, DEPTH):
            for k in range(DEPTH):
                pixel = pixels[begin - slab + k]
                inside = pixel >= 0 and row + thread < channels
                a_tile[k, thread] = x[pixel, row + thread] if inside else float32(0)
                inside = begin + k < last and column + thread < filters
                b_tile[k, thread] = dy[begin + k, column + thread] if inside else float32(0)
            cuda.syncthreads()
            _multiply(a_tile, b_tile, t_y, t_x, sums)
            cuda.syncthreads()
    for i in range(PART):
        for j in range(PART):
            c, k = row + t_y + SIDE * i, column + t_x + SIDE * j
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
    bias = xp.zeros(filters, x.dtype) if b is None else as_float32("conv2d_forward", b)
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
    dx = _convolved(dy, transposed, kernel_w, xp.zeros(channels, dy.dtype), geometry, n * height * width)
    return dx.reshape(x_shape)


def _convolved(x: Any, w: Any, kernel_w: int, bias: Any, geometry: tuple[int, ...], positions: int) -> Any:
    """The (positions, K) sums of `_convolve`."""
    _, height, width, _ = x.shape
    taps, _, filters = w.shape
    tiles = blocks(positions, TILE), blocks(filters, TILE)
    parts = min(taps, blocks(ENOUGH, tiles[0] * tiles[1]))
    y = array_module(x).empty((parts, positions, filters), x.dtype)
    launch(_convolve, (*tiles, parts), THREADS, x.reshape(-1), height, width, w, kernel_w, bias, *geometry, y)
    return y[0] if parts == 1 else y.sum(0)


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
    return (dw[0] if parts == 1 else dw.sum(0)).reshape(kernel_h, kernel_w, channels, filters)
