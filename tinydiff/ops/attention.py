"""Attention: every query q is compared with every key k, and the values v are mixed by how well they match."""

import math

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module, to_device_of
from tinydiff.errors import InputError
from tinydiff.ops.activation import softmax


@op
def attention(
    q: Array, k: Array, v: Array, *, heads: int = 1, causal: bool = False, mask: Array | None = None
) -> tuple[Array, Backward]:
    """Multi-head scaled dot-product attention: q (N, L, D), k and v (N, M, D) → (N, L, D).

    For each of the `heads` slices of D, d = D / heads wide:

        p = softmax(q·kᵀ / √d)      y = p·v
        dv = pᵀ·dy      ds = p·(dy·vᵀ − Σ p·(dy·vᵀ)) / √d      dq = ds·k      dk = dsᵀ·q

    With q, k and v from one sequence it is self-attention; with k and v from a text it is cross-attention, by which an
    image is conditioned on the text.  causal: position i sees positions 0 … i alone, as where one word follows another.
    mask, bool (L, M) or (N, L, M): where q may look; a query that may look nowhere gets zeros.  Both are NumPy's on
    every backend.  Raises InputError where shapes do not fit.  (Vaswani 2017, arXiv:1706.03762, section 3.2)

    >>> q, text = np.ones((1, 64, 8)), np.ones((1, 5, 8))
    >>> ops.attention(q, text, text, heads=2).shape
    (1, 64, 8)
    """
    fit = q.ndim == k.ndim == 3 and k.shape == v.shape and q.shape[::2] == k.shape[::2]
    if not fit or heads < 1 or q.shape[2] % heads:
        raise InputError(
            f"attention: q must be (N, L, D), k and v (N, M, D), and heads divide D; "
            f"got q {q.shape}, k {k.shape}, v {v.shape}, heads {heads}"
        )
    n, length, width = q.shape
    may_look = _may_look(causal, mask, (n, length, k.shape[1]))
    fast = kernels.find_kernel("attention", q) if may_look is None else None
    if fast is not None:
        y, lse = fast(q, k, v, heads)
        return y, lambda dy: kernels.attention_backward(q, k, v, heads, lse, y, dy)

    def split(x: Array) -> Array:  # (N, L, D) → (N, heads, L, d)
        return x.reshape(n, -1, heads, width // heads).transpose(0, 2, 1, 3)

    def join(x: Array) -> Array:  # and back
        return x.transpose(0, 2, 1, 3).reshape(n, -1, width)

    factor = 1 / math.sqrt(width // heads)
    qh, kh, vh = split(q), split(k), split(v)
    scores = qh @ kh.swapaxes(2, 3) * factor  # (N, heads, L, M)
    if may_look is not None:
        may_look = to_device_of(may_look[:, None], q)
        scores = array_module(q).where(may_look, scores, np.finfo(q.dtype).min)
    p, softmax_backward = softmax.forward(scores)
    if may_look is not None:
        p *= may_look  # in place, so that the backward has it; it changes those alone that may look nowhere

    def backward(dy: Array) -> tuple:
        dyh = split(dy)
        (ds,) = softmax_backward(dyh @ vh.swapaxes(2, 3))
        ds = ds * factor
        return join(ds @ kh), join(ds.swapaxes(2, 3) @ qh), join(p.swapaxes(2, 3) @ dyh)

    return join(p @ vh), backward


def _may_look(causal: bool, mask: Array | None, shape: tuple[int, int, int]) -> Array | None:
    """Bool (N or 1, L, M): where a query may look; None for everywhere."""
    if mask is not None and (mask.dtype != bool or mask.shape not in (shape, shape[1:])):
        raise InputError(f"attention: mask is {mask.dtype} {mask.shape}, expected bool {shape[1:]} or {shape}")
    if not causal:
        return mask if mask is None or mask.ndim == 3 else mask[None]
    before = np.tri(*shape[1:], dtype=bool)[None]  # ones on and below the diagonal
    return before if mask is None else before & mask
