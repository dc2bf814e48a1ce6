"""Normalisation: keep activations at one scale, so that deep stacks train; and dropout, so that they do not overfit."""

from numpy.random import Generator

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module, to_device_of
from tinydiff.errors import InputError
from tinydiff.ops import activation


@op
def group_norm(
    x: Array, scale: Array, shift: Array, *, groups: int, eps: float = 1e-5, silu: bool = False
) -> tuple[Array, Backward]:
    """Zero mean and unit variance over each image and group of channels, then scale and shift: (N, …, C) → same.

        x̂ = (x − mean) / √(variance + eps)      h = scale·x̂ + shift      y = h, or SiLU(h) with silu=True
        dx = (d − mean(d) − x̂·mean(d·x̂)) / √(variance + eps)   with d = dh·scale, means over the same group,
        where dh = dy, or dy·SiLU′(h)

    SiLU follows almost every group norm of a U-Net; as one op it saves a pass over memory.
    Raises InputError unless `groups` divides C.  (Wu & He 2018, arXiv:1803.08494)

    >>> ops.group_norm(np.array([[1.0, 3.0, 5.0, 5.0]]), np.ones(4), np.zeros(4), groups=2, eps=1e-9).data.round(4)
    array([[-1.,  1.,  0.,  0.]])
    """
    channels = x.shape[-1]
    fit = x.ndim >= 2 and groups >= 1 and channels % groups == 0
    if not fit or scale.shape != (channels,) or shift.shape != (channels,):
        raise InputError(
            f"group_norm: {groups} groups must divide the {channels} channels of x {x.shape}, "
            f"and scale {scale.shape} and shift {shift.shape} must have one number a channel"
        )
    fast = kernels.find_kernel("group_norm", x)
    if fast is not None:
        y, saved = fast(x, scale, shift, groups, eps, silu)
        return y, lambda dy: kernels.group_norm_backward(dy, saved)

    grouped = x.reshape(x.shape[0], -1, groups, channels // groups)  # (N, H·W, G, C/G)
    mean = grouped.mean((1, 3), keepdims=True)
    rstd = 1 / array_module(x).sqrt(grouped.var((1, 3), keepdims=True) + eps)
    xhat = ((grouped - mean) * rstd).reshape(x.shape)  # (N, …, C)
    h = xhat * scale + shift
    y, silu_backward = activation.silu.forward(h) if silu else (h, lambda dy: (dy,))

    def backward(dy: Array) -> tuple:
        (dh,) = silu_backward(dy)
        axes = tuple(range(x.ndim - 1))
        d, xh = (dh * scale).reshape(grouped.shape), xhat.reshape(grouped.shape)  # (N, H·W, G, C/G)
        dx = rstd * (d - d.mean((1, 3), keepdims=True) - xh * (d * xh).mean((1, 3), keepdims=True))
        return dx.reshape(x.shape), (dh * xhat).sum(axes), dh.sum(axes)

    return y, backward


@op
def layer_norm(x: Array, scale: Array, shift: Array, *, eps: float = 1e-5) -> tuple[Array, Backward]:
    """Zero mean and unit variance over the last axis, then scale and shift: (…, C) → same.

    It is the group norm of one group in which every position is an image of its own.  (Ba 2016, arXiv:1607.06450)
    """
    y, backward = group_norm.forward(x.reshape(-1, x.shape[-1]), scale, shift, groups=1, eps=eps)

    def reshaped(dy: Array) -> tuple:
        dx, dscale, dshift = backward(dy.reshape(-1, x.shape[-1]))
        return dx.reshape(x.shape), dscale, dshift

    return y.reshape(x.shape), reshaped


@op
def batch_norm(
    x: Array,
    scale: Array,
    shift: Array,
    *,
    running: tuple[Array, Array] | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, Backward]:
    """Zero mean and unit variance for each channel over all images and positions, then scale and shift: (…, C) → same.

        x̂ = (x − mean) / √(variance + eps)      y = scale·x̂ + shift      d = dy·scale
        dx = (d − mean(d) − x̂·mean(d·x̂)) / √(variance + eps)   in training,   d / √(variance + eps)   in evaluation

    running: (mean, variance), (C,) each, that a layer keeps.  Training moves them, in place, by `momentum` towards the
    batch's (the variance over n − 1); evaluation, training=False, uses them, so that no image depends on the others.
    Raises InputError where shapes do not fit, or where nothing varies.  (Ioffe & Szegedy 2015, arXiv:1502.03167)
    """
    axes, n, channels = tuple(range(x.ndim - 1)), x.size // x.shape[-1], x.shape[-1:]
    if any(array.shape != channels for array in (scale, shift, *(running or ()))):
        raise InputError(f"batch_norm: scale, shift and both of running must have one number for each of {channels}")
    if (running is None and not training) or (training and n < 2):
        raise InputError(f"batch_norm: x {x.shape} needs two values a channel in training, and `running` without it")
    mean, variance = (x.mean(axes), x.var(axes)) if training else (a.astype(x.dtype) for a in running or ())
    if training and running is not None:
        for kept, found in zip(running, (mean, variance * (n / (n - 1))), strict=True):
            kept += momentum * (found - kept)
    rstd = 1 / array_module(x).sqrt(variance + x.dtype.type(eps))
    xhat = (x - mean) * rstd

    def backward(dy: Array) -> tuple:
        d, dscale = dy * scale, (dy * xhat).sum(axes)
        if training:
            d = d - d.mean(axes) - xhat * (d * xhat).mean(axes)
        return d * rstd, dscale, dy.sum(axes)

    return xhat * scale + shift, backward


@op
def dropout(x: Array, *, rng: Generator, p: float = 0.5, training: bool = True) -> tuple[Array, Backward]:
    """Each value is dropped with probability p, the others grow by 1 / (1 − p), so that the mean stays: (…) → same.

        y = m·x      dx = m·dy      m = 1 / (1 − p) where rng.random() ≥ p, else 0;  in evaluation y = x

    Raises InputError unless 0 ≤ p < 1.  (Srivastava 2014, JMLR 15:1929)
    """
    if not 0 <= p < 1:
        raise InputError(f"dropout: p must lie in [0, 1); got {p!r}")
    if not training:
        return x * 1, lambda dy: (dy,)
    mask = to_device_of((rng.random(x.shape) >= p).astype(x.dtype), x) * x.dtype.type(1 / (1 - p))
    return x * mask, lambda dy: (dy * mask,)


@op
def rms_norm(x: Array, scale: Array, *, eps: float = 1e-5) -> tuple[Array, Backward]:
    """Unit mean square over the last axis, then scale: x (…, C), scale (C,) → as x.

        x̂ = x / √(mean(x²) + eps)      y = scale·x̂      dx = (d − x̂·mean(d·x̂)) / √(mean(x²) + eps),   d = dy·scale

    Layer norm without its mean and shift.  Raises InputError where shapes do not fit.  (Zhang 2019, arXiv:1910.07467)
    """
    if scale.shape != x.shape[-1:]:
        raise InputError(f"rms_norm: scale {scale.shape} must have one number for each channel of x {x.shape}")
    rstd = 1 / array_module(x).sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(eps))
    xhat = x * rstd

    def backward(dy: Array) -> tuple:
        d = dy * scale
        dx = (d - xhat * (d * xhat).mean(-1, keepdims=True)) * rstd
        return dx, (dy * xhat).sum(tuple(range(x.ndim - 1)))

    return xhat * scale, backward
