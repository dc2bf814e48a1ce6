"""The fully connected layer: every output looks at every input."""

from __future__ import annotations

from tinydiff.autograd import Array, Backward, op
from tinydiff.errors import InputError
from tinydiff.kernels import matmul, sum_rows


@op(selective=True)
def linear(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Backward]:
    """y = x·w + b: (…, C) → (…, K), with w (C, K) and b (K,) or None.

        dx = dy·wᵀ      dw = xᵀ·dy      db = Σ dy

    Raises InputError where shapes do not fit.

    >>> ops.linear(np.ones((1, 2)), np.ones((2, 3)), np.array([0.0, 1.0, 2.0]))
    Tensor(array([[2., 3., 4.]]))
    """
    if w.ndim != 2 or x.shape[-1] != w.shape[0] or (b is not None and b.shape != w.shape[1:]):
        shapes = f"x {x.shape}, w {w.shape}, b {None if b is None else b.shape}"
        raise InputError(f"linear: x must be (…, C), w (C, K) and b (K,), not {shapes}")
    rows = x.reshape(-1, w.shape[0])  # (rows, C)
    y = matmul(rows, w, bias=b)

    def backward(dy: Array, needs_input_grad: tuple[bool, ...] = (True, True, True)) -> tuple:
        dy = dy.reshape(-1, w.shape[1])  # (rows, K)
        dx = matmul(dy, w, transpose_b=True).reshape(x.shape) if needs_input_grad[0] else None
        dw = matmul(rows, dy, transpose_a=True) if needs_input_grad[1] else None
        db = sum_rows(dy) if b is not None and needs_input_grad[2] else None
        return dx, dw, db

    return y.reshape(*x.shape[:-1], w.shape[1]), backward
