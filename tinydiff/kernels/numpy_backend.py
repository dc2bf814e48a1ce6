"""The same kernels in NumPy, for any float type: the ladder's second rung, and the path of the float64 checks.

A convolution is one matrix product for each of its KH·KW taps: the image, shifted by the tap, times that tap's
(C, K) matrix.  What it costs: shifted copies, and a sum y that is read and written KH·KW times.  What it buys: the
products run in BLAS, which others have tuned for decades.  Names, arguments and results are those of `reference.py`.
"""

from collections.abc import Iterator

import numpy as np

from tinydiff.kernels.reference import Array, Padding, add  # noqa: F401 (add is the same here)


def conv2d_forward(x: Array, w: Array, b: Array | None, stride: int, padding: Padding) -> Array:
    """y = Σ_{p, q} x(shifted by p, q) · w[p, q] + b."""
    padded = _pad(x, padding)
    out_h = (padded.shape[1] - w.shape[0]) // stride + 1
    out_w = (padded.shape[2] - w.shape[1]) // stride + 1
    y = np.zeros((len(x), out_h, out_w, w.shape[3]), x.dtype)
    for p, q, rows, columns in _taps(w.shape[:2], (out_h, out_w), stride):
        y += padded[:, rows, columns] @ w[p, q]
    return y if b is None else y + b


def conv2d_input_grad(dy: Array, w: Array, x_shape: tuple[int, ...], stride: int, padding: Padding) -> Array:
    """dx(shifted by p, q) += dy · w[p, q]ᵀ."""
    (top, _, left, _), (_, height, width, _) = padding, x_shape
    padded = _pad(np.zeros(x_shape, dy.dtype), padding)
    for p, q, rows, columns in _taps(w.shape[:2], dy.shape[1:3], stride):
        padded[:, rows, columns] += dy @ w[p, q].T
    return padded[:, top : top + height, left : left + width].copy()


def conv2d_weight_grad(x: Array, dy: Array, kernel_size: tuple[int, int], stride: int, padding: Padding) -> Array:
    """dw[p, q] = x(shifted by p, q)ᵀ · dy, summed over images and positions."""
    padded = _pad(x, padding)
    channels, filters = x.shape[3], dy.shape[3]
    dw = np.empty((*kernel_size, channels, filters), x.dtype)
    for p, q, rows, columns in _taps(kernel_size, dy.shape[1:3], stride):
        dw[p, q] = padded[:, rows, columns].reshape(-1, channels).T @ dy.reshape(-1, filters)
    return dw


def max_pool2d_forward(x: Array, size: int) -> tuple[Array, Array]:
    """The largest value of each window, and its position in the window."""
    n, height, width, c = x.shape
    windows = x.reshape(n, height // size, size, width // size, size, c).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(*windows.shape[:4], size * size)
    argmax = windows.argmax(-1)
    return np.take_along_axis(windows, argmax[..., None], -1)[..., 0], argmax.astype(np.int32)


def max_pool2d_backward(dy: Array, argmax: Array, size: int) -> Array:
    """dx: the gradient goes to the position of the largest value."""
    n, out_h, out_w, c = dy.shape
    windows = np.zeros((*dy.shape, size * size), dy.dtype)
    np.put_along_axis(windows, argmax[..., None].astype(np.int64), dy[..., None], -1)
    windows = windows.reshape(n, out_h, out_w, c, size, size).transpose(0, 1, 4, 2, 5, 3)
    return windows.reshape(n, out_h * size, out_w * size, c)


def upsample_nearest_forward(x: Array) -> Array:
    """Every pixel becomes two by two."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def upsample_nearest_backward(dy: Array) -> Array:
    """Each pixel collects the gradients of its four copies."""
    n, height, width, c = dy.shape
    return dy.reshape(n, height // 2, 2, width // 2, 2, c).sum(axis=(2, 4))


def matmul(
    a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False, bias: Array | None = None
) -> Array:
    """a · b + bias, where a and b may be transposed first."""
    y = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    return y if bias is None else y + bias


def sum_rows(x: Array) -> Array:
    """The sum of all rows of x (…, C): (C,)."""
    return x.reshape(-1, x.shape[-1]).sum(0)


def _pad(x: Array, padding: Padding) -> Array:
    top, bottom, left, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))


def _taps(kernel: tuple[int, ...], out: tuple[int, ...], stride: int) -> Iterator[tuple[int, int, slice, slice]]:
    """Each tap (p, q) with the rows and columns of the padded image that it is multiplied with."""
    for p, q in np.ndindex(kernel):
        yield p, q, slice(p, p + out[0] * stride, stride), slice(q, q + out[1] * stride, stride)
