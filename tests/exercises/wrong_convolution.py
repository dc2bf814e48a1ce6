"""Plausible wrong answers to section 1: name → (answer, a piece of what must be said)."""

import numba
import numpy as np
from numba import cuda

from tinydiff import kernels
from tinydiff.ops import conv2d


def right(x, w, stride=1, padding=0):
    with kernels.use("numpy"):
        return conv2d.forward(x, w, stride=stride, padding=padding)[0]


def input_grad(dy, w, shape):
    with kernels.use("numpy"):
        return conv2d.forward(np.zeros(shape), w)[1](dy)[0]


def weight_grad(x, dy, size):
    with kernels.use("numpy"):
        return conv2d.forward(x, np.zeros((*size, x.shape[3], dy.shape[3])))[1](dy)[1]


def changes_x(x, w):
    y = right(x, w)
    x += 1
    return y


def square_only(x, w):
    y = right(x, w)
    return y.transpose(0, 2, 1, 3).reshape(y.shape)


def first_image_only(x, w):
    y = right(x, w)
    y[1:] = y[0]
    return y


def scatter_without_adding(dy, w, x_shape):
    dx = np.zeros(x_shape)
    for p in range(w.shape[0]):
        for q in range(w.shape[1]):
            dx[:, p : p + dy.shape[1], q : q + dy.shape[2]] = dy @ w[p, q].T
    return dx


def mean_over_positions(x, dy, size):
    return weight_grad(x, dy, size) / (dy.shape[1] * dy.shape[2])


def channels_first(x, kernel_h, kernel_w):
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel_h, kernel_w), axis=(1, 2))
    return windows.reshape(-1, kernel_h * kernel_w * x.shape[3])


def columns(x, kernel_h, kernel_w):
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel_h, kernel_w), axis=(1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kernel_h * kernel_w * x.shape[3])


def plain_loops(x, w):
    n, height, width, channels = x.shape
    kernel_h, kernel_w, _, filters = w.shape
    y = np.zeros((n, height - kernel_h + 1, width - kernel_w + 1, filters), np.float32)
    for image, i, j, p, q in np.ndindex(*y.shape[:3], kernel_h, kernel_w):
        for c in range(channels):
            for k in range(filters):
                y[image, i, j, k] += x[image, i + p, j + q, c] * w[p, q, c, k]
    return y


@numba.njit
def compiled_and_flipped(x, w):
    n, height, width, channels = x.shape
    kernel_h, kernel_w, _, filters = w.shape
    y = np.zeros((n, height - kernel_h + 1, width - kernel_w + 1, filters), np.float32)
    for image in range(n):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for p in range(kernel_h):
                    for q in range(kernel_w):
                        for c in range(channels):
                            for k in range(filters):
                                y[image, i, j, k] += x[image, i + p, j + q, c] * w[-1 - p, -1 - q, c, k]
    return y


@cuda.jit
def unguarded(x, w, y):
    i, j = cuda.grid(2)
    total = 0.0
    for p in range(w.shape[0]):
        for q in range(w.shape[1]):
            total += x[i + p, j + q] * w[p, q]
    y[i, j] = total


@cuda.jit
def one_block(x, w, y):
    i, j = cuda.threadIdx.x, cuda.threadIdx.y
    if i < y.shape[0] and j < y.shape[1]:
        total = 0.0
        for p in range(w.shape[0]):
            for q in range(w.shape[1]):
                total += x[i + p, j + q] * w[p, q]
        y[i, j] = total


@cuda.jit
def adds_to_what_was_there(x, w, y):
    i, j = cuda.grid(2)
    if i < y.shape[0] and j < y.shape[1]:
        for p in range(w.shape[0]):
            for q in range(w.shape[1]):
                y[i, j] += x[i + p, j + q] * w[p, q]


@cuda.jit
def forgets_the_last_row(x, w, y):
    i, j = cuda.grid(2)
    if i < y.shape[0] and j < y.shape[1]:
        total = 0.0
        for p in range(w.shape[0] - 1):
            for q in range(w.shape[1]):
                total += x[i + p, j + q] * w[p, q]
        y[i, j] = total


