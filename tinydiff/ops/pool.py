"""Max-pool: the contraction path's way to see further."""

from __future__ import annotations

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.errors import InputError


@op
def max_pool2d(x: Array, *, size: int = 2) -> tuple[Array, Backward]:
    """The largest value of each size × size window: (N, H, W, C) → (N, H/size, W/size, C).

        y[n, i, j, c] = max_{a, b < size} x[n, i·size + a, j·size + b, c]

    The gradient goes to the place of the largest (the first, where several are equal) and nowhere else.
    Raises InputError unless H and W are multiples of `size`.  (Ronneberger 2015, arXiv:1505.04597, section 2)

    >>> ops.max_pool2d(np.array([[1.0, 4.0], [2.0, 3.0]]).reshape(1, 2, 2, 1)).item()
    4.0
    """
    if x.ndim != 4 or size < 1 or x.shape[1] % size or x.shape[2] % size or 0 in x.shape:
        raise InputError(f"max_pool2d: x {x.shape} must be (N, H, W, C) with H and W multiples of size {size}")
    y, argmax = kernels.kernel("max_pool2d_forward", x)(x, size)

    def backward(dy: Array) -> tuple:
        return (kernels.kernel("max_pool2d_backward", dy)(dy, argmax, size),)

    return y, backward
