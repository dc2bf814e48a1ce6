"""The tape: a Tensor remembers how it was made, and `backward` walks that memory from the end to the start.

The one idea: *an op is a function of arrays that returns its result and the function that carries the gradient
back.*  The closure keeps what the backward needs; the same op serves arrays (`silu.forward(x)`) and the tape
(`silu(tensor)`).

Why a topological order?  A value that is used twice, a skip connection say, receives two gradients, and its own
backward may run only when both have arrived.  Visiting every node after all of its users guarantees that.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinydiff import kernels

Array = Any  # a NumPy array, or a CuPy array on a GPU
Backward = Callable[..., tuple]  # dy → a gradient for each array that went in

_recording = True


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Within this block nothing is recorded: results are plain values, and memory is freed at once."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


class Tensor:
    """An array that remembers how it was made.

    `data` is the array, read-only: backward functions still need the values that the forward saw, so a change in
    place would make gradients wrong in silence.  `grad` is filled by `backward` at leaves with `requires_grad`.
    """

    __array_ufunc__ = None  # so that `array + tensor` comes to Tensor.__radd__, and not to NumPy

    def __init__(
        self,
        data: Array,
        parents: Sequence[Tensor | None] = (),
        backward: Backward | None = None,
        requires_grad: bool = False,
    ) -> None:
        self._data = read_only(data if hasattr(data, "dtype") else np.asarray(data))
        self.grad: Array | None = None
        self.requires_grad = requires_grad or backward is not None
        self._parents, self._backward, self._is_leaf = parents, backward, backward is None

    @property
    def data(self) -> Array:
        return self._data

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    def item(self) -> float:
        return self._data.item()

    def detach(self) -> Tensor:
        """The same values without their history."""
        return Tensor(self._data)

    def __repr__(self) -> str:
        return f"Tensor({self._data!r}{', requires_grad=True' if self.requires_grad else ''})"

    def backward(self, dy: Array | None = None) -> None:
        """Add d(self)/d(leaf) to the `.grad` of every leaf; each node is visited once, outputs first.

        `dy` is the gradient that arrives from above, of this tensor's shape; a scalar needs none (it is 1).
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
            dy = np.ones(self.shape, self.dtype) if isinstance(self._data, np.ndarray) else self._data * 0 + 1
        elif _shape(dy) != self.shape:
            raise RuntimeError(f"backward: the upstream gradient has shape {_shape(dy)}, expected {self.shape}")
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
            for parent, dx in zip(node._parents, node._backward(g), strict=True):
                if parent is not None and parent.requires_grad:
                    key = id(parent)
                    grads[key] = dx if key not in grads else kernels.add(grads[key], dx)
            node._backward, node._parents = None, ()  # what it kept is freed here

    # Arithmetic reads as in the papers; the formulas and their gradients stand below.
    def __add__(self, other: Any) -> Tensor:
        return add(self, other)

    def __sub__(self, other: Any) -> Tensor:
        return subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return subtract(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return multiply(self, other)

    __radd__, __rmul__ = __add__, __mul__

    def reshape(self, *shape: int) -> Tensor:
        return reshape(self, shape=shape)

    def _refuse_in_place(self, *_: Any) -> Tensor:
        raise TypeError(
            "a Tensor cannot be changed in place: backward needs the old values. "
            "Make a new one (y = x + 1), or change a copy of its array before it goes on the tape"
        )

    __setitem__ = __iadd__ = __isub__ = __imul__ = __itruediv__ = _refuse_in_place


def op(forward: Callable[..., tuple[Array, Backward]]) -> Any:
    """Lift `forward(*arrays, **options) -> (y, backward)` to Tensors.

    `backward(dy)` returns one gradient for each array that came in, None for one that has none (indices, say).  Where a
    gradient is costly it may take `needs` too, which says for each array whether anyone waits for its gradient.
    `forward` stays at hand on the op for whoever works on plain arrays: notebooks, exercises, tests.
    """
    parameters = inspect.signature(forward).parameters.values()
    arrays_in = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]

    @functools.wraps(forward)
    def apply(*inputs: Any, **options: Any) -> Tensor:
        # An optional array, a bias say, has its place among the parents even if it is left out or given by its name.
        for p in arrays_in[len(inputs) :]:
            if p.default is p.empty and p.name not in options:
                break  # forward itself says what is missing
            inputs = (*inputs, options.pop(p.name, p.default))
        arrays = [i.data if isinstance(i, Tensor) else i for i in inputs]
        y, backward = forward(*arrays, **options)
        parents = [i if isinstance(i, Tensor) else None for i in inputs]
        needs = tuple(p is not None and p.requires_grad for p in parents)
        if _recording and any(needs):
            for array in arrays:
                read_only(array)
            return Tensor(y, parents, _without_waste(backward, needs))
        return Tensor(y)

    apply.forward = forward  # type: ignore[attr-defined]
    return apply


def _without_waste(backward: Backward, needs: tuple[bool, ...]) -> Backward:
    """Gradients that nobody needs, the pictures' in the first layer say, are left out where the op knows how."""
    code = getattr(backward, "__code__", None)
    takes_needs = code is not None and "needs" in code.co_varnames[: code.co_argcount]
    return functools.partial(backward, needs=needs) if takes_needs else backward


def unbroadcast(dy: Array, shape: tuple[int, ...]) -> Array:
    """Sum `dy` over the axes that broadcasting has added or stretched, back to `shape`."""
    if dy.shape == shape:
        return dy
    fast = kernels.find_kernel("sum_positions", dy)
    if fast is not None and len(shape) == dy.ndim > 2 and shape == (dy.shape[0], *[1] * (dy.ndim - 2), dy.shape[-1]):
        return fast(dy).reshape(shape)
    dy = dy.sum(axis=tuple(range(dy.ndim - len(shape))))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and dy.shape[i] != 1)
    return dy.sum(axis=stretched, keepdims=True) if stretched else dy


def _shape(a: Any) -> tuple[int, ...]:
    """The shape of an array, NumPy's or another's, or of a number."""
    return getattr(a, "shape", ())


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
            stack += [(p, False) for p in node._parents if p is not None and p.requires_grad]
    return order


def read_only(array: Array) -> Array:
    """The array, which from here on refuses to be changed in place; CuPy's have no such switch."""
    if isinstance(array, np.ndarray):
        array.setflags(write=False)
    return array


@op
def add(a: Array, b: Array) -> tuple[Array, Backward]:
    """a + b, broadcast; both get dy back."""

    def backward(dy: Array) -> tuple:
        return unbroadcast(dy, _shape(a)), unbroadcast(dy, _shape(b))

    return kernels.add(a, b), backward


@op
def subtract(a: Array, b: Array) -> tuple[Array, Backward]:
    """a − b, broadcast; a gets dy back and b gets −dy."""

    def backward(dy: Array) -> tuple:
        return unbroadcast(dy, _shape(a)), unbroadcast(-dy, _shape(b))

    return a - b, backward


@op
def multiply(a: Array, b: Array) -> tuple[Array, Backward]:
    """a·b, elementwise and broadcast; a gets dy·b back and b gets dy·a."""

    def backward(dy: Array) -> tuple:
        return unbroadcast(dy * b, _shape(a)), unbroadcast(dy * a, _shape(b))

    return a * b, backward


@op
def reshape(x: Array, *, shape: tuple[int, ...]) -> tuple[Array, Backward]:
    """The same values in another shape; so is the gradient."""

    def backward(dy: Array) -> tuple:
        return (dy.reshape(x.shape),)

    return x.reshape(shape), backward
