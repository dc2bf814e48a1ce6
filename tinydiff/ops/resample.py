"""Nearest ×2: the expansion path's way back.  With a convolution after it, it leaves no checkerboards."""

from __future__ import annotations

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.errors import InputError


@op
def upsample_nearest(x: Array) -> tuple[Array, Backward]:
    """Every pixel becomes two by two: (N, H, W, C) → (N, 2H, 2W, C).

        y[n, i, j, c] = x[n, i // 2, j // 2, c]

    and so each pixel's gradient is the sum over its four copies.  Raises InputError unless x has four axes.
    (Odena 2016, doi:10.23915/distill.00003)

    >>> ops.upsample_nearest(np.ones((1, 4, 4, 3))).shape
    (1, 8, 8, 3)
    """
    if x.ndim != 4 or 0 in x.shape:
        raise InputError(f"upsample_nearest: x must be (N, H, W, C), not {x.shape}")

    def backward(dy: Array) -> tuple:
        return (kernels.kernel("upsample_nearest_backward", dy)(dy),)

    return kernels.kernel("upsample_nearest_forward", x)(x), backward