WRONG = {
    "1.1": {
        "flipped": (lambda x, w: right(x, w[::-1, ::-1]), "turned by 180°"),
        "first channel alone": (lambda x, w: right(x[..., :1], w[:, :, :1]), "only the first channel"),
        "one image for all": (first_image_only, "they differ most"),
        "right for squares alone": (square_only, "they differ most"),
        "changes x": (changes_x, "changes its first argument in place"),
        "one pixel too few": (lambda x, w: right(x, w)[:, :-1], "expected shape"),
        "no return": (lambda x, w: None, "nothing came (None)"),
    },
    "1.2": {
        "padding on one side": (lambda n, k, s, p: (n + p - k) // s + 1, "padding goes on both sides"),
        "no + 1": (lambda n, k, s, p: (n + 2 * p - k) // s, "+ 1"),
        "+ 1 too early": (lambda n, k, s, p: (n + 2 * p - k + 1) // s, "before you add 1"),
        "a fraction": (lambda n, k, s, p: (n + 2 * p - k) / s + 1, "use //"),
        "rounded up": (lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1, "round down"),
    },
    "1.3": {
        "no stride": (lambda x, w, s, p: right(x, w, 1, p), "the stride is left out"),
        "no padding": (lambda x, w, s, p: right(x, w, s, 0), "the padding is left out"),
        "begins one late": (lambda x, w, s, p: right(x[:, 1:], w, s, p), "y with stride"),
        "edges repeated": (
            lambda x, w, s, p: right(np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)), mode="edge"), w, s),
            "they differ most",
        ),
    },
    "1.4": {
        "turned": (lambda dy, w, shape: input_grad(dy, w[::-1, ::-1], shape), "turned by 180°"),
        "ones": (lambda dy, w, shape: input_grad(np.ones_like(dy), w, shape), "not all ones"),
        "writes over": (scatter_without_adding, "they differ most"),
        "half": (lambda dy, w, shape: input_grad(dy, w, shape) / 2, "100 % of the numbers differ"),
        "the shape of dy": (lambda dy, w, shape: input_grad(dy, w, shape)[:, : dy.shape[1]], "expected shape"),
    },
    "1.5": {
        "mean over images": (lambda x, dy, size: weight_grad(x, dy, size) / len(x), "a gradient is a sum"),
        "mean over positions": (mean_over_positions, "they differ most"),
        "first image": (lambda x, dy, size: weight_grad(x[:1], dy[:1], size), "only the first image"),
        "turned": (lambda x, dy, size: weight_grad(x, dy, size)[::-1, ::-1], "turned by 180°"),
        "axes swapped": (lambda x, dy, size: weight_grad(x, dy, size).transpose(0, 1, 3, 2), "expected shape"),
    },
    "1.6": {
        "channels first": (channels_first, "channels last"),
        "transposed": (lambda x, a, b: columns(x, a, b).T, "rows and columns are swapped"),
        "position of the kernel reversed": (lambda x, a, b: columns(x, a, b)[:, ::-1], "they differ most"),
        "one row for each pixel": (lambda x, a, b: np.repeat(x.reshape(-1, x.shape[3]), a * b, 1), "expected shape"),
        "kernel's sides swapped": (lambda x, a, b: columns(x, b, a), "the matrix of windows"),
    },
    "1.7": {
        "not compiled": (plain_loops, "numba.njit"),
        "compiled and flipped": (compiled_and_flipped, "they differ most"),
        "channels summed away": (lambda x, w: right(x, w).sum(-1), "expected shape"),
        "the reference itself": (lambda x, w: _reference(x, w), "numba.njit"),
    },
    "1.8": {
        "no bound": (unguarded, "IndexError"),
        "one block": (one_block, "was never written"),
        "adds to what was there": (adds_to_what_was_there, "was never written"),
        "a row of the kernel left out": (forgets_the_last_row, "they differ most"),
    },
}


def _reference(x, w):
    with kernels.use("reference"):
        return conv2d.forward(x, w)[0]
