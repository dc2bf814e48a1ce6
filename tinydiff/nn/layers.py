"""Layers: an op and the parameters that it uses.

Linear and Conv2d begin with U(−1/√fan-in, 1/√fan-in), or zero where asked; norms with 1 and 0.
"""

import math
from typing import Any

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.errors import InputError
from tinydiff.nn.module import Module, Parameter, Rng, constant, normal, uniform
from tinydiff.ops.conv import Padding


class Linear(Module):
    """y = x·weight + bias: (…, inputs) → (…, outputs); weight (inputs, outputs), bias (outputs,)."""

    def __init__(self, rng: Rng, inputs: int, outputs: int, bias: bool = True, zero: bool = False) -> None:
        bound = 0.0 if zero else 1 / math.sqrt(inputs)
        self.weight = Parameter(uniform(rng, (inputs, outputs), bound))
        self.bias = Parameter(uniform(rng, (outputs,), bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


def check_images(name: str, x: Any, channels: int, multiple: int = 1) -> None:
    """Raises InputError unless x is (N, H, W, channels) with H and W that `multiple` divides."""
    shape = np.shape(x)
    if len(shape) != 4 or shape[3] != channels or shape[1] % multiple or shape[2] % multiple:
        sides = f" with H and W multiples of {multiple}" if multiple > 1 else ""
        turned = "; is x (N, C, H, W)? then x.transpose(0, 2, 3, 1)" if shape[1:2] == (channels,) else ""
        raise InputError(f"{name}: x is {shape}, expected (N, H, W, {channels}){sides}{turned}")


class Conv2d(Module):
    """A convolution with `size` × `size` kernels: (N, H, W, C) → (N, H', W', K), see `ops.conv2d`.

    weight (size, size, C = inputs, K = outputs), bias (K,);  padding: size // 2 by default, which keeps H and W
    """

    def __init__(
        self,
        rng: Rng,
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
    """Group norm, followed by SiLU where asked: (N, …, C) → same; weight (C,) is the scale and bias (C,) the shift."""

    def __init__(self, rng: Rng, channels: int, groups: int, eps: float = 1e-5, silu: bool = False) -> None:
        self.weight = Parameter(constant(rng, (channels,), 1))
        self.bias = Parameter(constant(rng, (channels,), 0))
        self.groups, self.eps, self.silu = groups, eps, silu

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.weight, self.bias, groups=self.groups, eps=self.eps, silu=self.silu)


class LayerNorm(Module):
    """Layer norm over the last axis: (…, D) → same; weight (D,) is the scale and bias (D,) the shift."""

    def __init__(self, rng: Rng, width: int) -> None:
        self.weight = Parameter(constant(rng, (width,), 1))
        self.bias = Parameter(constant(rng, (width,), 0))

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias)


class Embedding(Module):
    """A table of `count` vectors: integers (…) → (…, width); weight (count, width), at first N(0, 0.02²) as in CLIP."""

    def __init__(self, rng: Rng, count: int, width: int) -> None:
        self.weight = Parameter(normal(rng, (count, width), 0.02))

    def forward(self, indices: Array) -> Tensor:
        return ops.embedding(self.weight, indices)
