"""Layers: an op and the parameters that it uses.  Initial weights are U(−1/√fan-in, 1/√fan-in), zero where asked."""

from __future__ import annotations

import math

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.nn.module import Generator, Module, Parameter, constant, uniform
from tinydiff.ops.conv import Padding


class Linear(Module):
    """y = x·weight + bias; weight (C, K), bias (K,)."""

    def __init__(self, rng: Generator, inputs: int, outputs: int, bias: bool = True, zero: bool = False) -> None:
        bound = 0.0 if zero else 1 / math.sqrt(inputs)
        self.weight = Parameter(uniform(rng, (inputs, outputs), bound))
        self.bias = Parameter(uniform(rng, (outputs,), bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """A convolution with `size` × `size` kernels; weight (KH, KW, C, K), bias (K,)."""

    def __init__(
        self,
        rng: Generator,
        inputs: int,
        outputs: int,
        size: int = 3,
        stride: int = 1,
        padding: Padding | None = None,
        zero: bool = False,
    ) -> None:
        bound = 0.0 if zero else 1 / math.sqrt(inputs * size * size)
        self.weight = Parameter(uniform(rng, (size, size, inputs, outputs), bound))
        self.bias = Parameter(uniform(rng, (outputs,), bound))
        self.stride, self.padding = stride, size // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)


class GroupNorm(Module):
    """Group norm, followed by SiLU where asked; weight is the scale and bias the shift."""

    def __init__(self, rng: Generator, channels: int, groups: int, eps: float = 1e-5, silu: bool = False) -> None:
        self.weight = Parameter(constant(rng, (channels,), 1))
        self.bias = Parameter(constant(rng, (channels,), 0))
        self.groups, self.eps, self.silu = groups, eps, silu

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.weight, self.bias, groups=self.groups, eps=self.eps, silu=self.silu)


class LayerNorm(Module):
    """Layer norm over the last axis; weight is the scale and bias the shift."""

    def __init__(self, rng: Generator, width: int) -> None:
        self.weight = Parameter(constant(rng, (width,), 1))
        self.bias = Parameter(constant(rng, (width,), 0))

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias)


class Embedding(Module):
    """A table of `count` vectors; weight (V, D), N(0, 0.02²) at the start as in CLIP."""

    def __init__(self, rng: Generator, count: int, width: int) -> None:
        start = constant(rng, (count, width), 0)
        if rng is not None:
            start = (0.02 * rng.standard_normal((count, width))).astype(start.dtype)
        self.weight = Parameter(start)

    def forward(self, indices: Array) -> Tensor:
        return ops.embedding(self.weight, indices)
