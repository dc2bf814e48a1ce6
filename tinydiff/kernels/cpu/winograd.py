"""Winograd's convolution F(4×4, 3×3): a quarter of the multiplications of the direct one.

A 3×3 kernel g makes 4×4 outputs from 6×6 inputs d.  Seen as polynomials, a convolution is a product, and a product of
polynomials is known from its values at a few points: evaluate both (Bᵀ·d·B and G·g·Gᵀ), multiply the 36 pairs of
values, and interpolate (Aᵀ·m·A).  The pairs are multiplied and summed over channels, so that at each of the 36 points
there is one matrix product, (tiles, C) · (C, K), and all of them run on the micro-kernel:

    y = Aᵀ·[Σ_c (G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A        dg = Gᵀ·[Σ_tiles (Bᵀ·d·B) ⊙ (A·dy·Aᵀ)]·G

What it costs: transforms before and after, memory for the values, and rounding.  What it buys: with many channels the
transforms hardly count, and the micro-kernel has a quarter of the work.

The points are 0, ±√½, ±√2 and ∞: with the usual 0, ±1, ±2, ∞ the rounding error is four times as large.
(Lavin & Gray 2015, arXiv:1509.09308)
"""

import math
from collections import namedtuple

import numpy as np
from numba import get_num_threads, prange

from tinydiff.kernels.cpu.arrays import LINE, as_float32, empty, zeros
from tinydiff.kernels.cpu.data_movement import transposed
from tinydiff.kernels.cpu.gemm import Matrix, Size, as_panels, gemm, gemm_transposed
from tinydiff.kernels.cpu.indirection import row_buffer, step_buffer
from tinydiff.kernels.cpu.jit import address, helper, kernel
from tinydiff.kernels.cpu.micro_kernel import ROWS, WIDTH
from tinydiff.kernels.cpu.vectors import LANES
from tinydiff.kernels.cpu.winograd_transforms import (
    IN,
    OUT,
    POINTS,
    transform_input,
    transform_kernel,
    transform_kernel_grad,
    transform_output,
    transform_output_grad,
)
from tinydiff.kernels.selection import winograd_allowed

CACHE, SLAB = 3 << 18, 1 << 22  # bytes of values that a task, and a weight gradient, work on at a time
FEW, MANY = 16 * 16, 512 * 512  # outputs of an image, and kernels, for which it is not worth it
# Tiles, or fewer, for which threads share the filters instead: each then reads a part of the weights, which is most of
# the time.  The denoiser's forward pass for one image takes a sixth less.
SPLIT = 4
LEAST = 64  # tiles in a task: each reads all the weights, which for fewer takes longer than multiplying
# height × width tiles of each image; the first one begins `top` rows above it and `left` columns beside it.
Tiles = namedtuple("Tiles", "height width top left")
Share = namedtuple("Share", "tiles filters")  # in a task


@helper
def _apart(count, size):  # type: ignore[no-untyped-def]
    """The offsets of `count` vectors that lie `size` numbers apart."""
    return np.arange(count) * (4 * size)


