"""Attention: every query q is compared with every key k, and the values v are mixed by how well they match."""

import math

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.errors import InputError
from tinydiff.ops.activation import softmax


@op
def attention(q: Array, k: Array, v: Array, *, heads: int = 1) -> tuple[Array, Backward]:
    """Multi-head scaled dot-product attention: q (N, L, D), k and v (N, M, D) → (N, L, D).

    For each of the `heads` slices of D, d = D / heads wide:

        p = softmax(q·kᵀ / √d)      y = p·v
        dv = pᵀ·dy      ds = p·(dy·vᵀ − Σ p·(dy·vᵀ)) / √d      dq = ds·k      dk = dsᵀ·q

    With q, k and v from one sequence it is self-attention; with k and v from a text it is cross-attention, by which an
    image is conditioned on the text.  Raises InputError where shapes do not fit.  (Vaswani 2017, arXiv:1706.03762)

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
    n, _, width = q.shape
    fast = kernels.find_kernel("attention", q)
    if fast is not None:
        y, lse = fast(q, k, v, heads)
        return y, lambda dy: kernels.attention_backward(q, k, v, heads, lse, y, dy)

    def split(x: Array) -> Array:  # (N, L, D) → (N, heads, L, d)
        return x.reshape(n, -1, heads, width // heads).transpose(0, 2, 1, 3)

    def join(x: Array) -> Array:  # and back
        return x.transpose(0, 2, 1, 3).reshape(n, -1, width)

    factor = 1 / math.sqrt(width // heads)
    qh, kh, vh = split(q), split(k), split(v)
    p, softmax_backward = softmax.forward(qh @ kh.swapaxes(2, 3) * factor)  # (N, heads, L, M)

    def backward(dy: Array) -> tuple:
        dyh = split(dy)
        (ds,) = softmax_backward(dyh @ vh.swapaxes(2, 3))
        ds = ds * factor
        return join(ds @ kh), join(ds.swapaxes(2, 3) @ qh), join(p.swapaxes(2, 3) @ dyh)

    return join(p @ vh), backward
