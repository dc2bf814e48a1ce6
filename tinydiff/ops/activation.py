"""Activations: what makes a stack of linear maps more than one linear map."""

import math

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module
from tinydiff.errors import InputError


@op
def relu(x: Array) -> tuple[Array, Backward]:
    """max(x, 0), elementwise; the gradient passes where x > 0.  (Nair & Hinton 2010)"""
    return array_module(x).maximum(x, 0), lambda dy: (dy * (x > 0),)


@op
def leaky_relu(x: Array, *, slope: float = 0.01) -> tuple[Array, Backward]:
    """x where x > 0, else slope·x, elementwise; the gradient is scaled alike.  (Maas 2013)"""
    factor = array_module(x).where(x > 0, x.dtype.type(1), x.dtype.type(slope))
    return x * factor, lambda dy: (dy * factor,)


@op
def sigmoid(x: Array) -> tuple[Array, Backward]:
    """σ(x) = 1 / (1 + e⁻ˣ), elementwise; its slope is σ(x)·(1 − σ(x))."""
    s = logistic(x)
    return s, lambda dy: (dy * s * (1 - s),)


@op
def tanh(x: Array) -> tuple[Array, Backward]:
    """The hyperbolic tangent, elementwise; its slope is 1 − tanh²(x)."""
    y = array_module(x).tanh(x)
    return y, lambda dy: (dy * (1 - y * y),)


@op
def silu(x: Array) -> tuple[Array, Backward]:
    """x·σ(x), elementwise; its slope is σ(x)·(1 + x·(1 − σ(x))).  (Hendrycks & Gimpel 2016, arXiv:1606.08415)"""
    s = logistic(x)
    return x * s, lambda dy: (dy * s * (1 + x * (1 - s)),)


@op
def gelu(x: Array, *, approximate: str = "none") -> tuple[Array, Backward]:
    """x·Φ(x), elementwise, Φ the normal distribution function; its slope is Φ(x) + x·φ(x).  (As SiLU, 2016)

    approximate="tanh": ½·x·(1 + tanh u), u = √(2/π)·(x + 0.044715·x³), of slope ½·(1 + tanh u + x·(1 − tanh² u)·u′).
    Raises InputError for another.
    """
    if approximate == "tanh":
        return _gelu_by_tanh(x)
    if approximate != "none":
        raise InputError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    fast = kernels.find_kernel("gelu", x)
    if fast is not None:
        return fast(x), lambda dy: (kernels.gelu_backward(x, dy),)
    cdf, density = _normal(x)
    return x * cdf, lambda dy: (dy * (cdf + x * density),)


@op
def quick_gelu(x: Array) -> tuple[Array, Backward]:
    """x·σ(1.702·x), elementwise: nearly GELU, and CLIP's; its slope is s·(1 + 1.702·x·(1 − s)).  (As SiLU, 2016)"""
    scale = x.dtype.type(1.702)
    s = logistic(scale * x)
    return x * s, lambda dy: (dy * s * (1 + scale * x * (1 - s)),)


@op
def geglu(x: Array) -> tuple[Array, Backward]:
    """Half of the channels, gated by the GELU of the other half: (…, 2D) → (…, D).

        y = u·g·Φ(g)   with x = [u, g];   du = dy·g·Φ(g),   dg = dy·u·(Φ(g) + g·φ(g))

    Raises InputError unless the last axis is even.  (Shazeer 2020, arXiv:2002.05202)
    """
    if x.shape[-1] % 2:
        raise InputError(f"geglu: the last axis of x {x.shape} must be even, to part into values and gates")
    fast = kernels.find_kernel("geglu", x)
    if fast is not None:
        return fast(x), lambda dy: (kernels.geglu_backward(x, dy),)
    xp, width = array_module(x), x.shape[-1] // 2
    u, g = x[..., :width], x[..., width:]  # (…, D) both
    cdf, density = _normal(g)
    return u * g * cdf, lambda dy: (xp.concatenate([dy * g * cdf, dy * u * (cdf + g * density)], axis=-1),)


@op
def softmax(x: Array) -> tuple[Array, Backward]:
    """Positive numbers that sum to one along the last axis: yᵢ = e^{xᵢ} / Σⱼ e^{xⱼ};  dx = y·(dy − Σⱼ dyⱼ·yⱼ)."""
    y = array_module(x).exp(x - x.max(-1, keepdims=True))  # the largest exponent is 0: nothing overflows
    y /= y.sum(-1, keepdims=True)
    return y, lambda dy: (y * (dy - (dy * y).sum(-1, keepdims=True)),)


def logistic(x: Array) -> Array:
    """σ(x) = 1 / (1 + e⁻ˣ), through tanh, which cannot overflow."""
    half = x.dtype.type(0.5)
    return half * array_module(x).tanh(half * x) + half


def _gelu_by_tanh(x: Array) -> tuple[Array, Backward]:
    root, cubic = x.dtype.type(math.sqrt(2 / math.pi)), x.dtype.type(0.044715)
    t = array_module(x).tanh(root * (x + cubic * x * x * x))

    def backward(dy: Array) -> tuple:
        return (dy * (1 + t + x * (1 - t * t) * root * (1 + 3 * cubic * x * x)) / 2,)

    return x * (1 + t) / 2, backward


def _normal(x: Array) -> tuple[Array, Array]:
    """Φ(x) and φ(x), the normal distribution function and its density."""
    xp = array_module(x)
    if xp.__name__ == "numpy":
        from scipy.special import erf
    else:
        from cupyx.scipy.special import erf
    half, root, scale = (x.dtype.type(v) for v in (0.5, math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)))
    return half * (1 + erf(x * root).astype(x.dtype)), scale * xp.exp(-half * x * x)  # SciPy makes float32 of float16
