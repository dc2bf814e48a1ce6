"""The convolution: every output pixel is the surrounding input pixels times a kernel, summed."""

from numbers import Integral

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module
from tinydiff.errors import InputError

Padding = int | tuple[int, int, int, int]
_NO_PADDING = (0, 0, 0, 0)


@op(selective=True)
def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int = 1,
    padding: Padding = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Array, Backward]:
    """Two-dimensional convolution (cross-correlation, as in every network): (N, H, W, C) → (N, H', W', K).

        y[n, i, j, k] = b[k] + Σ_{p, q, c} x[n, i·s + p − top, j·s + q − left, c] · w[p, q, c, k]

    w: (KH, KW, C, K), of x's type;   b: (K,) or None
    padding: rows and columns of zeros around the image, one number or (top, bottom, left, right)
    H' = (H + top + bottom − KH) // stride + 1, and W' in the same way
    dilation: how far apart the taps lie;   groups: each filter sees C / groups channels, w (KH, KW, C / groups, K)
    (both by a larger kernel that is zero elsewhere; as many groups as channels are a "depthwise" convolution)

    dx is dy convolved with the kernel flipped; dw sums, at each tap, x times dy over images and positions; db sums dy.
    Raises InputError where shapes do not fit.  (LeCun 1989; Dumoulin & Visin 2016, arXiv:1603.07285)

    >>> ops.conv2d(np.ones((1, 8, 8, 3)), np.ones((3, 3, 3, 16)), stride=2, padding=1).shape
    (1, 4, 4, 16)
    """
    sides = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
    picked = None
    if dilation != 1 or groups != 1:
        w, picked = _spread(w, dilation, groups)
    _check(x, w, b, stride, sides)
    y = kernels.conv2d_forward(x, w, b, stride, sides)

    def backward(dy: Array, needs_input_grad: tuple[bool, ...] = (True, True, True)) -> tuple:
        needs_dx, needs_dw, needs_db = needs_input_grad
        dx = kernels.conv2d_input_grad(dy, w, x.shape, stride, sides) if needs_dx else None
        dw = kernels.conv2d_weight_grad(x, dy, w.shape[:2], stride, sides) if needs_dw else None
        db = kernels.sum_rows(dy) if b is not None and needs_db else None
        return dx, dw if dw is None or picked is None else dw[picked], db

    return y, backward


@op(selective=True)
def conv_transpose2d(x: Array, w: Array, b: Array | None = None, *, stride: int = 2) -> tuple[Array, Backward]:
    """The up-convolution: (N, H, W, C) → (N, (H − 1)·s + KH, (W − 1)·s + KW, K).

        y[n, i·s + p, j·s + q, k] = b[k] + Σ_c x[n, i, j, c] · w[p, q, k, c], summed where kernels overlap

    w is (KH, KW, K, C) and b (K,) or None.  It is what a convolution does to the gradient by its input, so its own
    dx is that convolution of dy, and dw sums, at each tap, dy times x over images and positions.
    Raises InputError where shapes do not fit.  (Dumoulin & Visin 2016, arXiv:1603.07285, section 4)
    """
    fit = x.ndim == w.ndim == 4 and x.shape[3] == w.shape[3] and (b is None or b.shape == w.shape[2:3])
    if not fit or stride < 1:
        came = f"x {x.shape}, w {w.shape}, b {None if b is None else b.shape}, stride {stride}"
        raise InputError(f"conv_transpose2d: x must be (N, H, W, C), w (KH, KW, K, C), b (K,), stride ≥ 1, not {came}")
    n, height, width, _ = x.shape
    kernel_h, kernel_w, filters, _ = w.shape
    shape = n, (height - 1) * stride + kernel_h, (width - 1) * stride + kernel_w, filters
    y = kernels.conv2d_input_grad(x, w, shape, stride, _NO_PADDING)

    def backward(dy: Array, needs_input_grad: tuple[bool, ...] = (True, True, True)) -> tuple:
        needs_dx, needs_dw, needs_db = needs_input_grad
        dx = kernels.conv2d_forward(dy, w, None, stride, _NO_PADDING) if needs_dx else None
        dw = kernels.conv2d_weight_grad(dy, x, w.shape[:2], stride, _NO_PADDING) if needs_dw else None
        db = kernels.sum_rows(dy) if b is not None and needs_db else None
        return dx, dw, db

    return y if b is None else y + b, backward


def _spread(w: Array, dilation: int, groups: int) -> tuple[Array, tuple[Array, ...]]:
    """The kernel of one group without dilation that does the same, and where in it w (KH, KW, C / groups, K) lies."""
    if w.ndim != 4 or dilation < 1 or groups < 1 or w.shape[3] % groups:
        asked = f"dilation {dilation} ≥ 1 and groups {groups} that divide the filters"
        raise InputError(f"conv2d: w must be (KH, KW, C / groups, K) with {asked}, not {w.shape}")
    p, q, c, k = array_module(w).indices(w.shape)
    c = c + k // (w.shape[3] // groups) * w.shape[2]  # the channels of the filter's own group
    places = p * dilation, q * dilation, c, k
    sides = ((side - 1) * dilation + 1 for side in w.shape[:2])
    large = array_module(w).zeros((*sides, w.shape[2] * groups, w.shape[3]), w.dtype)
    large[places] = w
    return large, places


def _check(x: Array, w: Array, b: Array | None, stride: int, padding: tuple[int, ...]) -> None:
    shapes = f"(x {x.shape}, w {w.shape})"
    whole_numbers = all(isinstance(number, Integral) for number in (stride, *padding))
    if not whole_numbers or stride < 1 or len(padding) != 4 or min(padding) < 0:
        expected = "stride must be ≥ 1 and padding one number ≥ 0 or four, (top, bottom, left, right)"
        raise InputError(f"conv2d: {expected}; got {stride} and {padding}")
    if x.ndim != 4 or w.ndim != 4:
        raise InputError(f"conv2d: x must be (N, H, W, C) and w (KH, KW, C, K), not {shapes}")
    if x.shape[3] != w.shape[2]:
        turned = "; is x (N, C, H, W)? then x.transpose(0, 2, 3, 1)" if x.shape[1] == w.shape[2] else ""
        raise InputError(f"conv2d: x has {x.shape[3]} channels but w expects {w.shape[2]} {shapes}{turned}")
    if b is not None and b.shape != w.shape[3:]:
        raise InputError(f"conv2d: w has {w.shape[3]} filters but b has shape {b.shape} {shapes}")
    if x.dtype != w.dtype:
        raise InputError(f"conv2d: x is {x.dtype} but w is {w.dtype}; use one type")
    height, width = x.shape[1] + padding[0] + padding[1], x.shape[2] + padding[2] + padding[3]
    if height < w.shape[0] or width < w.shape[1]:
        raise InputError(f"conv2d: the padded image {height}×{width} does not hold the kernel {shapes}")
