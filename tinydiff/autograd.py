"""The tape: a Tensor remembers how it was made, and `backward` walks that memory from the end to the start.

The one idea: *an op is a function of arrays that returns its result and the function that carries the gradient
back.*  The closure keeps what the backward needs; the same op serves arrays (`silu.forward(x)`) and the tape
(`silu(tensor)`).

A value that is used twice, by a skip connection say, receives two gradients, and its own backward may run only when
both have arrived.  Hence the topological order: every node is visited after all of its users.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinydiff import arithmetic, kernels
from tinydiff.arithmetic import Array, Axis, Backward
from tinydiff.device import array_module
from tinydiff.errors import InputError

_recording: ContextVar[bool] = ContextVar("recording", default=True)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Within this block, in this thread, nothing is recorded: results are plain values, and memory is freed at once.

    >>> x = Tensor(np.ones(2), requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


class Tensor:
    """An array that remembers how it was made.

    data: an array, which is copied if anybody could still change it: backward functions need the values that the
        forward saw, so a change in place would make gradients wrong in silence.  `read_only` hands it over instead.
    requires_grad: whether a gradient is carried to it.  Only a leaf, a tensor that no op made, keeps it, in `grad`.

    >>> x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> (x * x).backward(np.ones(2))
    >>> x.grad
    array([2., 4.])
    """

    __array_ufunc__ = None  # so that `array + tensor` comes to Tensor.__radd__, and not to NumPy

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        self._keep(own(data if hasattr(data, "dtype") else np.asarray(data)), requires_grad)

    def _keep(
        self,
        data: Array,
        requires_grad: bool,
        parents: Sequence[Tensor | None] = (),  # for each input the tensor that waits for its gradient, or None
        backward: Backward | None = None,  # makes these gradients, called as `backward(dy, needs_input_grad)`
    ) -> Tensor:
        self._data, self.requires_grad = data, requires_grad
        self.grad: Array | None = None
        self._parents, self._backward, self._is_leaf = parents, backward, backward is None
        return self

    data = property(lambda self: self._data)
    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)

    def item(self) -> float:
        """The number that a tensor of one element holds."""
        return self._data.item()

    def detach(self) -> Tensor:
        """The same values without their history."""
        return _made_by_op(self._data)

    def __repr__(self) -> str:
        """Few values as they are; of many the shape, the type and the range."""
        a = self._data
        values = repr(a)
        if a.size > 12:
            values = f"shape={a.shape}, dtype={a.dtype}, min={a.min().item():.4g}, max={a.max().item():.4g}"
        return f"Tensor({values}{', requires_grad=True' if self.requires_grad else ''})"

    def backward(self, dy: Array | None = None) -> None:
        """Add dy·d(self)/d(leaf) to the `.grad` of every leaf; each node is visited once, outputs first.

        dy: the gradient that arrives from above, of this tensor's shape; a scalar needs none (it is 1).
        Raises RuntimeError if this tensor is not on the tape, if it is no scalar and `dy` is missing, or if the
        same graph was walked before (each node frees what it kept as soon as its backward has run).
        """
        if not self.requires_grad:
            raise RuntimeError("backward: this tensor has no history; give its inputs requires_grad=True")
        if dy is None:
            if self._data.size != 1:
                raise RuntimeError(
                    f"backward: the root has shape {self.shape}, not one element; "
                    "pass the upstream gradient, backward(dy), or reduce to a scalar loss first"
                )
            dy = array_module(self._data).ones_like(self._data)
        elif (came := getattr(dy, "shape", ())) != self.shape:  # a number has none
            raise RuntimeError(f"backward: the upstream gradient has shape {came}, expected {self.shape}")
        else:
            dy = array_module(self._data).array(dy, self.dtype)  # a copy: it may become a leaf's gradient as it is
        grads = {id(self): dy}
        order = _parents_first(self)
        while order:
            node = order.pop()
            g = grads.pop(id(node))
            if node._is_leaf:
                node.grad = g if node.grad is None else kernels.add(node.grad, g)
                continue
            if node._backward is None:
                raise RuntimeError(
                    "backward: this graph was walked before and is freed; run the forward again, "
                    "or add the losses and call backward once"
                )
            needs_input_grad = tuple(parent is not None for parent in node._parents)
            for parent, dx in zip(node._parents, kernels.run_op(node._backward, (g, needs_input_grad)), strict=True):
                if parent is not None:
                    key = id(parent)
                    grads[key] = dx if key not in grads else kernels.add(grads[key], dx)
            node._backward, node._parents = None, ()  # what it kept is freed here

    # Arithmetic reads as in the papers; the formulas and their gradients stand in arithmetic.py.
    def __add__(self, other: Any) -> Tensor:
        return add(self, other)

    def __sub__(self, other: Any) -> Tensor:
        return subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return subtract(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return multiply(self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Tensor:
        return multiply(self, -1)

    def __truediv__(self, other: Any) -> Tensor:
        return divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return divide(other, self)

    def __pow__(self, exponent: float) -> Tensor:
        return power(self, exponent=exponent)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(other, self)

    def __getitem__(self, key: Any) -> Tensor:
        return getitem(self, key=key)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over these axes, by default all."""
        return sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over these axes, by default all."""
        return mean(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: int) -> Tensor:
        """The same values in another shape, of which one number may be −1."""
        return reshape(self, shape=shape)

    def transpose(self, *axes: int) -> Tensor:
        """The axes in another order, by default reversed, as in NumPy."""
        return transpose(self, axes=axes or None)

    def _refuse_in_place(self, *_: Any) -> Tensor:
        raise TypeError(
            "a Tensor cannot be changed in place: backward needs the old values. "
            "Make a new one (y = x + 1), or change a copy of its array before it goes on the tape"
        )

    __setitem__ = __iadd__ = __isub__ = __imul__ = __itruediv__ = _refuse_in_place


def op(forward: Any = None, *, selective: bool = False, integers: Sequence[str] = (), empty: Sequence[str] = ()) -> Any:
    """Lift `forward(*arrays, **options) -> (y, backward)` to Tensors; it stays at hand as the op's `forward`.

    `backward(dy)` returns one gradient for each array that came in, None for one that has none (indices, say).
    selective: it is `backward(dy, needs_input_grad=(True, …))`, and leaves out (None) the costly gradients that nobody
        waits for, those of the images in the first layer for instance.
    integers, empty: names of the arrays that hold integers, and of those that may be empty.  All others are
        floating-point and not empty, or InputError says what came: uint8 would wrap around in silence.
    """
    if forward is None:
        return functools.partial(op, selective=selective, integers=integers, empty=empty)
    signature = inspect.signature(forward)
    arrays_in = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    expected = [(p.name, "iu" if p.name in integers else "f", p.default) for p in arrays_in]

    def positional(inputs: tuple, options: dict[str, Any]) -> tuple:
        """An optional array, a bias say, has its place even if it is left out or given by its name."""
        for p in arrays_in[len(inputs) :]:
            if p.default is p.empty and p.name not in options:
                break  # forward itself says what is missing
            inputs = (*inputs, options.pop(p.name, p.default))
        return inputs

    @functools.wraps(forward)
    def checked(*arrays: Any, **options: Any) -> tuple[Array, Backward]:
        arrays = positional(arrays, options)
        for array, (name, kinds, default) in zip(arrays, expected, strict=False):
            left_out = array is None and default is None
            if not left_out and (fault := _fault(array, name, kinds, name in empty)):
                raise InputError(f"{forward.__name__}: {name} {fault}")
        return kernels.run_op(forward, arrays, options)

    @functools.wraps(forward)
    def apply(*inputs: Any, **options: Any) -> Tensor:
        inputs = positional(inputs, options)
        y, backward = checked(*(i.data if isinstance(i, Tensor) else own(i) for i in inputs), **options)
        parents = [i if isinstance(i, Tensor) and i.requires_grad else None for i in inputs]
        if not _recording.get() or all(parent is None for parent in parents):
            return _made_by_op(y)
        return _made_by_op(y, parents, backward if selective else lambda dy, needs_input_grad: backward(dy))

    apply.forward = checked  # type: ignore[attr-defined]
    apply.__signature__ = signature.replace(return_annotation=Tensor)  # type: ignore[attr-defined]
    apply.__annotations__ = forward.__annotations__ | {"return": Tensor}
    both = f"On Tensors it gives a Tensor; `{forward.__name__}.forward(…)` on plain arrays gives (y, backward)."
    apply.__doc__ = f"{inspect.getdoc(forward) or ''}\n\n{both}".lstrip()
    return apply


def _made_by_op(y: Array, parents: Sequence[Tensor | None] = (), backward: Backward | None = None) -> Tensor:
    """A Tensor of an array that is nobody else's, hence without a copy."""
    return Tensor.__new__(Tensor)._keep(read_only(y), backward is not None, parents, backward)