@helper
def _room(count):  # type: ignore[no-untyped-def]
    """Memory for `count` numbers from its first whole cache line on, and the address of that."""
    room = np.empty(count + LINE // 4, np.float32)
    return room, (address(room) + LINE - 1) // LINE * LINE


@helper
def _pixels(buffer, x, size, tile, tiles, outside):  # type: ignore[no-untyped-def]
    """The addresses of the size × size pixels of tile number `tile`; the next one begins OUT pixels further."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    n, place = divmod(tile, tiles.height * tiles.width)
    first_row, first_column = place // tiles.width * OUT - tiles.top, place % tiles.width * OUT - tiles.left
    for i in range(size):
        row = first_row + i
        line = address(x) + 4 * ((n * height + row) * width + first_column) * channels
        for j in range(size):
            column = first_column + j
            inside = 0 <= row and row < height and 0 <= column and column < width
            buffer[i * size + j] = line + 4 * channels * j if inside else outside


@kernel
def _transform_weights(w, rotated, u):  # type: ignore[no-untyped-def]
    """w (3, 3, C, K), or w rotated by 180°, → u (36, K / WIDTH, C, WIDTH)."""
    channels, filters = w.shape[2], w.shape[3]
    parts = (channels + 15) // 16
    for task in prange(u.shape[1] * parts):
        taps, values = _apart(9, channels * filters), _apart(POINTS, u.shape[1] * channels * WIDTH)
        for i in range(9 if rotated else 0):
            taps[i] = 4 * channels * filters * (8 - i)
        panel, part = task // parts, task % parts
        for c in range(16 * part, min(channels, 16 * part + 16)):
            for k in range(panel * WIDTH, min(filters, (panel + 1) * WIDTH), LANES):
                source = address(w) + 4 * (c * filters + k)
                target = address(u) + 4 * ((panel * channels + c) * WIDTH + k % WIDTH)
                transform_kernel(source, address(taps), target, address(values))


@kernel
def _convolve(x, u, bias, none, top, left, share, y):  # type: ignore[no-untyped-def]
    """All three stages for a share of the tiles and of the filters, whose values stay in the second cache meanwhile."""
    channels, filters = x.shape[3], y.shape[3]
    tiles = Tiles((y.shape[1] + OUT - 1) // OUT, (y.shape[2] + OUT - 1) // OUT, top, left)
    out_tiles = Tiles(tiles.height, tiles.width, 0, 0)
    total = y.shape[0] * tiles.height * tiles.width
    parts = (filters + share.filters - 1) // share.filters
    for task in prange(parts * ((total + share.tiles - 1) // share.tiles)):
        first, begin = task // parts * share.tiles, task % parts * share.filters
        count, width = min(share.tiles, total - first), min(share.filters, filters - begin)
        apart = count | 1  # tiles from point to point: an odd number, so that the 36 points do not share a cache set
        v_room, v = _room(POINTS * apart * channels)  # v (36, apart, C)
        m_room, m = _room(POINTS * apart * width)  # m (36, apart, the task's filters)
        nowhere = np.empty(filters, np.float32)  # where outputs past the border go
        pixels = np.empty(POINTS, np.int64)
        values = _apart(POINTS, apart * channels)
        for i in range(count):
            _pixels(pixels, x, IN, first + i, tiles, address(none))
            for c in range(0, channels, LANES):
                transform_input(4 * c, address(pixels), v + 4 * (i * channels + c), address(values))
        buffer, size = row_buffer(Matrix(v, channels), count), Size(count, width, channels)
        for p in range(POINTS):
            products = Matrix(m + 4 * p * apart * width, width)
            gemm(buffer, 4 * p * apart * channels, size, as_panels(u[p, begin // WIDTH :]), address(none), products)
        values = _apart(POINTS, apart * width)
        for i in range(count):
            _pixels(pixels, y, OUT, first + i, out_tiles, address(nowhere))
            for k in range(0, width, LANES):
                source, at = m + 4 * (i * width + k), 4 * (begin + k)
                transform_output(source, address(values), at, address(pixels), address(bias) + at)
        v_room[0] = m_room[0]  # both live until here


@kernel
def _weight_grad(x, dy, none, top, left, v, z, du):  # type: ignore[no-untyped-def]
    """du (36, C, K) = vᵀ·z at each point, for as many tiles at a time as v (36, tiles, C) and z have room for."""
    channels, filters, room = x.shape[3], dy.shape[3], v.shape[1]
    tiles = Tiles((dy.shape[1] + OUT - 1) // OUT, (dy.shape[2] + OUT - 1) // OUT, top, left)
    out_tiles = Tiles(tiles.height, tiles.width, 0, 0)
    total, in_a_task = dy.shape[0] * tiles.height * tiles.width, 4 * ROWS
    parts = (channels + in_a_task - 1) // in_a_task
    for first in range(0, total, room):
        count = min(room, total - first)
        for chunk in prange((count + 7) // 8):
            pixels = np.empty(POINTS, np.int64)
            values, panels = _apart(POINTS, room * channels), _apart(POINTS, z.shape[1] * room * WIDTH)
            for i in range(8 * chunk, min(count, 8 * chunk + 8)):
                _pixels(pixels, x, IN, first + i, tiles, address(none))
                for c in range(0, channels, LANES):
                    target = address(v) + 4 * (i * channels + c)
                    transform_input(4 * c, address(pixels), target, address(values))
                _pixels(pixels, dy, OUT, first + i, out_tiles, address(none))
                for k in range(0, filters, LANES):
                    target = address(z) + 4 * ((k // WIDTH * room + i) * WIDTH + k % WIDTH)
                    transform_output_grad(4 * k, address(pixels), target, address(panels))
        for task in prange(POINTS * parts):
            p, begin = task // parts, task % parts * in_a_task
            buffer = step_buffer(Matrix(address(v[p]), channels), count)
            rows = min(in_a_task, channels - begin)
            if first == 0:
                du[p, begin : begin + rows] = np.float32(0)
            size, sums = Size(rows, filters, count), Matrix(address(du[p, begin:]), filters)
            gemm_transposed(buffer, 4 * begin, size, as_panels(z[p]), sums)


@kernel
def _transform_weights_back(du, dw):  # type: ignore[no-untyped-def]
    channels, filters = dw.shape[2], dw.shape[3]
    for c in prange(channels):
        values, taps = _apart(POINTS, channels * filters), _apart(9, channels * filters)
        for k in range(0, filters, LANES):
            at = 4 * (c * filters + k)
            transform_kernel_grad(address(du) + at, address(values), address(dw) + at, address(taps))


def convolve(x: np.ndarray, u: np.ndarray, bias: np.ndarray, top: int, left: int, y: np.ndarray) -> None:
    """y = bias + x ∗ w, in place, for the weights' values u; bias filled up to whole panels."""
    channels, filters = x.shape[3], y.shape[3]
    tiles = y.shape[0] * -(-y.shape[1] // OUT) * -(-y.shape[2] // OUT)
    fit = CACHE // (4 * POINTS * (channels + filters))
    threads = get_num_threads()
    parts = min(threads, u.shape[1]) if tiles <= SPLIT else 1  # of the filters: then all weights are read once
    tasks = threads * max(1, -(-tiles // (threads * max(fit, LEAST)))) if parts == 1 else 1
    share = Share(-(-tiles // tasks), -(-u.shape[1] // parts) * WIDTH)
    _convolve(x, u, bias, zeros(max(channels, u.shape[1] * WIDTH)), top, left, share, y)


def transformed(w: np.ndarray, rotated: bool = False) -> np.ndarray:
    """The values of the kernels w (3, 3, C, K) at the points, in panels (36, K / WIDTH, C, WIDTH)."""
    u = empty(POINTS, -(-w.shape[3] // WIDTH), w.shape[2], WIDTH)
    _transform_weights(w, rotated, u)
    return u


def transformed_rotated(w: np.ndarray) -> np.ndarray:
    """The values of the kernels that carry the gradient back: rotated by 180°, with channels and filters exchanged."""
    return transformed(as_float32("winograd", transposed(w)), True)


def weight_grad(x: np.ndarray, dy: np.ndarray, top: int, left: int) -> np.ndarray:
    """dw (3, 3, C, K) of the same convolution."""
    channels, filters = x.shape[3], dy.shape[3]
    panels = -(-filters // WIDTH)
    tiles = dy.shape[0] * -(-dy.shape[1] // OUT) * -(-dy.shape[2] // OUT)
    room = min(tiles, max(64, SLAB // (4 * POINTS * (channels + panels * WIDTH)))) | 1  # odd, as in `_convolve`
    v, z = empty(POINTS, room, channels), empty(POINTS, panels, room, WIDTH)
    du, dw = empty(POINTS, channels, filters), empty(3, 3, channels, filters)
    _weight_grad(x, dy, zeros(max(channels, filters)), top, left, v, z, du)
    _transform_weights_back(du, dw)
    return dw


def is_supported(shape: tuple[int, ...], stride: int, positions: float = math.inf) -> bool:
    """Whether Winograd is used for kernels (KH, KW, C, K), this stride and so many outputs of an image.

    Wherever it can be, is allowed, and does not transform more weights than it saves multiplications at few positions.

    Measured on two threads of AVX-512, effective GFLOP/s of y / dx / dw, and the largest error of y over the largest y:

        N, C → K, H×W          direct              Winograd               error
        32, 16 → 16, 32×32     213 / 231 / 222      532 /  560 /  460     1.2e-6
        32, 64 → 64, 16×16     466 / 466 / 308     1294 / 1236 / 1323     1.4e-6
        32, 256 → 256, 4×4     438 / 320 / 471      810 /  471 /  950     2.7e-6
        1, 320 → 320, 64×64    492 / 468 / 390     1042 /  917 / 1175     3.5e-6 (1280 channels: 7e-6)

    Channels that fill no whole vector, other kernels and other strides go the direct way.
    """
    kernel_h, kernel_w, channels, filters = shape
    possible = kernel_h == kernel_w == 3 and stride == 1 and channels % LANES == 0 and filters % LANES == 0
    return possible and winograd_allowed() and (positions > FEW or channels * filters <= MANY)
