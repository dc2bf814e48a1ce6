"""Winograd's transforms: the matrices of F(4×4, 3×3), and each transform emitted for LANES channels at a time.

A 6×6 tile is evaluated at 6 points by rows and by columns; rows 1 and 2 of the matrices belong to ±p, 3 and 4 to ±q,
so that a pair shares its even and odd parts.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from tinydiff.kernels.cpu.jit import machine_function
from tinydiff.kernels.cpu.vectors import Vectors, emitted

P, Q = 0.5**0.5, 2**0.5  # the points are 0, P, −P, Q, −Q, ∞, one for each row below; P·Q = 1
OUT, IN, POINTS = 4, 6, 36  # output and input pixels of a tile, each way, and points where it is evaluated


def _matrices(p: float, q: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, Bᵀ and G for the points 0, ±p, ±q, ∞: values of the outputs', inputs' and kernel's polynomials there."""
    points = [0.0, p, -p, q, -q]
    a = np.array([[x**i for i in range(OUT)] for x in points] + [[0, 0, 0, 1]])
    g, b = np.zeros((IN, 3)), np.zeros((IN, IN))
    for row, x in enumerate(points):
        others = [y for y in points if y != x]
        g[row] = np.array([1, x, x * x]) / np.prod([x - y for y in others])
        b[row, :5] = np.poly(others)[::-1]
    g[5, 2] = 1
    b[5] = np.poly(points)[::-1]
    for matrix in (a, b, g):
        matrix[abs(matrix) < 1e-12] = 0
    return a, b, g


A, B, G = _matrices(P, Q)  # (6, 4), (6, 6) = Bᵀ, (6, 3)


def _evaluate(v: Vectors, matrix: np.ndarray, x: list[Any]) -> list[Any]:
    """matrix · x.  Rows 1 and 2 belong to ±p, 3 and 4 to ±q: their even parts are equal, their odd parts opposite."""
    terms = [list(zip(row, x, strict=True)) for row in matrix]
    rows = [v.combine(terms[0])]
    for r in (1, 3):
        even, odd = v.combine(terms[r][::2]), v.combine(terms[r][1::2])
        rows += [v.build.fadd(even, odd), v.build.fsub(even, odd)]
    return [*rows, v.combine(terms[5])]


def _interpolate(v: Vectors, matrix: np.ndarray, x: list[Any]) -> list[Any]:
    """matrixᵀ · x, with the sums and differences of the values at ±p taken first."""
    sums = {r: (v.build.fadd(x[r], x[r + 1]), v.build.fsub(x[r], x[r + 1])) for r in (1, 3)}
    return [
        v.combine([(matrix[0, i], x[0]), *((matrix[r, i], sums[r][i % 2]) for r in (1, 3)), (matrix[5, i], x[5])])
        for i in range(matrix.shape[1])
    ]


def _transform(along: Any, matrix: np.ndarray, count: int, shifted: bool = False) -> Any:
    """An intrinsic: `along(matrix)` down the columns of count × count vectors, then along the rows.

    Vector i is read at source + from_[i] and written at target + to[i], all addresses; the one at `shift` may be added.
    """

    @intrinsic
    def transform(typingctx: Any, source: Any, from_: Any, target: Any, to: Any, shift: Any) -> Any:
        def body(v: Vectors, source: Any, from_: Any, target: Any, to: Any, shift: Any) -> None:
            def place(base: Any, offsets: Any, i: int) -> Any:
                return v.build.add(base, v.load_integer(v.plus(offsets, 8 * i)))

            columns = [
                along(v, matrix, [v.load(place(source, from_, i * count + j)) for i in range(count)])
                for j in range(count)
            ]
            size = len(columns[0])
            for i in range(size):
                for j, vector in enumerate(along(v, matrix, [column[i] for column in columns])):
                    vector = v.build.fadd(vector, v.load(shift)) if shifted else vector
                    v.store(vector, place(target, to, i * size + j))

        return types.void(*[types.intp] * 5), emitted(body)

    return transform


_input = _transform(_evaluate, B, IN)  # 6×6 → 6×6 vectors
_kernel = _transform(_evaluate, G, 3)  # 3×3 → 6×6
_output = _transform(_interpolate, A, IN, shifted=True)  # 6×6 → 4×4, each with the bias added
_output_grad = _transform(_evaluate, A, OUT)  # 4×4 → 6×6
_kernel_grad = _transform(_interpolate, G, IN)  # 6×6 → 3×3


# As functions that are compiled once; they take integers only, here addresses, as above.


@machine_function
def transform_input(source, from_, target, to):  # type: ignore[no-untyped-def]
    _input(source, from_, target, to, 0)


@machine_function
def transform_kernel(source, from_, target, to):  # type: ignore[no-untyped-def]
    _kernel(source, from_, target, to, 0)


@machine_function
def transform_output(source, from_, target, to, bias):  # type: ignore[no-untyped-def]
    _output(source, from_, target, to, bias)


@machine_function
def transform_output_grad(source, from_, target, to):  # type: ignore[no-untyped-def]
    _output_grad(source, from_, target, to, 0)


@machine_function
def transform_kernel_grad(source, from_, target, to):  # type: ignore[no-untyped-def]
    _kernel_grad(source, from_, target, to, 0)
