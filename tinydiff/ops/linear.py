"""The fully connected layer, where every output looks at every input, and the embedding, a table of vectors."""

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module, capturing, to_device_of
from tinydiff.errors import InputError


@op(selective=True)
def linear(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Backward]:
    """y = x·w + b: (…, C) → (…, K), with w (C, K) and b (K,) or None;  dx = dy·wᵀ,  dw = xᵀ·dy,  db = Σ dy.

    Raises InputError where shapes do not fit.
    """
    if w.ndim != 2 or x.shape[-1] != w.shape[0] or (b is not None and b.shape != w.shape[1:]):
        shapes = f"x {x.shape}, w {w.shape}, b {None if b is None else b.shape}"
        raise InputError(f"linear: x must be (…, C), w (C, K) and b (K,), not {shapes}")
    rows = x.reshape(-1, w.shape[0])  # (rows, C)
    y = kernels.matmul(rows, w, bias=b)

    def backward(dy: Array, needs_input_grad: tuple[bool, ...] = (True, True, True)) -> tuple:
        needs_dx, needs_dw, needs_db = needs_input_grad
        dy = dy.reshape(-1, w.shape[1])  # (rows, K)
        dx = kernels.matmul(dy, w, transpose_b=True).reshape(x.shape) if needs_dx else None
        dw = kernels.matmul(rows, dy, transpose_a=True) if needs_dw else None
        db = kernels.sum_rows(dy) if b is not None and needs_db else None
        return dx, dw, db

    return y.reshape(*x.shape[:-1], w.shape[1]), backward


@op(integers=("indices",))
def embedding(table: Array, indices: Array) -> tuple[Array, Backward]:
    """Look rows up: table (V, D), indices any shape of integers → (…, D).  Each row collects the gradients of its uses.

    The indices may lie elsewhere than the table.  Raises InputError for an index that is not in the table, but for
    those on a GPU while its work is recorded, where no value can be looked at.
    """
    xp, rows = array_module(table), table.shape[0]
    if indices.size and not capturing(indices) and (indices.min() < 0 or indices.max() >= rows):
        raise InputError(f"embedding: indices reach from {indices.min()} to {indices.max()}, the table has {rows} rows")
    indices = to_device_of(indices, table)
    if xp.__name__ == "cupy":  # whose add.at adds in any order; so each row is a sum over the indices that name it

        def in_order(dy: Array) -> tuple:
            uses = (indices.reshape(-1, 1) == xp.arange(rows)).astype(dy.dtype)
            return kernels.matmul(uses, dy.reshape(-1, table.shape[1]), transpose_a=True), None

        return table[indices], in_order

    def backward(dy: Array) -> tuple:
        dtable = xp.zeros(table.shape, dy.dtype)
        xp.add.at(dtable, indices.reshape(-1), dy.reshape(-1, table.shape[1]))
        return dtable, None

    return table[indices], backward
