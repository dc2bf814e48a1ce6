"""The register tile: the one loop that does the multiplications.

    c[i, :] (+)= Σ_k a[i·a_row + k·a_step] · b[k, :]      for i < ROWS, over WIDTH = VECTORS · LANES columns

All ROWS · VECTORS partial sums live in vector registers while k runs; each step loads VECTORS vectors of b, spreads
one number of each row of a over a register, and multiplies and adds.  LLVM's own vectoriser does not find this form,
so it is emitted as explicit vectors.  The shape follows the machine: AVX-512 has 32 registers of 16 floats, AVX2 16
of 8 (12 sums + 2 of b + 1 of a; a larger tile spills), NEON 32 of 4.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _shape() -> tuple[str, int, int, int]:
    """Instruction set, rows, vectors and lanes for the processor that this runs on."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return "AVX-512", 12, 2, 16
    if features.get("avx2") and features.get("fma"):
        return "AVX2", 6, 2, 8
    if llvm.get_default_triple().startswith(("aarch64", "arm64")):
        return "NEON", 8, 3, 4
    return "generic", 4, 2, 4


INSTRUCTION_SET, ROWS, VECTORS, LANES = _shape()
WIDTH = VECTORS * LANES


@intrinsic
def tile(
    typingctx: Any, a: Any, a_row: Any, a_step: Any, b: Any, steps: Any, c: Any, c_row: Any, accumulate: Any
) -> Any:
    """tile(a, a_row, a_step, b, steps, c, c_row, accumulate): a, b, c are addresses of float32; strides in elements.

    b is (steps, WIDTH), contiguous; steps ≥ 1; `accumulate` adds to what stands in c.
    """
    signature = types.void(*[types.intp] * 7, types.boolean)

    def emit(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        a, a_row, a_step, b, steps, c, c_row, accumulate = arguments
        i64, f32, vector = ir.IntType(64), ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
        fma = cgutils.get_or_insert_function(
            build.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32"
        )

        def const(value: int) -> Any:
            return ir.Constant(i64, value)

        def at(address: Any, kind: Any) -> Any:
            return build.inttoptr(address, kind.as_pointer())

        def in_bytes(elements: Any) -> Any:
            return build.mul(elements, const(4))

        def spread(scalar: Any) -> Any:
            one = build.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
            return build.shuffle_vector(
                one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            )

        row_offsets = [in_bytes(build.mul(a_row, const(i))) for i in range(ROWS)]
        c_places = [
            at(build.add(c, build.add(in_bytes(build.mul(c_row, const(i))), const(4 * LANES * j))), vector)
            for i in range(ROWS)
            for j in range(VECTORS)
        ]
        entry = build.block
        load, start, loop, done = (
            build.function.append_basic_block(name) for name in ("load", "start", "loop", "done")
        )
        flag = accumulate if accumulate.type == ir.IntType(1) else build.trunc(accumulate, ir.IntType(1))
        build.cbranch(flag, load, start)

        build.position_at_end(load)
        before = [build.load(place, align=4) for place in c_places]
        build.branch(start)

        build.position_at_end(start)
        first = [build.phi(vector) for _ in c_places]
        for sum_, value in zip(first, before, strict=True):
            sum_.add_incoming(ir.Constant(vector, [0.0] * LANES), entry)
            sum_.add_incoming(value, load)
        build.branch(loop)

        build.position_at_end(loop)
        k, pa, pb = build.phi(i64), build.phi(i64), build.phi(i64)
        sums = [build.phi(vector) for _ in c_places]
        columns = [build.load(at(build.add(pb, const(4 * LANES * j)), vector), align=4) for j in range(VECTORS)]
        updated = []
        for i in range(ROWS):
            row = spread(build.load(at(build.add(pa, row_offsets[i]), f32), align=4))
            updated += [build.call(fma, [row, columns[j], sums[i * VECTORS + j]]) for j in range(VECTORS)]
        following = [
            build.add(k, const(1)),
            build.add(pa, in_bytes(a_step)),
            build.add(pb, const(4 * WIDTH)),
            *updated,
        ]
        for phi, initial, value in zip([k, pa, pb, *sums], [const(0), a, b, *first], following, strict=True):
            phi.add_incoming(initial, start)
            phi.add_incoming(value, loop)
        build.cbranch(build.icmp_signed("<", following[0], steps), loop, done)

        build.position_at_end(done)
        for place, value in zip(c_places, updated, strict=True):
            build.store(value, place, align=4)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def power_of_two(typingctx: Any, k: Any) -> Any:
    """2ᵏ for an int32 −126 ≤ k ≤ 127, by writing k into the exponent of a float32."""

    def emit(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        i32 = ir.IntType(32)
        return build.bitcast(
            build.shl(build.add(arguments[0], ir.Constant(i32, 127)), ir.Constant(i32, 23)), ir.FloatType()
        )

    return types.float32(types.int32), emit
