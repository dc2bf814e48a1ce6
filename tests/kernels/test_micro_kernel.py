"""The micro-kernel computes what its model in NumPy says, wherever the indirection buffer points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from tinydiff.kernels.cpu.micro_kernel import ENTRY, LANES, ROWS, WIDTH, model, multiply_columns, multiply_rows


@njit
def compiled_rows(buffer, taps, steps, skip, b, start, start_row, c, c_row, rows, columns):
    multiply_rows(buffer, taps, steps, skip, b, start, start_row, c, c_row, rows, columns)


@njit
def compiled_columns(buffer, steps, skip, b, b_row, c, c_row, rows, columns):
    multiply_columns(buffer, steps, skip, b, b_row, c, c_row, rows, columns)


def at(array):
    return array.ctypes.data


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    taps=st.integers(1, 4),
    steps=st.integers(1, 9),
    skip=st.integers(0, 5),
    rows=st.integers(1, ROWS),
    columns=st.integers(1, WIDTH),
    biased=st.booleans(),
)
def test_rows(seed, taps, steps, skip, rows, columns, biased):
    """Rows anywhere in memory, overlapping; taps in any order; columns that fill no whole vector."""
    rng = np.random.default_rng(seed)
    memory = rng.standard_normal(2000).astype(np.float32)
    a_end, b_at, c_at, c_row = 500, 600, 1000, WIDTH + 3  # numbers; b has taps·steps ≤ 36 rows, cut to what there is
    b_rows = (c_at - b_at) // WIDTH
    buffer = np.empty((taps, ENTRY), np.int64)
    buffer[:, :ROWS] = 4 * rng.integers(0, a_end - steps - skip, (taps, ROWS))
    buffer[:, ROWS] = 4 * WIDTH * rng.integers(0, b_rows - steps + 1, taps)
    start, start_row = (a_end, 0) if biased else (c_at, c_row)
    expected, got, absolute = memory.copy(), memory.copy(), buffer.copy()
    absolute[:, :ROWS] += at(got)
    sizes = rows, columns
    model(expected, buffer, taps, steps, 4 * skip, 4 * b_at, 4 * start, start_row, 4 * c_at, c_row, *sizes)
    base, skipped = at(got), 4 * skip
    places = base + 4 * b_at, base + 4 * start, start_row, base + 4 * c_at, c_row
    compiled_rows(at(absolute), taps, steps, skipped, *places, *sizes)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    written = np.zeros(len(memory), bool)
    for i in range(rows):
        written[c_at + i * c_row :][: -(-columns // LANES) * LANES] = True
    np.testing.assert_array_equal(got[~written], memory[~written])


@pytest.mark.parametrize("rows", range(1, ROWS + 1))
@pytest.mark.parametrize("columns", sorted({1, LANES, LANES + 1, WIDTH}))
def test_columns(rows, columns):
    rng, steps, skip, b_row = np.random.default_rng(rows), 7, 2, WIDTH + 1
    a = rng.standard_normal((20, ROWS + skip)).astype(np.float32)
    b, c = rng.standard_normal((steps, b_row)).astype(np.float32), np.ones((ROWS, WIDTH), np.float32)
    chosen = rng.integers(0, len(a), steps)
    buffer = at(a) + a.strides[0] * chosen
    compiled_columns(at(buffer), steps, 4 * skip, at(b), b_row, at(c), WIDTH, rows, columns)
    expected = 1 + a[chosen, skip : skip + rows].T @ b[:, :columns]
    np.testing.assert_allclose(c[:rows, :columns], expected, rtol=1e-5, atol=1e-5)
    assert (c[rows:] == 1).all()
