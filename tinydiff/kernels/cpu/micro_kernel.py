"""The micro-kernel: the one loop that does the multiplications.

    c[i, :] = start[i, :] + Σ_k a[i, k] · b[k, :]      for a few rows i, over one or two vectors of columns

All these sums live in vector registers while k runs; each step loads the vectors of b, spreads one number of each row
of a over a register, multiplies and adds.  Where a's numbers are is said by an *indirection buffer*, a table of
addresses (Dukhan 2019, arXiv:1907.02129), so that nothing needs to be copied together before it is multiplied: a row
may be a patch of an image, pixel by pixel, and a pixel outside the image is the address of zeros.  `model` says it in
NumPy.

What it costs: instructions written one by one, since compilers do not find this form.  What it buys: the arithmetic
units are hardly ever idle.

The shape follows the machine: AVX-512 has 32 registers of 16 floats, room for 12 rows of 2 vectors; AVX2 has 16 of 8,
where 12 × 2 would spill and 6 × 2 does not; NEON has 32 of 4.  Where fewer rows or columns are left, smaller blocks of
the same form finish the work.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinydiff.kernels.cpu.vectors import I64, INSTRUCTIONS, LANES, Vectors, emitted

ROWS, VECTORS = {"avx512": (12, 2), "avx2": (6, 2), "neon": (8, 2), "generic": (4, 2)}[INSTRUCTIONS]
WIDTH = VECTORS * LANES
HEIGHTS = (ROWS, *(rows for rows in (4, 1) if rows < ROWS))  # rows of the blocks that there are
ENTRY = ROWS + 1  # numbers of a tap in the buffer: an address for each row, and how many bytes into b the tap begins


def model(memory, buffer, taps, steps, skip, b, start, start_row, c, c_row, rows, columns):  # type: ignore[no-untyped-def]
    """What `multiply_rows` computes, where addresses are bytes from the beginning of `memory`, a float32 array."""

    def floats(address: int, count: int) -> np.ndarray:
        return memory[address // 4 : address // 4 + count]

    width = -(-columns // LANES) * LANES  # whole vectors
    for i in range(rows):
        sums = floats(start + 4 * start_row * i, width).copy()
        for tap in range(taps):
            a = floats(buffer[tap, i] + skip, steps)
            for k in range(steps):
                sums += a[k] * floats(b + buffer[tap, ROWS] + 4 * WIDTH * k, width)
        floats(c + 4 * c_row * i, width)[:] = sums


@intrinsic
def multiply_rows(typingctx, buffer, taps, steps, skip, b, start, start_row, c, c_row, rows, columns):  # type: ignore[no-untyped-def]
    """At most ROWS rows by WIDTH columns, a's rows by address: a[i, tap, k] is the float at buffer[tap, i] + skip + 4k.

    buffer (taps, ENTRY), b, start and c are addresses, and all arguments integers, which is all that intrinsics take.
    b's rows are WIDTH floats apart, those of start and c start_row and c_row.  A start_row of 0 begins every row with
    the same numbers, a bias for instance.  Whole vectors of c are written.
    """

    def body(v, buffer, taps, steps, skip, b, start, start_row, c, c_row, rows, columns):  # type: ignore[no-untyped-def]
        build = v.build

        def block(height: int, vectors: int, first: Any) -> None:
            first_row = v.plus(buffer, first, 8)
            sums = _begin(v, height, vectors, v.plus(start, first, start_row, 4), start_row)
            with v.repeat(taps) as tap:
                addresses = [
                    build.add(v.load_integer(v.plus(v.plus(first_row, tap, 8 * ENTRY), 8 * i)), skip)
                    for i in range(height)
                ]
                b_tap = build.add(b, v.load_integer(v.plus(v.plus(buffer, tap, 8 * ENTRY), 8 * ROWS)))
                with v.repeat(steps) as k:
                    b_k = [v.load(v.plus(v.plus(b_tap, k, 4 * WIDTH), 4 * LANES * j)) for j in range(vectors)]
                    for address, row in zip(addresses, sums, strict=True):
                        _add(v, row, v.spread(v.plus(address, k, 4)), b_k)
            _finish(v, sums, v.plus(c, first, c_row, 4), c_row)

        _in_blocks(v, rows, columns, block)

    return types.void(*[types.intp] * 11), emitted(body)


@intrinsic
def multiply_columns(typingctx, buffer, steps, skip, b, b_row, c, c_row, rows, columns):  # type: ignore[no-untyped-def]
    """The same with a's columns by address, added to c: a[i, k] is the float at buffer[k] + skip + 4i.

    b's rows are b_row floats apart.
    """

    def body(v, buffer, steps, skip, b, b_row, c, c_row, rows, columns):  # type: ignore[no-untyped-def]
        def block(height: int, vectors: int, first: Any) -> None:
            c_first, a_first = v.plus(c, first, c_row, 4), v.plus(skip, first, 4)
            sums = _begin(v, height, vectors, c_first, c_row)
            with v.repeat(steps) as k:
                address = v.build.add(v.load_integer(v.plus(buffer, k, 8)), a_first)
                b_k = [v.load(v.plus(v.plus(b, k, b_row, 4), 4 * LANES * j)) for j in range(vectors)]
                for i, row in enumerate(sums):
                    _add(v, row, v.spread(v.plus(address, 4 * i)), b_k)
            _finish(v, sums, c_first, c_row)

        _in_blocks(v, rows, columns, block)

    return types.void(*[types.intp] * 9), emitted(body)


def _in_blocks(v: Vectors, rows: Any, columns: Any, block: Callable[[int, int, Any], None]) -> None:
    """`block(height, vectors, first row)` for the blocks that make up the rows, as wide as the columns need."""
    build = v.build
    for vectors in range(VECTORS, 0, -1):
        fits = build.icmp_signed("<=", columns, ir.Constant(I64, vectors * LANES))
        needed = build.icmp_signed(">", columns, ir.Constant(I64, (vectors - 1) * LANES))
        with build.if_then(build.and_(fits, needed)):
            done = ir.Constant(I64, 0)
            for height in HEIGHTS:
                size = ir.Constant(I64, height)
                count = build.sdiv(build.sub(rows, done), size)
                with v.repeat(count) as i:
                    block(height, vectors, build.add(done, build.mul(i, size)))
                done = build.add(done, build.mul(count, size))


def _begin(v: Vectors, rows: int, vectors: int, start: Any, start_row: Any) -> list[list[Any]]:
    """The sums, one variable for each vector of each row."""
    places = [v.plus(start, start_row, 4 * i) for i in range(rows)]
    return [[v.variable(v.load(v.plus(place, 4 * LANES * j))) for j in range(vectors)] for place in places]


def _add(v: Vectors, row: list[Any], number: Any, columns: list[Any]) -> None:
    for (read, write), column in zip(row, columns, strict=True):
        write(v.multiply_add(number, column, read()))


def _finish(v: Vectors, sums: list[list[Any]], c: Any, c_row: Any) -> None:
    for i, row in enumerate(sums):
        for j, (read, _) in enumerate(row):
            v.store(read(), v.plus(v.plus(c, c_row, 4 * i), 4 * LANES * j))
