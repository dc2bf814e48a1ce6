"""The same kernels in NumPy, for any float type: the ladder's second rung, and the path of the float64 checks.

A convolution is one matrix product for each of its KH·KW taps: the picture, shifted by the tap, times that tap's
(C, K) matrix.  Names, arguments and results are those of `reference.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Padding = tuple[int, int, int, int]


def conv2d_forward(x: np.ndarray, w: np.ndarray, stride: int, padding: Padding) -> np.ndarray:
    """y = Σ_{a, b} x(shifted by a, b) · w[a, b]."""
    padded = _pad(x, padding)
    kernel_h, kernel_w, _, filters = w.shape
    out_h = (padded.shape[1] - kernel_h) // stride + 1
    out_w = (padded.shape[2] - kernel_w) // stride + 1
    y = np.zeros((x.shape[0], out_h, out_w, filters), x.dtype)
    for a, b, rows, columns in _taps((kernel_h, kernel_w), (out_h, out_w), stride):
        y += padded[:, rows, columns] @ w[a, b]
    return y


def conv2d_input_grad(
    dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int, padding: Padding
) -> np.ndarray:
    """dx(shifted by a, b) += dy · w[a, b]ᵀ."""
    top, bottom, left, right = padding
    n_images, height, width, channels = x_shape
    padded = np.zeros((n_images, height + top + bottom, width + left + right, channels), dy.dtype)
    for a, b, rows, columns in _taps(w.shape[:2], dy.shape[1:3], stride):
        padded[:, rows, columns] += dy @ w[a, b].T
    return padded[:, top : top + height, left : left + width].copy()


def conv2d_weight_grad(
    x: np.ndarray, dy: np.ndarray, kernel_size: tuple[int, int], stride: int, padding: Padding
) -> np.ndarray:
    """dw[a, b] = x(shifted by a, b)ᵀ · dy, summed over pictures and positions."""
    padded = _pad(x, padding)
    channels, filters = x.shape[3], dy.shape[3]
    dw = np.empty((*kernel_size, channels, filters), x.dtype)
    for a, b, rows, columns in _taps(kernel_size, dy.shape[1:3], stride):
        dw[a, b] = padded[:, rows, columns].reshape(-1, channels).T @ dy.reshape(-1, filters)
    return dw


def max_pool2d_forward(x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each window, and its place in the window."""
    n, height, width, c = x.shape
    windows = x.reshape(n, height // size, size, width // size, size, c).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(n, height // size, width // size, c, size * size)
    winner = windows.argmax(-1)
    return np.take_along_axis(windows, winner[..., None], -1)[..., 0], winner.astype(np.int32)


def max_pool2d_backward(dy: np.ndarray, winner: np.ndarray, size: int) -> np.ndarray:
    """dx: the gradient goes to the place that won."""
    n, out_h, out_w, c = dy.shape
    windows = np.zeros((*dy.shape, size * size), dy.dtype)
    np.put_along_axis(windows, winner[..., None].astype(np.int64), dy[..., None], -1)
    windows = windows.reshape(n, out_h, out_w, c, size, size).transpose(0, 1, 4, 2, 5, 3)
    return windows.reshape(n, out_h * size, out_w * size, c)


def upsample_nearest_forward(x: np.ndarray) -> np.ndarray:
    """Every pixel becomes two by two."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def upsample_nearest_backward(dy: np.ndarray) -> np.ndarray:
    """Each pixel collects the gradients of its four copies."""
    n, height, width, c = dy.shape
    return dy.reshape(n, height // 2, 2, width // 2, 2, c).sum(axis=(2, 4))


def _pad(x: np.ndarray, padding: Padding) -> np.ndarray:
    top, bottom, left, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))


def _taps(
    kernel_size: tuple[int, ...], out_size: tuple[int, ...], stride: int
) -> Iterator[tuple[int, int, slice, slice]]:
    """Each tap (a, b) with the rows and columns of the padded picture that it meets."""
    for a in range(kernel_size[0]):
        for b in range(kernel_size[1]):
            rows = slice(a, a + (out_size[0] - 1) * stride + 1, stride)
            columns = slice(b, b + (out_size[1] - 1) * stride + 1, stride)
            yield a, b, rows, columns
