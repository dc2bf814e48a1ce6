"""The fully connected layer: every output looks at every input."""

from __future__ import annotations

from tinydiff.autograd import Array, Backward, op
from tinydiff.errors import InputError
from tinydiff.kernels import matmul, sum_rows


@op
def linear(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Backward]:
    """y = x·w + b: (…, C) → (…, K), with w (C, K) and b (K,) or None.

        dx = dy·wᵀ      dw = xᵀ·dy      db = Σ dy

    Raises InputError where shapes do not fit.
    """
    if w.ndim != 2 or x.shape[-1] != w.shape[0] or (b is not None and b.shape != w.shape[1:]):
        shapes = f"x {x.shape}, w {w.shape}, b {None if b is None else b.shape}"
        raise InputError(f"linear: x must be (…, C), w (C, K) and b (K,), not {shapes}")
    rows = x.reshape(-1, w.shape[0])
    y = matmul(rows, w, bias=b)

    def backward(dy: Array, needs: tuple[bool, ...] = (True, True, True)) -> tuple:
        dy = dy.reshape(-1, w.shape[1])
        dx = matmul(dy, w, transpose_b=True).reshape(x.shape) if needs[0] else None
        dw = matmul(rows, dy, transpose_a=True) if needs[1] else None
        return dx, dw, sum_rows(dy) if b is not None and needs[2] else None

    return y.reshape(*x.shape[:-1], w.shape[1]), backward
