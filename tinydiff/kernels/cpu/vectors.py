"""Explicit vectors: a few LLVM instructions under readable names, and how many floats a vector has here.

LLVM's own vectoriser does not find the forms of the micro-kernel and of Winograd's transforms, so those two are
written instruction by instruction.  TINYDIFF_INSTRUCTIONS=avx2 (or avx512, neon, generic) forces a set, for tests and
for fair comparisons: Numba is then held to it too.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from tinydiff.errors import InputError

LANES_OF = {"avx512": 16, "avx2": 8, "neon": 4, "generic": 4}  # float32 in a vector register
_CPU_NAMES = {"avx2": "haswell", "generic": "generic"}  # what Numba is held to where a smaller set is forced


def _instruction_set() -> str:
    """The forced set, or the best that this processor has."""
    forced = os.environ.get("TINYDIFF_INSTRUCTIONS")
    features = llvm.get_host_cpu_features()
    found = "generic"
    if features.get("avx512f"):
        found = "avx512"
    elif features.get("avx2") and features.get("fma"):
        found = "avx2"
    elif llvm.get_default_triple().startswith(("aarch64", "arm64")):
        found = "neon"
    if forced is None or forced == found:
        return found
    if forced not in LANES_OF or (forced, found) != ("avx2", "avx512") and forced != "generic":
        raise InputError(f"TINYDIFF_INSTRUCTIONS={forced}: this processor has {found}; expected that, or a smaller set")
    if forced in _CPU_NAMES and found.startswith("avx"):
        config.CPU_NAME, config.CPU_FEATURES = _CPU_NAMES[forced], ""
    return forced


INSTRUCTIONS = _instruction_set()
LANES = LANES_OF[INSTRUCTIONS]

I64, FLOAT, VECTOR = ir.IntType(64), ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)


class Vectors:
    """Writes instructions on vectors of LANES floats; addresses are integers, in bytes."""

    def __init__(self, build: Any) -> None:
        self.build = build
        signature = ir.FunctionType(VECTOR, [VECTOR] * 3)
        self._fma = cgutils.get_or_insert_function(build.module, signature, f"llvm.fma.v{LANES}f32")

    def load(self, address: Any) -> Any:
        return self.build.load(self._at(address, VECTOR), align=4)

    def store(self, vector: Any, address: Any) -> None:
        self.build.store(vector, self._at(address, VECTOR), align=4)

    def load_integer(self, address: Any) -> Any:
        return self.build.load(self._at(address, I64))

    def spread(self, address: Any) -> Any:
        """The float at the address, in every lane."""
        undefined, zero = ir.Constant(VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        one = self.build.insert_element(undefined, self.load_float(address), zero)
        return self.shuffle(one, undefined, [0] * LANES)

    def load_float(self, address: Any) -> Any:
        return self.build.load(self._at(address, FLOAT), align=4)

    def store_float(self, number: Any, address: Any) -> None:
        self.build.store(number, self._at(address, FLOAT), align=4)

    def constant(self, value: float) -> Any:
        return ir.Constant(VECTOR, [value] * LANES)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a·b + c, rounded once."""
        return self.build.call(self._fma, [a, b, c])

    def combine(self, terms: list[tuple[float, Any]]) -> Any:
        """Σ factor · vector, without the multiplications by 0 and ±1."""
        result = None
        for factor, vector in sorted((t for t in terms if t[0]), key=lambda t: t[0] != 1):
            if result is None:
                result = vector if factor == 1 else self.build.fmul(self.constant(factor), vector)
            elif abs(factor) == 1:
                result = (self.build.fadd if factor == 1 else self.build.fsub)(result, vector)
            else:
                result = self.multiply_add(self.constant(factor), vector, result)
        return result

    def plus(self, address: Any, *counts: Any) -> Any:
        """address + the product of the counts: integers, or numbers of the program."""
        product = None
        for count in counts:
            count = ir.Constant(I64, count) if isinstance(count, int) else count
            product = count if product is None else self.build.mul(product, count)
        return self.build.add(address, product)

    def shuffle(self, a: Any, b: Any, places: list[int]) -> Any:
        """The lanes of a, then b, that the places name."""
        return self.build.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), places))

    def variable(self, value: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        """A value that a loop changes: (read, write).  LLVM keeps it in a register."""
        place = cgutils.alloca_once(self.build, value.type)
        self.build.store(value, place)
        return lambda: self.build.load(place), lambda new: self.build.store(new, place)

    def each(self, count: Any, vector: Callable[[Any], None], single: Callable[[Any], None]) -> None:
        """`vector(bytes from the start)` for each whole vector of `count` floats, `single` for floats left over."""
        size = ir.Constant(I64, LANES)
        whole = self.build.mul(self.build.sdiv(count, size), size)
        with self.repeat(self.build.sdiv(count, size)) as i:
            vector(self.build.mul(i, ir.Constant(I64, 4 * LANES)))
        with self.repeat(self.build.sub(count, whole)) as i:
            single(self.build.mul(self.build.add(whole, i), ir.Constant(I64, 4)))

    @contextlib.contextmanager
    def repeat(self, count: Any) -> Iterator[Any]:
        """`with repeat(count) as k:` the instructions within, for k = 0 … count − 1."""
        with cgutils.for_range(self.build, count) as loop:
            yield loop.index

    def _at(self, address: Any, kind: Any) -> Any:
        return self.build.inttoptr(address, kind.as_pointer())


def emitted(body: Callable[..., Any]) -> Any:
    """What an intrinsic returns beside its signature: `body(vectors, *arguments)` writes its instructions."""

    def emit(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        result = body(Vectors(build), *arguments)
        return context.get_dummy_value() if result is None else result

    return emit


@intrinsic
def copy(typingctx: Any, source: Any, target: Any, count: Any) -> Any:
    """`count` floats from one address to another."""

    def body(v: Vectors, source: Any, target: Any, count: Any) -> None:
        v.each(
            count,
            lambda at: v.store(v.load(v.build.add(source, at)), v.build.add(target, at)),
            lambda at: v.store_float(v.load_float(v.build.add(source, at)), v.build.add(target, at)),
        )

    return types.void(types.intp, types.intp, types.intp), emitted(body)


@intrinsic
def transpose_square(typingctx: Any, source: Any, source_row: Any, target: Any, target_row: Any) -> Any:
    """LANES rows of LANES floats, `source_row` bytes apart, become columns: log₂ LANES rounds of interleaving."""

    def body(v: Vectors, source: Any, source_row: Any, target: Any, target_row: Any) -> None:
        rows = [v.load(v.plus(source, source_row, i)) for i in range(LANES)]
        pairs = [i // 2 + i % 2 * LANES for i in range(2 * LANES)]  # a's and b's floats in turn
        for _ in range(LANES.bit_length() - 1):
            halves = list(zip(rows[: LANES // 2], rows[LANES // 2 :], strict=True))
            rows = [v.shuffle(a, b, pairs[part : part + LANES]) for a, b in halves for part in (0, LANES)]
        for i, row in enumerate(rows):
            v.store(row, v.plus(target, target_row, i))

    return types.void(*[types.intp] * 4), emitted(body)


@intrinsic
def sum_of(typingctx: Any, address: Any, count: Any) -> Any:
    """The sum of `count` floats: each lane first sums its own, then neighbours, so that the order is always one."""

    def body(v: Vectors, address: Any, count: Any) -> Any:
        add = v.build.fadd
        return _reduce(v, address, count, 0.0, add, lambda at, number, total: add(total, number))

    return types.float32(types.intp, types.intp), emitted(body)


@intrinsic
def dot_of(typingctx: Any, a: Any, b: Any, count: Any) -> Any:
    """Σ a·b over `count` floats at two addresses, summed as `sum_of` does."""

    def body(v: Vectors, a: Any, b: Any, count: Any) -> Any:
        def add(at: Any, number: Any, total: Any) -> Any:
            if number.type == VECTOR:
                return v.multiply_add(number, v.load(v.build.add(b, at)), total)
            return v.build.fadd(total, v.build.fmul(number, v.load_float(v.build.add(b, at))))

        return _reduce(v, a, count, 0.0, v.build.fadd, add)

    return types.float32(types.intp, types.intp, types.intp), emitted(body)


@intrinsic
def max_of(typingctx: Any, address: Any, count: Any) -> Any:
    """The largest of `count` ≥ 1 floats, NaN left out."""

    def body(v: Vectors, address: Any, count: Any) -> Any:
        def larger(a: Any, b: Any) -> Any:
            return v.build.select(v.build.fcmp_ordered(">", a, b), a, b)

        return _reduce(v, address, count, -np.inf, larger, lambda at, number, best: larger(number, best))

    return types.float32(types.intp, types.intp), emitted(body)


def _reduce(v: Vectors, address: Any, count: Any, start: float, both: Any, step: Any) -> Any:
    """One number from the `count` at the address: lane by lane, the lanes in pairs, and what is left over last.

    `step(bytes from the address, number or vector there, result so far)` is the next result.
    """
    read, write = v.variable(v.constant(start))
    read_left, write_left = v.variable(ir.Constant(FLOAT, start))
    v.each(
        count,
        lambda at: write(step(at, v.load(v.build.add(address, at)), read())),
        lambda at: write_left(step(at, v.load_float(v.build.add(address, at)), read_left())),
    )
    vector = read()
    lanes = [v.build.extract_element(vector, ir.Constant(ir.IntType(32), i)) for i in range(LANES)]
    while len(lanes) > 1:
        lanes = [both(a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
    return both(read_left(), lanes[0])


@intrinsic
def floats_at(typingctx: Any, address: Any) -> Any:
    """The address as a pointer, for numba.carray."""
    body = emitted(lambda v, address: v.build.inttoptr(address, FLOAT.as_pointer()))
    return types.CPointer(types.float32)(types.intp), body


@intrinsic
def power_of_two(typingctx: Any, k: Any) -> Any:
    """2ᵏ for an int32 −126 ≤ k ≤ 127, by writing k into the exponent of a float32."""
    i32 = ir.IntType(32)

    def body(v: Vectors, k: Any) -> Any:
        exponent = v.build.add(k, ir.Constant(i32, 127))
        return v.build.bitcast(v.build.shl(exponent, ir.Constant(i32, 23)), FLOAT)

    return types.float32(types.int32), emitted(body)
