"""Max-pool, the contraction path's way to see further, and nearest ×2, the expansion path's way back."""

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.errors import InputError


@op
def max_pool2d(x: Array, *, size: int = 2) -> tuple[Array, Backward]:
    """The largest value of each size × size window: (N, H, W, C) → (N, H/size, W/size, C).

        y[n, i, j, c] = max_{a, b < size} x[n, i·size + a, j·size + b, c]

    The gradient goes to the place of the largest (the first, where several are equal) and nowhere else.
    Raises InputError unless H and W are multiples of `size`.  (Ronneberger 2015, arXiv:1505.04597, section 2)
    """
    if x.ndim != 4 or size < 1 or x.shape[1] % size or x.shape[2] % size:
        raise InputError(f"max_pool2d: x {x.shape} must be (N, H, W, C) with H and W multiples of size {size}")
    y, argmax = kernels.max_pool2d_forward(x, size)
    return y, lambda dy: (kernels.max_pool2d_backward(dy, argmax, size),)


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