def _fault(array: Any, name: str, kinds: str, may_be_empty: bool) -> str | None:
    """Why an op that expects these kinds of numbers cannot take this array; None where it can."""
    numbers, dtype = ("floating-point numbers", "float32") if kinds == "f" else ("integers", "int64")
    if isinstance(array, (int, float)):
        return None
    if not hasattr(array, "dtype"):
        return f"is a {type(array).__name__}, expected an array of {numbers}: np.asarray({name}, np.{dtype})"
    if array.dtype.kind not in kinds:
        return f"is {array.dtype} {array.shape}, expected {numbers}: {name}.astype(np.{dtype})"
    return None if array.size or may_be_empty else f"{array.shape} is empty"


def read_only(array: Array) -> Array:
    """The array, which from here on refuses to be changed, as does the one whose view it is; CuPy's have no switch."""
    part = array
    while isinstance(part, np.ndarray):
        part.setflags(write=False)
        part = part.base
    return array


def own(array: Array) -> Array:
    """The array if nobody can change it any more, else a copy, which nobody can; a number stays what it is."""
    part = array
    while isinstance(part, np.ndarray) and not part.flags.writeable:
        part = part.base
    writable = isinstance(part, np.ndarray) or array_module(array) is not np
    return read_only(array.copy()) if writable else array


def _parents_first(root: Tensor) -> list[Tensor]:
    """Topological order, parents before children; a loop, not recursion, so that depth is no limit."""
    order: list[Tensor] = []
    seen: set[int] = set()
    stack = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(parent, False) for parent in node._parents if parent is not None]
    return order


# Formulas and gradients stand in arithmetic.py; here they go on the tape.
add, subtract = op(arithmetic.add), op(arithmetic.subtract)
multiply, divide = op(arithmetic.multiply), op(arithmetic.divide)
power, matmul = op(arithmetic.power), op(arithmetic.matmul)
sum, mean = op(arithmetic.sum), op(arithmetic.mean)
reshape, transpose, getitem = op(arithmetic.reshape), op(arithmetic.transpose), op(arithmetic.getitem)
