"""Group norm, with or without SiLU after it, image by image; layer norm is one group.  And the sum of rows.

Work is split by image in a fixed number of parts, and each part sums its own share of the scale's and the shift's
gradients, so that the result does not depend on the number of threads.  Where there are few large images, their
positions are split.
"""

import math

import numpy as np
from numba import prange

from tinydiff.kernels.cpu.arrays import as_float32, empty
from tinydiff.kernels.cpu.elementary import ONE, sigmoid
from tinydiff.kernels.cpu.jit import address, array_at, helper, kernel, machine_function
from tinydiff.kernels.cpu.vectors import sum_of

PARTS = 32
FEW, LARGE = 8, 1 << 20  # images that are split by positions: so many at most, of so many numbers each at least


@machine_function
def forward_part(part, n_images, positions, channels, groups, silu, x, scale, shift, eps, y, mean, rstd):  # type: ignore[no-untyped-def]
    x, y = array_at(x, (n_images, positions, channels)), array_at(y, (n_images, positions, channels))
    scale, shift = array_at(scale, channels), array_at(shift, channels)
    mean, rstd = array_at(mean, (n_images, groups)), array_at(rstd, (n_images, groups))
    eps, width = array_at(eps, 1)[0], channels // groups
    count = np.float32(positions * width)
    total = np.empty(channels, np.float32)
    a, b = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for n in range(part * n_images // PARTS, (part + 1) * n_images // PARTS):
        total[:] = np.float32(0)
        for p in range(positions):
            for c in range(channels):
                total[c] += x[n, p, c]
        for g in range(groups):
            mean[n, g] = sum_of(address(total[g * width :]), width) / count
            for c in range(g * width, (g + 1) * width):
                a[c] = mean[n, g]
        total[:] = np.float32(0)
        for p in range(positions):
            for c in range(channels):
                d = x[n, p, c] - a[c]
                total[c] += d * d
        for g in range(groups):
            rstd[n, g] = ONE / np.sqrt(sum_of(address(total[g * width :]), width) / count + eps)
            for c in range(g * width, (g + 1) * width):
                a[c] = rstd[n, g] * scale[c]
                b[c] = shift[c] - mean[n, g] * a[c]
        for p in range(positions):
            if silu:
                for c in range(channels):
                    h = x[n, p, c] * a[c] + b[c]
                    y[n, p, c] = h * sigmoid(h)
            else:
                for c in range(channels):
                    y[n, p, c] = x[n, p, c] * a[c] + b[c]


@kernel
def _forward(x, scale, shift, groups, eps, silu, y, mean, rstd):  # type: ignore[no-untyped-def]
    n_images, positions, channels = x.shape
    arrays = address(x), address(scale), address(shift), address(eps), address(y), address(mean), address(rstd)
    for part in prange(PARTS):
        forward_part(part, n_images, positions, channels, groups, silu, *arrays)


@helper
def _sum_of_parts(sums, first, width):  # type: ignore[no-untyped-def]
    """One after the other: NumPy's own sum would be shared by as many threads as there are."""
    total = np.float32(0)
    for part in range(PARTS):
        total += sum_of(address(sums[part, first:]), width)
    return total


@kernel
def _forward_by_positions(x, scale, shift, groups, eps, silu, y, mean, rstd):  # type: ignore[no-untyped-def]
    n_images, positions, channels = x.shape
    width, count = channels // groups, np.float32(positions * (channels // groups))
    sums, a, b = np.empty((PARTS, channels), np.float32), np.zeros(channels, np.float32), np.empty(channels, np.float32)
    for n in range(n_images):
        for part in prange(PARTS):
            for c in range(channels):
                sums[part, c] = np.float32(0)
            for p in range(part * positions // PARTS, (part + 1) * positions // PARTS):
                for c in range(channels):
                    sums[part, c] += x[n, p, c]
        for g in range(groups):
            mean[n, g] = _sum_of_parts(sums, g * width, width) / count
            for c in range(g * width, (g + 1) * width):
                a[c] = mean[n, g]
        for part in prange(PARTS):
            for c in range(channels):
                sums[part, c] = np.float32(0)
            for p in range(part * positions // PARTS, (part + 1) * positions // PARTS):
                for c in range(channels):
                    d = x[n, p, c] - a[c]
                    sums[part, c] += d * d
        for g in range(groups):
            rstd[n, g] = ONE / np.sqrt(_sum_of_parts(sums, g * width, width) / count + eps[0])
            for c in range(g * width, (g + 1) * width):
                a[c] = rstd[n, g] * scale[c]
                b[c] = shift[c] - mean[n, g] * a[c]
        for part in prange(PARTS):
            for p in range(part * positions // PARTS, (part + 1) * positions // PARTS):
                if silu:
                    for c in range(channels):
                        h = x[n, p, c] * a[c] + b[c]
                        y[n, p, c] = h * sigmoid(h)
                else:
                    for c in range(channels):
                        y[n, p, c] = x[n, p, c] * a[c] + b[c]


@machine_function
def backward_part(
    part, n_images, positions, channels, groups, silu, x, scale, shift, mean, rstd, dy, dx, dscale, dshift
):  # type: ignore[no-untyped-def]
    x, dy = array_at(x, (n_images, positions, channels)), array_at(dy, (n_images, positions, channels))
    dx = array_at(dx, (n_images, positions, channels))
    scale, shift = array_at(scale, channels), array_at(shift, channels)
    mean, rstd = array_at(mean, (n_images, groups)), array_at(rstd, (n_images, groups))
    dscale, dshift = array_at(dscale, (PARTS, channels)), array_at(dshift, (PARTS, channels))
    width = channels // groups
    count = np.float32(positions * width)
    m, r = np.empty(channels, np.float32), np.empty(channels, np.float32)
    sum_dh, sum_dh_xhat = np.empty(channels, np.float32), np.empty(channels, np.float32)
    a, b = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for c in range(channels):
        dscale[part, c] = dshift[part, c] = np.float32(0)
    for n in range(part * n_images // PARTS, (part + 1) * n_images // PARTS):
        for c in range(channels):
            m[c], r[c] = mean[n, c // width], rstd[n, c // width]
            sum_dh[c] = sum_dh_xhat[c] = np.float32(0)
        for p in range(positions):
            if silu:
                for c in range(channels):
                    xhat = (x[n, p, c] - m[c]) * r[c]
                    h = xhat * scale[c] + shift[c]
                    s = sigmoid(h)
                    dh = dy[n, p, c] * s * (ONE + h * (ONE - s))
                    dx[n, p, c] = dh
                    sum_dh[c] += dh
                    sum_dh_xhat[c] += dh * xhat
            else:
                for c in range(channels):
                    dh = dy[n, p, c]
                    dx[n, p, c] = dh
                    sum_dh[c] += dh
                    sum_dh_xhat[c] += dh * (x[n, p, c] - m[c]) * r[c]
        for c in range(channels):
            dshift[part, c] += sum_dh[c]
            dscale[part, c] += sum_dh_xhat[c]
            a[c], b[c] = sum_dh[c] * scale[c], sum_dh_xhat[c] * scale[c]
        for g in range(groups):
            first = sum_of(address(a[g * width :]), width) / count
            second = sum_of(address(b[g * width :]), width) / count
            for c in range(g * width, (g + 1) * width):
                a[c], b[c] = first, second
        for p in range(positions):
            for c in range(channels):
                xhat = (x[n, p, c] - m[c]) * r[c]
                dx[n, p, c] = r[c] * (dx[n, p, c] * scale[c] - a[c] - xhat * b[c])


@helper
def _add_up(parts, sums):  # type: ignore[no-untyped-def]
    """sums (C,) = Σ parts (…, C), one after the other."""
    for c in range(len(sums)):
        sums[c] = parts[0, c]
    for part in range(1, len(parts)):
        for c in range(len(sums)):
            sums[c] += parts[part, c]


@kernel
def _sum_rows(x, parts, sums):  # type: ignore[no-untyped-def]
    """x (parts, rows, C), each part by itself and then all."""
    for part in prange(len(parts)):
        for c in range(len(sums)):
            parts[part, c] = np.float32(0)
        for row in range(x.shape[1]):
            for c in range(len(sums)):
                parts[part, c] += x[part, row, c]
    _add_up(parts, sums)


@kernel
def _backward(x, scale, shift, groups, silu, mean, rstd, dy, dx, dscale_parts, dshift_parts, dscale, dshift):  # type: ignore[no-untyped-def]
    n_images, positions, channels = x.shape
    arrays = address(x), address(scale), address(shift), address(mean), address(rstd)
    gradients = address(dy), address(dx), address(dscale_parts), address(dshift_parts)
    for part in prange(PARTS):
        backward_part(part, n_images, positions, channels, groups, silu, *arrays, *gradients)
    _add_up(dscale_parts, dscale)
    _add_up(dshift_parts, dshift)


def group_norm(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, tuple]:
    """y and what `group_norm_backward` needs; x (N, …, C), statistics over all but N and within a group of channels."""
    shape, channels = x.shape, x.shape[-1]
    x = as_float32("group_norm", x).reshape(shape[0], -1, channels)
    scale, shift = as_float32("group_norm", scale), as_float32("group_norm", shift)
    y = empty(*x.shape)
    mean, rstd = np.empty((2, shape[0], groups), np.float32)
    split = len(x) <= FEW and x[0].size >= LARGE
    forward = _forward_by_positions if split else _forward
    forward(x, scale, shift, groups, np.array([eps], np.float32), silu, y, mean, rstd)
    return y.reshape(shape), (x, scale, shift, groups, silu, mean, rstd)


def group_norm_backward(dy: np.ndarray, saved: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dscale, dshift."""
    x = saved[0]
    dx = empty(*x.shape)
    parts, (dscale, dshift) = empty(2, PARTS, x.shape[2]), empty(2, x.shape[2])
    _backward(*saved, as_float32("group_norm", dy).reshape(x.shape), dx, *parts, dscale, dshift)
    return dx.reshape(dy.shape), dscale, dshift


def sum_rows(x: np.ndarray) -> np.ndarray:
    """The sum of all rows of x (…, C): what a bias gets back."""
    rows = x.size // x.shape[-1]
    parts = math.gcd(rows, PARTS)  # are summed apart
    sums, share = empty(x.shape[-1]), empty(parts, x.shape[-1])
    _sum_rows(as_float32("sum_rows", x).reshape(parts, rows // parts, x.shape[-1]), share, sums)
    return sums
