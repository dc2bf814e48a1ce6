"""Convolution on a GPU as one would first write it: each thread computes one number.

    y[n, i, j, k] = Σ_{a, b, c} x[n, i·s + a − top, j·s + b − left, c] · w[a, b, c, k]

The ladder's first rung on the GPU, as `reference.py` is on the CPU: every number of x comes from memory once for each
tap and filter that uses it.  `conv.py` is what it grows into.
"""

from typing import Any

from numba import cuda, float32

from tinydiff.device import array_module, simulated
from tinydiff.kernels.cuda.launch import Padding, as_float32, blocks, launch

THREADS = 16 if simulated() else 128


@cuda.jit
def _forward(x, w, bias, stride, top, left, y):  # type: ignore[no-untyped-def]
    place = cuda.grid(1)
    if place >= y.size:
        return
    n_images, out_h, out_w, filters = y.shape
    k, j, i = place % filters, place // filters % out_w, place // (filters * out_w) % out_h
    n = place // (filters * out_w * out_h)
    total = float32(0)
    for a in range(w.shape[0]):
        for b in range(w.shape[1]):
            row, column = i * stride + a - top, j * stride + b - left
            if 0 <= row and row < x.shape[1] and 0 <= column and column < x.shape[2]:
                for c in range(x.shape[3]):
                    total += x[n, row, column, c] * w[a, b, c, k]
    y[n, i, j, k] = total + bias[k]


@cuda.jit
def _input_grad(dy, w, stride, top, left, dx):  # type: ignore[no-untyped-def]
    place = cuda.grid(1)
    if place >= dx.size:
        return
    n_images, height, width, channels = dx.shape
    c, column, row = place % channels, place // channels % width, place // (channels * width) % height
    n = place // (channels * width * height)
    total = float32(0)
    for a in range(w.shape[0]):
        for b in range(w.shape[1]):
            i, j = row + top - a, column + left - b
            if i >= 0 and j >= 0 and i % stride == 0 and j % stride == 0:
                i, j = i // stride, j // stride
                if i < dy.shape[1] and j < dy.shape[2]:
                    for k in range(dy.shape[3]):
                        total += dy[n, i, j, k] * w[a, b, c, k]
    dx[n, row, column, c] = total


@cuda.jit
def _weight_grad(x, dy, stride, top, left, dw):  # type: ignore[no-untyped-def]
    place = cuda.grid(1)
    if place >= dw.size:
        return
    kernel_h, kernel_w, channels, filters = dw.shape
    k, c, b = place % filters, place // filters % channels, place // (filters * channels) % kernel_w
    a = place // (filters * channels * kernel_w)
    total = float32(0)
    for n in range(dy.shape[0]):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                row, column = i * stride + a - top, j * stride + b - left
                if 0 <= row and row < x.shape[1] and 0 <= column and column < x.shape[2]:
                    total += x[n, row, column, c] * dy[n, i, j, k]
    dw[a, b, c, k] = total


def conv2d_forward(x: Any, w: Any, b: Any, stride: int, padding: Padding) -> Any:
    """As `reference.conv2d_forward`, float32 on the GPU."""
    top, bottom, left, right = padding
    x, w = as_float32("conv2d_forward", x), as_float32("conv2d_forward", w)
    out_h = (x.shape[1] + top + bottom - w.shape[0]) // stride + 1
    out_w = (x.shape[2] + left + right - w.shape[1]) // stride + 1
    bias = array_module(x).zeros(w.shape[3], x.dtype) if b is None else as_float32("conv2d_forward", b)
    y = array_module(x).empty((x.shape[0], out_h, out_w, w.shape[3]), x.dtype)
    launch(_forward, blocks(y.size, THREADS), THREADS, x, w, bias, stride, top, left, y)
    return y


def conv2d_input_grad(dy: Any, w: Any, x_shape: tuple[int, ...], stride: int, padding: Padding) -> Any:
    """As `reference.conv2d_input_grad`."""
    top, _, left, _ = padding
    dy, w = as_float32("conv2d_input_grad", dy), as_float32("conv2d_input_grad", w)
    dx = array_module(dy).empty(x_shape, dy.dtype)
    launch(_input_grad, blocks(dx.size, THREADS), THREADS, dy, w, stride, top, left, dx)
    return dx


def conv2d_weight_grad(x: Any, dy: Any, kernel_size: tuple[int, int], stride: int, padding: Padding) -> Any:
    """As `reference.conv2d_weight_grad`."""
    top, _, left, _ = padding
    x, dy = as_float32("conv2d_weight_grad", x), as_float32("conv2d_weight_grad", dy)
    dw = array_module(x).empty((*kernel_size, x.shape[3], dy.shape[3]), x.dtype)
    launch(_weight_grad, blocks(dw.size, THREADS), THREADS, x, dy, stride, top, left, dw)
    return dw
