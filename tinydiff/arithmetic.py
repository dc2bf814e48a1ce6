"""Arithmetic on arrays, each formula with its gradient; `autograd` puts them on the tape.

`a + b`, `a / b`, `x**2`, `a @ b`, `x.mean(axis)`, `x[:, 1:]` on Tensors are these functions, and read as in NumPy.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from tinydiff import kernels
from tinydiff.device import array_module
from tinydiff.errors import InputError

Array = Any  # a NumPy array, or a CuPy array on a GPU
Backward = Callable[..., tuple]  # dy → a gradient for each array that went in
Axis = int | tuple[int, ...] | None  # None: all


def add(a: Array, b: Array) -> tuple[Array, Backward]:
    """a + b, broadcast; both get dy back."""
    return kernels.add(a, b), lambda dy: (unbroadcast(dy, a), unbroadcast(dy, b))


def subtract(a: Array, b: Array) -> tuple[Array, Backward]:
    """a − b, broadcast; a gets dy back and b gets −dy."""
    return a - b, lambda dy: (unbroadcast(dy, a), unbroadcast(-dy, b))


def multiply(a: Array, b: Array) -> tuple[Array, Backward]:
    """a·b, elementwise and broadcast; a gets dy·b back and b gets dy·a."""
    return a * b, lambda dy: (unbroadcast(dy * b, a), unbroadcast(dy * a, b))


def divide(a: Array, b: Array) -> tuple[Array, Backward]:
    """y = a / b, elementwise and broadcast; a gets dy / b back and b gets −dy·y / b."""
    y = a / b
    return y, lambda dy: (unbroadcast(dy / b, a), unbroadcast(-dy * y / b, b))


def power(x: Array, *, exponent: float) -> tuple[Array, Backward]:
    """xᵖ, elementwise, p = exponent a number; dx = dy·p·xᵖ⁻¹.  Raises InputError for an exponent that is no number."""
    if not isinstance(exponent, Real):
        raise InputError(f"power: the exponent is a {type(exponent).__name__}, expected a number")
    p = float(exponent)
    return x**p, lambda dy: (dy * (p * x ** (p - 1)) if p else 0 * dy,)


def matmul(a: Array, b: Array) -> tuple[Array, Backward]:
    """Products of matrices, batched: (…, M, C) @ (…, C, K) → (…, M, K); the axes before the last two are broadcast.

        y[…, m, k] = Σ_c a[…, m, c]·b[…, c, k]      da = dy @ bᵀ      db = aᵀ @ dy

    Raises InputError where shapes do not fit.  `linear` is the layer, faster and with a bias.
    """
    shapes: list[tuple[int, ...]] = [getattr(operand, "shape", ()) for operand in (a, b)]
    if min(map(len, shapes)) < 2 or shapes[0][-1] != shapes[1][-2]:
        raise InputError(f"matmul: a must be (…, M, C) and b (…, C, K), not {shapes[0]} and {shapes[1]}")
    return a @ b, lambda dy: (unbroadcast(dy @ b.swapaxes(-1, -2), a), unbroadcast(a.swapaxes(-1, -2) @ dy, b))


def sum(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Backward]:
    """The sum over these axes, by default all; each number gets its sum's dy.  InputError where x has no such axis."""
    kept = _kept("sum", x, axis)
    return x.sum(axis, keepdims=keepdims), lambda dy: (_spread(dy, kept, x),)


def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Backward]:
    """The mean over these axes, by default all; each of n numbers gets dy / n.  Raises InputError as `sum` does."""
    kept = _kept("mean", x, axis)
    n = x.size // math.prod(kept)
    return x.mean(axis, keepdims=keepdims), lambda dy: (_spread((dy / n).astype(x.dtype), kept, x),)


def reshape(x: Array, *, shape: tuple[int, ...]) -> tuple[Array, Backward]:
    """The same values in another shape; so is the gradient."""
    return x.reshape(shape), lambda dy: (dy.reshape(x.shape),)


def transpose(x: Array, *, axes: tuple[int, ...] | None = None) -> tuple[Array, Backward]:
    """The axes in another order, by default reversed; dy goes back by the inverse order, as in NumPy.

    Raises InputError where `axes` are not all axes of x, each once.
    """
    order = list(range(x.ndim))[::-1] if axes is None else [i + x.ndim if i < 0 else i for i in axes]
    if sorted(order) != list(range(x.ndim)):
        raise InputError(f"transpose: axes {axes} are not the {x.ndim} axes of x {x.shape}, each once")
    inverse = [order.index(i) for i in range(x.ndim)]
    return x.transpose(order), lambda dy: (dy.transpose(inverse),)


def getitem(x: Array, *, key: Any) -> tuple[Array, Backward]:
    """The part x[key], by numbers, slices, … and None; dy goes back to where it came from, the rest gets no gradient.

    Raises InputError for another key, an array of indices say, and IndexError for a place that x does not have.
    """
    for k in key if isinstance(key, tuple) else (key,):
        if isinstance(k, bool) or not (k is None or k is Ellipsis or isinstance(k, (slice, Integral))):
            raise InputError(f"getitem: a {type(k).__name__} is no number or slice; embedding looks up rows by indices")

    def backward(dy: Array) -> tuple:
        dx = array_module(x).zeros(x.shape, dy.dtype)
        dx[key] = dy
        return (dx,)

    return x[key], backward


def unbroadcast(dy: Array, operand: Any) -> Array:
    """Sum `dy` over the axes that broadcasting has added to the operand, an array or a number, or stretched."""
    shape = getattr(operand, "shape", ())
    if dy.shape == shape:
        return dy
    dy = dy.sum(axis=tuple(range(dy.ndim - len(shape))))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and dy.shape[i] != 1)
    return dy.sum(axis=stretched, keepdims=True) if stretched else dy


def _kept(name: str, x: Array, axis: Axis) -> tuple[int, ...]:
    """The shape of x with 1 for each of these axes."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if not all(isinstance(i, Integral) and -x.ndim <= i < x.ndim for i in axes):
        raise InputError(f"{name}: axis {axis} is none of the {x.ndim} axes of x {x.shape}")
    return tuple(1 if i in axes or i - x.ndim in axes else n for i, n in enumerate(x.shape))


def _spread(dy: Array, kept: tuple[int, ...], x: Array) -> Array:
    """dy at each number of x that went into its sum."""
    return array_module(x).broadcast_to(dy.reshape(kept), x.shape).copy()
