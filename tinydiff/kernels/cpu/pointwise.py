"""Element by element: GELU and GEGLU, max-pool, nearest ×2."""

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import as_float32, empty
from tinydiff.kernels.cpu.elementary import HALF, exp, normal_cdf
from tinydiff.kernels.cpu.jit import kernel

CHUNK = 1 << 14  # numbers in a task
ROOT = np.float32(0.3989422804014327)  # 1 / √2π


@kernel
def _gelu(x, y):  # type: ignore[no-untyped-def]
    for chunk in prange((x.size + CHUNK - 1) // CHUNK):
        for i in range(chunk * CHUNK, min(x.size, (chunk + 1) * CHUNK)):
            y[i] = x[i] * normal_cdf(x[i])


@kernel
def _gelu_backward(x, dy, dx):  # type: ignore[no-untyped-def]
    for chunk in prange((x.size + CHUNK - 1) // CHUNK):
        for i in range(chunk * CHUNK, min(x.size, (chunk + 1) * CHUNK)):
            dx[i] = dy[i] * (normal_cdf(x[i]) + x[i] * ROOT * exp(-HALF * x[i] * x[i]))


def gelu(x: np.ndarray) -> np.ndarray:
    """x·Φ(x)."""
    y = empty(*x.shape)
    _gelu(as_float32("gelu", x).reshape(-1), y.reshape(-1))
    return y


def gelu_backward(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """dx of `gelu`."""
    dx = empty(*x.shape)
    _gelu_backward(as_float32("gelu", x).reshape(-1), as_float32("gelu", dy).reshape(-1), dx.reshape(-1))
    return dx


@kernel
def _geglu(x, y):  # type: ignore[no-untyped-def]
    rows, width = y.shape
    for i in prange(rows):
        for d in range(width):
            gate = x[i, width + d]
            y[i, d] = x[i, d] * gate * normal_cdf(gate)


@kernel
def _geglu_backward(x, dy, dx):  # type: ignore[no-untyped-def]
    rows, width = dy.shape
    for i in prange(rows):
        for d in range(width):
            gate = x[i, width + d]
            cdf = normal_cdf(gate)
            density = ROOT * exp(-HALF * gate * gate)
            dx[i, d] = dy[i, d] * gate * cdf
            dx[i, width + d] = dy[i, d] * x[i, d] * (cdf + gate * density)


def geglu(x: np.ndarray) -> np.ndarray:
    """The first half of x's last axis times GELU of the second: (…, 2D) → (…, D)."""
    y = empty(*x.shape[:-1], x.shape[-1] // 2)
    _geglu(as_float32("geglu", x).reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
    return y


def geglu_backward(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """dx of `geglu`."""
    x, dy, dx = as_float32("geglu", x), as_float32("geglu", dy), empty(*x.shape)
    _geglu_backward(x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1]), dx.reshape(-1, x.shape[-1]))
    return dx


@kernel
def _max_pool(x, size, y, argmax):  # type: ignore[no-untyped-def]
    n_images, out_h, out_w, channels = y.shape
    for row in prange(n_images * out_h):
        n, i = row // out_h, row % out_h
        for j in range(out_w):
            for c in range(channels):
                best, place = x[n, i * size, j * size, c], 0
                for a in range(size):
                    for b in range(size):
                        value = x[n, i * size + a, j * size + b, c]
                        if value > best or (value != value and best == best):
                            best, place = value, a * size + b
                y[n, i, j, c], argmax[n, i, j, c] = best, place


@kernel
def _max_pool_backward(dy, argmax, size, dx):  # type: ignore[no-untyped-def]
    n_images, out_h, out_w, channels = dy.shape
    for row in prange(n_images * out_h):
        n, i = row // out_h, row % out_h
        for j in range(out_w):
            for a in range(size):
                for b in range(size):
                    for c in range(channels):
                        won = argmax[n, i, j, c] == a * size + b
                        dx[n, i * size + a, j * size + b, c] = dy[n, i, j, c] if won else np.float32(0)


def max_pool2d_forward(x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """As `reference.max_pool2d_forward`, float32."""
    n, height, width, channels = x.shape
    y = empty(n, height // size, width // size, channels)
    argmax = np.empty(y.shape, np.int32)
    _max_pool(as_float32("max_pool2d", x), size, y, argmax)
    return y, argmax


def max_pool2d_backward(dy: np.ndarray, argmax: np.ndarray, size: int) -> np.ndarray:
    """As `reference.max_pool2d_backward`, float32."""
    n, out_h, out_w, channels = dy.shape
    dx = empty(n, out_h * size, out_w * size, channels)
    _max_pool_backward(as_float32("max_pool2d", dy), argmax, size, dx)
    return dx


@kernel
def _upsample(x, y):  # type: ignore[no-untyped-def]
    n_images, height, width, channels = x.shape
    for row in prange(n_images * 2 * height):
        n, i = row // (2 * height), row % (2 * height)
        for j in range(2 * width):
            for c in range(channels):
                y[n, i, j, c] = x[n, i // 2, j // 2, c]


@kernel
def _upsample_backward(dy, dx):  # type: ignore[no-untyped-def]
    n_images, height, width, channels = dx.shape
    for row in prange(n_images * height):
        n, i = row // height, row % height
        for j in range(width):
            for c in range(channels):
                dx[n, i, j, c] = (dy[n, 2 * i, 2 * j, c] + dy[n, 2 * i, 2 * j + 1, c]) + (
                    dy[n, 2 * i + 1, 2 * j, c] + dy[n, 2 * i + 1, 2 * j + 1, c]
                )


def upsample_nearest_forward(x: np.ndarray) -> np.ndarray:
    """As `reference.upsample_nearest_forward`, float32."""
    n, height, width, channels = x.shape
    y = empty(n, 2 * height, 2 * width, channels)
    _upsample(as_float32("upsample_nearest", x), y)
    return y


def upsample_nearest_backward(dy: np.ndarray) -> np.ndarray:
    """As `reference.upsample_nearest_backward`, float32."""
    n, height, width, channels = dy.shape
    dx = empty(n, height // 2, width // 2, channels)
    _upsample_backward(as_float32("upsample_nearest", dy), dx)
    return dx
