"""The definition: each kernel as the plain loops that the formulas say.  Slow, obvious, and what all others must equal.

What it costs: Python makes an object of every number, about a million multiply-adds a second.
Images are (N, H, W, C) and convolution kernels (KH, KW, C, K).  `padding` is (top, bottom, left, right).
"""

import numpy as np

Array = np.ndarray
Padding = tuple[int, int, int, int]


def conv2d_forward(x: Array, w: Array, b: Array | None, stride: int, padding: Padding) -> Array:
    """y[n, i, j, k] = Σ_{p, q, c} x[n, i·s + p − top, j·s + q − left, c] · w[p, q, c, k] + b[k]; x is 0 outside.

    x (N, H, W, C), w (KH, KW, C, K) and b (K,) or None give y (N, H', W', K).
    """
    n_images, height, width, channels = x.shape
    kernel_h, kernel_w, _, filters = w.shape
    top, bottom, left, right = padding
    out_h = (height + top + bottom - kernel_h) // stride + 1
    out_w = (width + left + right - kernel_w) // stride + 1
    y = np.zeros((n_images, out_h, out_w, filters), x.dtype)
    for n in range(n_images):
        for i in range(out_h):
            for j in range(out_w):
                for p in range(kernel_h):
                    for q in range(kernel_w):
                        row, column = i * stride + p - top, j * stride + q - left
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                for k in range(filters):
                                    y[n, i, j, k] += x[n, row, column, c] * w[p, q, c, k]
                if b is not None:
                    for k in range(filters):
                        y[n, i, j, k] += b[k]
    return y


def conv2d_input_grad(dy: Array, w: Array, x_shape: tuple[int, ...], stride: int, padding: Padding) -> Array:
    """dx: every product of the forward, x·w → y, sends dy·w back to the x that it came from."""
    _, height, width, channels = x_shape
    kernel_h, kernel_w, _, filters = w.shape
    top, _, left, _ = padding
    dx = np.zeros(x_shape, dy.dtype)
    for n, i, j in np.ndindex(dy.shape[:3]):
        for p in range(kernel_h):
            for q in range(kernel_w):
                row, column = i * stride + p - top, j * stride + q - left
                if 0 <= row < height and 0 <= column < width:
                    for c in range(channels):
                        for k in range(filters):
                            dx[n, row, column, c] += dy[n, i, j, k] * w[p, q, c, k]
    return dx


def conv2d_weight_grad(x: Array, dy: Array, kernel_size: tuple[int, int], stride: int, padding: Padding) -> Array:
    """dw: every product of the forward, x·w → y, sends dy·x back to the w that it used."""
    _, height, width, channels = x.shape
    (kernel_h, kernel_w), filters = kernel_size, dy.shape[3]
    top, _, left, _ = padding
    dw = np.zeros((kernel_h, kernel_w, channels, filters), x.dtype)
    for n, i, j in np.ndindex(dy.shape[:3]):
        for p in range(kernel_h):
            for q in range(kernel_w):
                row, column = i * stride + p - top, j * stride + q - left
                if 0 <= row < height and 0 <= column < width:
                    for c in range(channels):
                        for k in range(filters):
                            dw[p, q, c, k] += dy[n, i, j, k] * x[n, row, column, c]
    return dw


def max_pool2d_forward(x: Array, size: int) -> tuple[Array, Array]:
    """The largest value of each size × size window, and its place in the window, row by row (the first, if several)."""
    n, height, width, channels = x.shape
    y = np.empty((n, height // size, width // size, channels), x.dtype)
    argmax = np.zeros(y.shape, np.int32)
    for n, i, j, c in np.ndindex(y.shape):
        y[n, i, j, c] = x[n, i * size, j * size, c]
        for a in range(size):
            for b in range(size):
                value = x[n, i * size + a, j * size + b, c]
                if value > y[n, i, j, c] or (np.isnan(value) and not np.isnan(y[n, i, j, c])):
                    y[n, i, j, c], argmax[n, i, j, c] = value, a * size + b
    return y, argmax


def max_pool2d_backward(dy: Array, argmax: Array, size: int) -> Array:
    """dx: the gradient goes to the place of the largest value, and nowhere else."""
    n_images, out_h, out_w, channels = dy.shape
    dx = np.zeros((n_images, out_h * size, out_w * size, channels), dy.dtype)
    for n, i, j, c in np.ndindex(dy.shape):
        a, b = divmod(argmax[n, i, j, c], size)
        dx[n, i * size + a, j * size + b, c] = dy[n, i, j, c]
    return dx


def upsample_nearest_forward(x: Array) -> Array:
    """y[n, i, j, c] = x[n, i // 2, j // 2, c]: every pixel becomes two by two."""
    n_images, height, width, channels = x.shape
    y = np.empty((n_images, 2 * height, 2 * width, channels), x.dtype)
    for n, i, j, c in np.ndindex(y.shape):
        y[n, i, j, c] = x[n, i // 2, j // 2, c]
    return y


def upsample_nearest_backward(dy: Array) -> Array:
    """dx: each pixel collects the gradients of its four copies."""
    n_images, height, width, channels = dy.shape
    dx = np.zeros((n_images, height // 2, width // 2, channels), dy.dtype)
    for n, i, j, c in np.ndindex(dy.shape):
        dx[n, i // 2, j // 2, c] += dy[n, i, j, c]
    return dx


def matmul(
    a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False, bias: Array | None = None
) -> Array:
    """y[i, k] = Σ_c a[i, c] · b[c, k] + bias[k], where a (M, C) and b (C, K) may be transposed first."""
    a, b = a.T if transpose_a else a, b.T if transpose_b else b
    y = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i, k in np.ndindex(y.shape):
        for c in range(a.shape[1]):
            y[i, k] += a[i, c] * b[c, k]
    return y if bias is None else y + bias


def add(a: Array, b: Array) -> Array:
    """a + b, broadcast; NumPy's sum is the definition already."""
    return a + b


def sum_rows(x: Array) -> Array:
    """The sum of all rows of x (…, C): (C,)."""
    total = np.zeros(x.shape[-1], x.dtype)
    for row in x.reshape(-1, x.shape[-1]):
        total += row
    return total
