"""The embedding: a table with one vector for each word."""

from __future__ import annotations

from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module, beside
from tinydiff.errors import InputError


@op
def embedding(table: Array, indices: Array) -> tuple[Array, Backward]:
    """Look rows up: table (V, D), indices any shape of integers → (…, D).  Each row collects the gradients of its uses.

    The indices may lie elsewhere than the table.  Raises InputError for an index that is not in the table.

    >>> ops.embedding(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([1, 1, 0])).shape
    (3, 2)
    """
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= table.shape[0]):
        raise InputError(
            f"embedding: indices reach from {indices.min()} to {indices.max()}, the table has {table.shape[0]} rows"
        )
    xp, indices = array_module(table), beside(indices, table)

    def backward(dy: Array) -> tuple:
        dtable = xp.zeros(table.shape, dy.dtype)
        xp.add.at(dtable, indices.reshape(-1), dy.reshape(-1, table.shape[1]))
        return dtable, None

    return table[indices], backward
