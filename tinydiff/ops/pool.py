"""Pooling, the contraction path's way to see further, and upsampling, the expansion path's way back."""

from typing import Any

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module, to_device_of
from tinydiff.errors import InputError


@op
def max_pool2d(x: Array, *, size: int = 2, stride: int | None = None, padding: int = 0) -> tuple[Array, Backward]:
    """The largest value of each size × size window: (N, H, W, C) → (N, H', W', C).

        y[n, i, j, c] = max_{a, b < size} x[n, i·stride + a − padding, j·stride + b − padding, c]

    stride is `size` where none is given;   H' = (H + 2·padding − size) // stride + 1, and W' in the same way
    The gradient goes to the place of the largest (the first, where several are equal) and nowhere else.
    Raises InputError where no window fits.  (Ronneberger 2015, arXiv:1505.04597, section 2)
    """
    windows, back = _side_by_side("max_pool2d", x, size, stride, padding, -np.inf)
    y, argmax = kernels.max_pool2d_forward(windows, size)
    return y, lambda dy: (back(kernels.max_pool2d_backward(dy, argmax, size)),)


@op
def avg_pool2d(x: Array, *, size: int = 2, stride: int | None = None, padding: int = 0) -> tuple[Array, Backward]:
    """The mean of each size × size window, padding counted as zeros: (N, H, W, C) → (N, H', W', C).

        y[n, i, j, c] = Σ_{a, b < size} x[n, i·stride + a − padding, j·stride + b − padding, c] / size²

    and each place's gradient is the sum of dy / size² over the windows that it is in.  All else is as in max_pool2d.
    """
    windows, back = _side_by_side("avg_pool2d", x, size, stride, padding, 0)
    n, height, width, c = windows.shape  # (N, H'·size, W'·size, C)
    y = windows.reshape(n, height // size, size, width // size, size, c).mean((2, 4))
    return y, lambda dy: (back((dy / size**2).repeat(size, 1).repeat(size, 2)),)


def _side_by_side(name: str, x: Array, size: int, stride: int | None, padding: int, fill: float) -> tuple[Array, Any]:
    """x with its windows, which may overlap, one beside the other (N, H'·size, W'·size, C), and the gradient's way."""
    stride = size if stride is None else stride
    if (
        x.ndim != 4
        or size < 1
        or stride < 1
        or not 0 <= padding < max(size, 1)
        or min(x.shape[1:3]) + 2 * padding < size
    ):
        asked = f"windows of {size}, stride {stride} ≥ 1, padding {padding} < size"
        raise InputError(f"{name}: x {x.shape} must be (N, H, W, C) and hold {asked}")
    if stride == size and not padding and x.shape[1] % size == x.shape[2] % size == 0:
        return x, lambda d: d
    xp, sides = array_module(x), [side + 2 * padding for side in x.shape[1:3]]
    padded = xp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=fill)
    counts = [(side - size) // stride + 1 for side in sides]  # H', W'
    rows, columns = ((xp.arange(count)[:, None] * stride + xp.arange(size)).ravel() for count in counts)

    def back(d: Array) -> Array:
        """Each place collects the gradients of its copies, first along the rows, then along the columns."""
        for axis, (side, count) in enumerate(zip(sides, counts, strict=True), 1):
            d = xp.moveaxis(d, axis, 0)
            dx = xp.zeros((side, *d.shape[1:]), d.dtype)
            for a in range(size):
                dx[a : a + count * stride : stride][:count] += d[a::size]
            d = xp.moveaxis(dx, 0, axis)
        return xp.ascontiguousarray(d[:, padding : sides[0] - padding, padding : sides[1] - padding])

    return padded[:, rows][:, :, columns], back


@op
def upsample_nearest(x: Array) -> tuple[Array, Backward]:
    """Every pixel becomes two by two: (N, H, W, C) → (N, 2H, 2W, C).

        y[n, i, j, c] = x[n, i // 2, j // 2, c]

    and so each pixel's gradient is the sum over its four copies.  A convolution after it leaves no checkerboards.
    Raises InputError unless x has four axes.  (Odena 2016, doi:10.23915/distill.00003)
    """
    if x.ndim != 4:
        raise InputError(f"upsample_nearest: x must be (N, H, W, C), not {x.shape}")
    y = kernels.upsample_nearest_forward(x)
    return y, lambda dy: (kernels.upsample_nearest_backward(dy),)


@op
def upsample_bilinear(
    x: Array, *, size: tuple[int, int] | None = None, align_corners: bool = False
) -> tuple[Array, Backward]:
    """Every new pixel is a mix of its four neighbours: (N, H, W, C) → (N, *size, C), by default (2H, 2W).

        y[n] = A·x[n]·Bᵀ for each channel,   dx[n] = Aᵀ·dy[n]·B,   A (H', H) and B (W', W) the shares of each place

    Row i of H' lies at (i + ½)·H/H' − ½, or with align_corners at i·(H − 1)/(H' − 1), and is held inside the image.
    Raises InputError unless x has four axes and the new sides are 1 or more.
    """
    sides = (2 * x.shape[1], 2 * x.shape[2]) if x.ndim == 4 and size is None else size
    if x.ndim != 4 or sides is None or min(sides) < 1:
        raise InputError(f"upsample_bilinear: x must be (N, H, W, C) and size two sides, not {x.shape} and {size}")
    a, b = (_shares(*ends, align_corners, x) for ends in zip(x.shape[1:3], sides, strict=True))

    def along(rows: Array, columns: Array, x: Array) -> Array:
        n, height, width, channels = x.shape
        x = (rows @ x.reshape(n, height, -1)).reshape(n * len(rows), width, channels)  # (N·H', W, C)
        return (columns @ x).reshape(n, len(rows), len(columns), channels)

    return along(a, b, x), lambda dy: (along(a.T, b.T, dy),)


def _shares(old: int, new: int, align_corners: bool, like: Array) -> Array:
    """How much of each old place (columns) each new one (rows) is made of: (new, old)."""
    place = np.arange(new)
    at = place * ((old - 1) / max(new - 1, 1)) if align_corners else ((place + 0.5) * old / new - 0.5).clip(0, old - 1)
    shares = 1 - abs(at[:, None] - np.arange(old))  # of the two places beside it, and below zero elsewhere
    return to_device_of(shares.clip(0).astype(like.dtype), like)
