"""Convolutions to a few filters, the last layer's 3 colours for instance: K is no reason to waste a whole vector.

The direct way computes one vector of filters for each tap, of which 3 numbers count.  Here all taps share a vector:

    z[pixel, (tap, k)] = Σ_c x[pixel, c] · w[tap, c, k]        y[i, j, k] = bias[k] + Σ_tap z[pixel under the tap]

one product of matrices with KH·KW·K columns, then a sum over shifted pixels.  The gradient by the weights is the
product of x, transposed, and dy with its shifted copies side by side: dw[c, (tap, k)] = Σ_pixel x[pixel, c] · dy[pixel
− tap, k].  (Anderson 2017, arXiv:1709.03395, calls it kn2row.)
"""

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import Geometry, contiguous, empty, zeros
from tinydiff.kernels.cpu.gemm import STEPS, Matrix, Size, as_matrix, as_panels, gemm, gemm_transposed, pack
from tinydiff.kernels.cpu.indirection import row_buffer
from tinydiff.kernels.cpu.jit import address, kernel, rounded
from tinydiff.kernels.cpu.micro_kernel import ROWS, WIDTH
from tinydiff.kernels.cpu.vectors import LANES
from tinydiff.kernels.recording import run_op

MAX_FILTERS = 4
CACHE = 1 << 18  # bytes of z in a task
GROUPS, BLOCK = 8, 8 * ROWS  # parts of the pixels, and channels, in a task of the gradient by the weights


def is_supported(shape: tuple[int, ...], stride: int) -> bool:
    """Whether kernels (KH, KW, C, K) with this stride go this way."""
    kernel_h, kernel_w, channels, filters = shape
    return stride == 1 and filters <= MAX_FILTERS and kernel_h * kernel_w > 1 and channels > filters


@kernel
def _convolve(x, panels, bias, none, geometry, band, y):  # type: ignore[no-untyped-def]
    """A task is a band of rows of one image's outputs."""
    kernel_h, kernel_w, _, top, left = geometry
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    n_images, out_h, out_w, filters = y.shape
    columns, bands = kernel_h * kernel_w * filters, (out_h + band - 1) // band
    for task in prange(n_images * bands):
        n, begin = task // bands, task % bands * band
        end = min(out_h, begin + band)
        first, last = max(0, begin - top), min(height, end - top + kernel_h - 1)  # rows of x that the band uses
        pixels = max(0, last - first) * width
        z = np.empty((pixels, rounded(columns, LANES)), np.float32)
        buffer = row_buffer(Matrix(address(x) + 4 * (n * height + first) * width * channels, channels), pixels)
        gemm(buffer, 0, Size(pixels, columns, channels), as_panels(panels), address(none), as_matrix(z))
        for i in range(begin, end):
            for j in range(out_w):
                for k in range(filters):
                    y[n, i, j, k] = bias[k]
                for a in range(max(0, top - i), min(kernel_h, height + top - i)):
                    line = (i + a - top - first) * width + j - left
                    for b_ in range(max(0, left - j), min(kernel_w, width + left - j)):
                        for k in range(filters):
                            y[n, i, j, k] += z[line + b_, (a * kernel_w + b_) * filters + k]


@kernel
def _weight_grad(x, dy, geometry, dw):  # type: ignore[no-untyped-def]
    """dw (groups, C, KH·KW·K): the sums over each group's pixels of x."""
    kernel_h, kernel_w, _, top, left = geometry
    groups, channels, columns = dw.shape
    height, width, out_h, out_w, filters = x.shape[1], x.shape[2], dy.shape[1], dy.shape[2], dy.shape[3]
    pixels = x.shape[0] * height * width
    slabs, row_tasks = (pixels + STEPS - 1) // STEPS, (channels + BLOCK - 1) // BLOCK
    for task in prange(groups * row_tasks):
        group, row = task % groups, task // groups * BLOCK
        rows = min(BLOCK, channels - row)
        panels = np.zeros((rounded(columns, WIDTH) // WIDTH, STEPS, WIDTH), np.float32)
        block = np.zeros((rows, rounded(columns, LANES)), np.float32)
        buffer = np.empty(STEPS, np.int64)
        for slab in range(group * slabs // groups, (group + 1) * slabs // groups):
            count = min(STEPS, pixels - slab * STEPS)
            for step in range(count):
                pixel = slab * STEPS + step
                buffer[step] = address(x) + 4 * pixel * channels
                n, place = divmod(pixel, height * width)
                i, j = divmod(place, width)
                column = 0
                for a in range(kernel_h):
                    for b in range(kernel_w):
                        y_row, y_column = i + top - a, j + left - b
                        inside = 0 <= y_row and y_row < out_h and 0 <= y_column and y_column < out_w
                        for k in range(filters):
                            number = dy[n, y_row, y_column, k] if inside else np.float32(0)
                            panels[column // WIDTH, step, column % WIDTH] = number
                            column += 1
            gemm_transposed(buffer, 4 * row, Size(rows, columns, count), as_panels(panels), as_matrix(block))
        for r in range(rows):
            for c in range(columns):
                dw[group, row + r, c] = block[r, c]


def convolve(x: np.ndarray, w: np.ndarray, bias: np.ndarray, top: int, left: int, y: np.ndarray) -> None:
    """y = bias + x ∗ w, in place; stride 1."""
    kernel_h, kernel_w, channels, filters = w.shape
    columns = kernel_h * kernel_w * filters
    panels = pack(run_op(contiguous, (w.transpose(2, 0, 1, 3),))[0].reshape(channels, columns))
    band = max(1, CACHE // (4 * columns * x.shape[2]) - kernel_h)
    _convolve(x, panels, bias, zeros(panels.shape[0] * WIDTH), Geometry(kernel_h, kernel_w, 1, top, left), band, y)


def weight_grad(x: np.ndarray, dy: np.ndarray, kernel_size: tuple[int, int], top: int, left: int) -> np.ndarray:
    """dw (KH, KW, C, K) of the same convolution."""
    (kernel_h, kernel_w), channels, filters = kernel_size, x.shape[3], dy.shape[3]
    dw = empty(GROUPS, channels, kernel_h * kernel_w * filters)
    _weight_grad(x, dy, Geometry(kernel_h, kernel_w, 1, top, left), dw)
    return run_op(_total, (dw, (channels, kernel_h, kernel_w, filters)))[0]


def _total(parts: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray]:
    """The sum of all parts in the order of w."""
    return contiguous(parts.sum(0).reshape(shape).transpose(1, 2, 0, 3))
