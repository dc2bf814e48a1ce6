"""Parameter and Module: named arrays that learn, in a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinydiff.autograd import Array, Tensor, own, read_only
from tinydiff.device import to_device, to_device_of

Rng = np.random.Generator | None  # None: nothing is drawn at random, a module then knows its shapes and no more
_hooks: ContextVar[tuple[tuple[Callable, Callable], ...]] = ContextVar("hooks", default=())  # (before, after) each


class Parameter(Tensor):
    """A leaf of the tape that the optimiser changes."""

    def __init__(self, data: Array) -> None:
        super().__init__(data, requires_grad=True)

    def assign(self, data: Array) -> None:
        """Put another array of the same shape in its place; raises ValueError for another shape."""
        if data.shape != self.shape:
            raise ValueError(f"assign: the parameter has shape {self.shape}, the new array {data.shape}")
        self._data = own(data)


class Module:
    """A part of a network.  Its parameters are named by the path of attributes that leads to them.

    >>> class Net(nn.Module):
    ...     def __init__(self, rng):
    ...         self.layers = [nn.Linear(rng, 3, 8), nn.Linear(rng, 8, 2)]
    ...     def forward(self, x):
    ...         return nn.chain(x, self.layers[0], ops.relu, self.layers[1])
    >>> net = Net(np.random.default_rng(0))
    >>> net(Tensor(np.ones((1, 3), np.float32))).shape, list(net.state_dict())[:2]
    ((1, 2), ['layers.0.weight', 'layers.0.bias'])
    """

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules right inside this one, with their names; a list's items are list.0, list.1, …"""
        for name, value in vars(self).items():
            items = [(f"{name}.{i}", v) for i, v in enumerate(value)] if isinstance(value, list) else [(name, value)]
            yield from ((key, item) for key, item in items if isinstance(item, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all within it, with their names, in the order in which they were made."""
        yield prefix.rstrip("."), self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their names, as `down_blocks.0.resnets.1.conv1.weight`."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield (f"{prefix}.{name}" if prefix else name), value

    def parameters(self) -> list[Parameter]:
        """The same without names, five times as fast."""
        parts = [part for value in vars(self).values() for part in (value if isinstance(value, list) else [value])]
        own = [part for part in parts if isinstance(part, Parameter)]
        return own + [p for part in parts if isinstance(part, Module) for p in part.parameters()]

    def state_dict(self) -> dict[str, Array]:
        """The arrays of all parameters by name."""
        return {name: p.data for name, p in self.named_parameters()}

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Take over arrays by name; all must be there, with the right shapes (see `checkpoint.check_arrays`)."""
        for name, parameter in self.named_parameters():
            parameter.assign(state[name])

    def to(self, device: str) -> Module:
        """Move all parameters to "cpu" or "cuda", in place; see `device.to_device`."""
        for parameter in self.parameters():
            parameter.assign(to_device(parameter.data, device))
        return self

    def place(self, x: Array) -> Array:
        """x where the parameters are."""
        return to_device_of(x, self.parameters()[0].data)

    def astype(self, dtype: Any) -> Module:
        """Turn all parameters into another float type, in place."""
        for parameter in self.parameters():
            parameter.assign(read_only(parameter.data.astype(dtype)))
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hooks = _hooks.get()
        for before, _ in hooks:
            before(self, args)
        y = self.forward(*args, **kwargs)  # type: ignore[attr-defined]
        for _, after in hooks:
            after(self, args, y)
        return y

    def __repr__(self) -> str:
        """Its name and number of parameters, its own arrays and settings, and the modules right inside it."""
        title = f"{type(self).__name__}({sum(p.size for p in self.parameters()):,} parameters)"
        own = [
            f"{name} {value.shape}" if isinstance(value, Parameter) else f"{name}={value!r}"
            for name, value in vars(self).items()
            if not isinstance(value, (Module, list))
        ]
        inside = [f"{name}: {repr(child).splitlines()[0]}" for name, child in self.named_children()]
        return "\n  ".join(line for line in [title, ", ".join(own), *inside] if line)


def chain(x: Any, *layers: Callable[[Any], Any]) -> Any:
    """Each layer's output is the next one's input; layers are modules, ops, or any functions of one argument."""
    for layer in layers:
        x = layer(x)
    return x


@contextmanager
def forward_hook(after: Callable = lambda *_: None, before: Callable = lambda *_: None) -> Iterator[None]:
    """Within this block `after(module, inputs, output)` is called whenever a module has run, the inner ones first.

    before(module, inputs): the same ahead of it, the outer ones first.  It holds for this thread alone.
    """
    token = _hooks.set((*_hooks.get(), (before, after)))
    try:
        yield
    finally:
        _hooks.reset(token)


def hooked() -> bool:
    """Whether `forward_hook` holds here."""
    return bool(_hooks.get())


def uniform(rng: Rng, shape: tuple[int, ...], bound: float) -> Array:
    """U(−bound, bound), float32; without a generator, zeros that take no memory."""
    if rng is None or bound == 0:
        return constant(rng, shape, 0)
    return read_only(rng.uniform(-bound, bound, shape).astype(np.float32))


def normal(rng: Rng, shape: tuple[int, ...], deviation: float) -> Array:
    """N(0, deviation²), float32; without a generator, zeros that take no memory."""
    if rng is None:
        return constant(rng, shape, 0)
    return read_only((deviation * rng.standard_normal(shape)).astype(np.float32))


def constant(rng: Rng, shape: tuple[int, ...], value: float) -> Array:
    """All `value`, float32; without a generator one number that pretends to be many."""
    if rng is None:
        return read_only(np.broadcast_to(np.float32(value), shape))
    return read_only(np.full(shape, value, np.float32))
