"""The definition: each kernel as the plain loops that the formulas say.  Slow, obvious, and what all others must equal.

Images are (N, H, W, C) and convolution kernels (KH, KW, C, K).  `padding` is (top, bottom, left, right).
"""

from __future__ import annotations

import numpy as np

Padding = tuple[int, int, int, int]


def conv2d_forward(x: np.ndarray, w: np.ndarray, stride: int, padding: Padding) -> np.ndarray:
    """y[n, i, j, k] = Σ_{a, b, c} x[n, i·s + a − top, j·s + b − left, c] · w[a, b, c, k]; x is 0 outside."""
    n_images, height, width, channels = x.shape
    kernel_h, kernel_w, _, filters = w.shape
    top, bottom, left, right = padding
    out_h = (height + top + bottom - kernel_h) // stride + 1
    out_w = (width + left + right - kernel_w) // stride + 1
    y = np.zeros((n_images, out_h, out_w, filters), x.dtype)
    for n in range(n_images):
        for i in range(out_h):
            for j in range(out_w):
                for a in range(kernel_h):
                    for b in range(kernel_w):
                        row, column = i * stride + a - top, j * stride + b - left
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                for k in range(filters):
                                    y[n, i, j, k] += x[n, row, column, c] * w[a, b, c, k]
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int, padding: Padding
) -> np.ndarray:
    """dx: every product of the forward, x·w → y, sends dy·w back to the x that it came from."""
    _, height, width, channels = x_shape
    kernel_h, kernel_w, _, filters = w.shape
    top, _, left, _ = padding
    dx = np.zeros(x_shape, dy.dtype)
    for n, i, j in np.ndindex(dy.shape[:3]):
        for a in range(kernel_h):
            for b in range(kernel_w):
                row, column = i * stride + a - top, j * stride + b - left
                if 0 <= row < height and 0 <= column < width:
                    for c in range(channels):
                        for k in range(filters):
                            dx[n, row, column, c] += dy[n, i, j, k] * w[a, b, c, k]
    return dx


def conv2d_weight_grad(
    x: np.ndarray, dy: np.ndarray, kernel_size: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    """dw: every product of the forward, x·w → y, sends dy·x back to the w that it used."""
    _, height, width, channels = x.shape
    (kernel_h, kernel_w), filters = kernel_size, dy.shape[3]
    top, _, left, _ = padding
    dw = np.zeros((kernel_h, kernel_w, channels, filters), x.dtype)
    for n, i, j in np.ndindex(dy.shape[:3]):
        for a in range(kernel_h):
            for b in range(kernel_w):
                row, column = i * stride + a - top, j * stride + b - left
                if 0 <= row < height and 0 <= column < width:
                    for c in range(channels):
                        for k in range(filters):
                            dw[a, b, c, k] += dy[n, i, j, k] * x[n, row, column, c]
    return dw


def max_pool2d_forward(x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each size × size window, and its place in the window, row by row (the first, if several)."""
    n_images, height, width, channels = x.shape
    y = np.empty((n_images, height // size, width // size, channels), x.dtype)
    winner = np.zeros(y.shape, np.int32)
    for n, i, j, c in np.ndindex(y.shape):
        y[n, i, j, c] = x[n, i * size, j * size, c]
        for a in range(size):
            for b in range(size):
                value = x[n, i * size + a, j * size + b, c]
                if value > y[n, i, j, c] or (np.isnan(value) and not np.isnan(y[n, i, j, c])):
                    y[n, i, j, c], winner[n, i, j, c] = value, a * size + b
    return y, winner


def max_pool2d_backward(dy: np.ndarray, winner: np.ndarray, size: int) -> np.ndarray:
    """dx: the gradient goes to the place that won, and nowhere else."""
    n_images, out_h, out_w, channels = dy.shape
    dx = np.zeros((n_images, out_h * size, out_w * size, channels), dy.dtype)
    for n, i, j, c in np.ndindex(dy.shape):
        a, b = divmod(winner[n, i, j, c], size)
        dx[n, i * size + a, j * size + b, c] = dy[n, i, j, c]
    return dx


def upsample_nearest_forward(x: np.ndarray) -> np.ndarray:
    """y[n, i, j, c] = x[n, i // 2, j // 2, c]: every pixel becomes two by two."""
    n_images, height, width, channels = x.shape
    y = np.empty((n_images, 2 * height, 2 * width, channels), x.dtype)
    for n, i, j, c in np.ndindex(y.shape):
        y[n, i, j, c] = x[n, i // 2, j // 2, c]
    return y


def upsample_nearest_backward(dy: np.ndarray) -> np.ndarray:
    """dx: each pixel collects the gradients of its four copies."""
    n_images, height, width, channels = dy.shape
    dx = np.zeros((n_images, height // 2, width // 2, channels), dy.dtype)
    for n, i, j, c in np.ndindex(dy.shape):
        dx[n, i // 2, j // 2, c] += dy[n, i, j, c]
    return dx
