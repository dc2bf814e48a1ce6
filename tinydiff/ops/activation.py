"""Activations: what makes a stack of linear maps more than one linear map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module
from tinydiff.errors import InputError


@op
def relu(x: Array) -> tuple[Array, Backward]:
    """max(x, 0), elementwise; the gradient passes where x > 0.  (Nair & Hinton 2010)

    >>> ops.relu(np.array([-1.0, 2.0]))
    Tensor(array([0., 2.]))
    """

    def backward(dy: Array) -> tuple:
        return (dy * (x > 0),)

    return array_module(x).maximum(x, 0), backward


@op
def silu(x: Array) -> tuple[Array, Backward]:
    """x·σ(x), elementwise; its slope is σ(x)·(1 + x·(1 − σ(x))).  (Hendrycks & Gimpel 2016, arXiv:1606.08415)

    >>> ops.silu(np.array([-20.0, 0.0, 20.0])).data.round()
    array([-0.,  0., 20.])
    """
    s = sigmoid(x)

    def backward(dy: Array) -> tuple:
        return (dy * s * (1 + x * (1 - s)),)

    return x * s, backward


@op
def gelu(x: Array) -> tuple[Array, Backward]:
    """x·Φ(x), elementwise, Φ the normal distribution function; its slope is Φ(x) + x·φ(x).

    (Hendrycks & Gimpel 2016, arXiv:1606.08415)

    >>> ops.gelu(np.array([1.0])).data.round(4)
    array([0.8413])
    """
    fast = kernels.find_kernel("gelu", x)
    if fast is not None:
        return fast(x), lambda dy: (kernels.kernel("gelu_backward", dy)(x, dy),)
    cdf, density = _normal(x)

    def backward(dy: Array) -> tuple:
        return (dy * (cdf + x * density),)

    return x * cdf, backward


@op
def geglu(x: Array) -> tuple[Array, Backward]:
    """Half of the channels, gated by the GELU of the other half: (…, 2D) → (…, D).

        y = u·g·Φ(g)   with x = [u, g];   du = dy·g·Φ(g),   dg = dy·u·(Φ(g) + g·φ(g))

    Raises InputError unless the last axis is even.  (Shazeer 2020, arXiv:2002.05202)

    >>> ops.geglu(np.array([[2.0, 1.0]])).data.round(4)
    array([[1.6827]])
    """
    if x.shape[-1] % 2:
        raise InputError(f"geglu: the last axis of x {x.shape} must be even, to part into values and gates")
    fast = kernels.find_kernel("geglu", x)
    if fast is not None:
        return fast(x), lambda dy: (kernels.kernel("geglu_backward", dy)(x, dy),)
    width = x.shape[-1] // 2
    u, g = x[..., :width], x[..., width:]  # (…, D) both
    cdf, density = _normal(g)

    def backward(dy: Array) -> tuple:
        return (array_module(x).concatenate([dy * g * cdf, dy * u * (cdf + g * density)], axis=-1),)

    return u * g * cdf, backward


@op
def softmax(x: Array) -> tuple[Array, Backward]:
    """Positive numbers that sum to one along the last axis: yᵢ = e^{xᵢ} / Σⱼ e^{xⱼ};  dx = y·(dy − Σⱼ dyⱼ·yⱼ).

    >>> ops.softmax(np.array([1000.0, 1000.0]))
    Tensor(array([0.5, 0.5]))
    """
    y = array_module(x).exp(x - x.max(-1, keepdims=True))  # the largest exponent is 0: nothing overflows
    y /= y.sum(-1, keepdims=True)

    def backward(dy: Array) -> tuple:
        return (y * (dy - (dy * y).sum(-1, keepdims=True)),)

    return y, backward


def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + e⁻ˣ), through tanh, which cannot overflow."""
    half = x.dtype.type(0.5)
    return half * array_module(x).tanh(half * x) + half


def _normal(x: Array) -> tuple[Array, Array]:
    """Φ(x) and φ(x), the normal distribution function and its density."""
    half, root, scale = (x.dtype.type(v) for v in (0.5, math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)))
    return half * (1 + _erf(x)(x * root)), scale * array_module(x).exp(-half * x * x)


def _erf(x: Array) -> Any:
    if isinstance(x, np.ndarray):
        from scipy.special import erf
    else:
        from cupyx.scipy.special import erf
    return erf
