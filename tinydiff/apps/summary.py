"""What a model is made of: each layer's output, parameters, multiply-adds and milliseconds.

print(tinydiff.summary(tinydiff.load().denoiser, x, t, tokens))
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinydiff.autograd import Tensor, no_grad
from tinydiff.models.unet2015 import UpBlock
from tinydiff.nn.blocks import Attention
from tinydiff.nn.layers import Conv2d, Linear
from tinydiff.nn.module import Module, forward_hook

HEADINGS = ("layer", "type", "output", "parameters", "multiply-adds", "ms")


@dataclass(frozen=True)
class LayerSummary:
    """One module, and all within it."""

    name: str
    layer_type: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    milliseconds: float

    def cells(self) -> tuple[str, ...]:
        """Its texts in the table, one for each of HEADINGS."""
        numbers = f"{self.parameters:,}", f"{self.multiply_adds:,}", f"{self.milliseconds:.2f}"
        return self.name or "(all)", self.layer_type, "×".join(map(str, self.shape)), *numbers


@dataclass(frozen=True)
class Summary:
    """A model's rows, from the whole to its parts; prints as a table, and as a better one in a notebook."""

    rows: list[LayerSummary]

    @property
    def total(self) -> LayerSummary:
        return self.rows[0]

    def __str__(self) -> str:
        table = [HEADINGS, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        form = "  ".join(f"{{:{side}{width}}}" for side, width in zip("<<<>>>", widths, strict=True))
        lines = [form.format(*row) for row in table]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
        rows = ("".join(f"<td>{cell}</td>" for cell in row.cells()) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def summary(model: Module, *inputs: Any, depth: int | None = None) -> Summary:
    """Run `model(*inputs)` once to warm up and once to watch, and say what each of its modules did.

    inputs: arrays of floats may be given plain.  depth: how many levels of names are shown, 0 for the whole alone, None
    for all.  Modules that did not run are left out, and one that ran twice is counted twice (see `multiply_adds`).
    """
    given = [Tensor(i) if isinstance(i, np.ndarray) and i.dtype.kind == "f" and i.ndim > 1 else i for i in inputs]
    shapes: dict[int, tuple[int, ...]] = {}
    seconds: defaultdict[int, float] = defaultdict(float)
    begun: list[float] = []

    def start(module: Module, inputs: tuple) -> None:
        begun.append(time.perf_counter())

    def stop(module: Module, inputs: tuple, y: Any) -> None:
        seconds[id(module)] += time.perf_counter() - begun.pop()
        first = y[0] if isinstance(y, tuple) else y
        shapes[id(module)] = tuple(getattr(first, "shape", ()))

    with no_grad():
        model(*given)
        with counting() as counts, forward_hook(stop, before=start):
            model(*given)
    rows = []
    for name, module in model.named_modules():
        level = sum(not part.isdigit() for part in name.split(".") if part)  # down.0 is as deep as classify
        if id(module) not in shapes or (depth is not None and level > depth):
            continue
        parameters = sum(p.size for p in module.parameters())
        inside = sum(counts[id(part)] for _, part in module.named_modules())
        kind, shape, milliseconds = type(module).__name__, shapes[id(module)], 1e3 * seconds[id(module)]
        rows.append(LayerSummary(name, kind, shape, parameters, inside, milliseconds))
    return Summary(rows)


def multiply_adds(model: Module, *inputs: Any) -> int:
    """Of one forward pass: convolutions, linear layers, and attention's two products."""
    with no_grad(), counting() as counts:
        model(*inputs)
    return sum(counts.values())


@contextmanager
def counting() -> Iterator[Counter[int]]:
    """Within this block each layer adds its multiply-adds under its `id`."""
    counts: Counter[int] = Counter()
    keys: dict[int, int] = {}  # how many positions each attention's keys have

    def count(layer: Module, inputs: tuple, y: Any) -> None:
        size = int(np.prod(y.shape)) if isinstance(y, Tensor) else 0
        if isinstance(layer, (Conv2d, Linear)):
            counts[id(layer)] += size * layer.weight.size // layer.weight.shape[-1]  # a sum over the rest each
            keys[id(layer)] = y.shape[1]
        elif isinstance(layer, Attention):
            counts[id(layer)] += 2 * size * keys[id(layer.to_k)]
        elif isinstance(layer, UpBlock):
            positions = int(np.prod(inputs[0].shape[:3]))  # the up-convolution's, each times the whole kernel
            counts[id(layer)] += positions * layer.up_weight.size

    with forward_hook(count):
        yield counts
