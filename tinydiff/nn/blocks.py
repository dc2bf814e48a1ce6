"""The blocks that Stable Diffusion is made of, named as in diffusers' weight files."""

import math

import numpy as np

from tinydiff import kernels, ops
from tinydiff.autograd import Array, Tensor, read_only
from tinydiff.device import array_module
from tinydiff.nn.layers import Conv2d, GroupNorm, LayerNorm, Linear
from tinydiff.nn.module import Module, Rng, chain


def timestep_embedding(t: Array, width: int) -> Array:
    """Timestep t (N,) as a vector (N, width), float64: [cos(t·f), sin(t·f)], f_i = 10000^(−i/half), i = 0 … half − 1.

    Stable Diffusion's order and frequencies.  (Vaswani 2017, arXiv:1706.03762, section 3.5; Ho 2020)
    """
    half, xp = width // 2, array_module(t)
    frequencies = xp.exp(-math.log(10_000) * xp.arange(half) / half)
    angles = xp.asarray(t, np.float64)[:, None] * frequencies  # (N, width/2)
    return xp.concatenate([xp.cos(angles), xp.sin(angles)], axis=1)


class TimestepEmbedding(Module):
    """The sinusoids of t through a small network: (N,) → (N, 4·width)."""

    def __init__(self, rng: Rng, width: int) -> None:
        self.linear_1 = Linear(rng, width, 4 * width)
        self.linear_2 = Linear(rng, 4 * width, 4 * width)
        self.width = width

    def forward(self, t: Array) -> Tensor:
        def waves(t: Array) -> tuple[Array, None]:
            return timestep_embedding(t, self.width).astype(self.linear_1.weight.dtype), None

        x, _ = kernels.run_op(waves, (self.place(t),))
        return chain(Tensor(read_only(x)), self.linear_1, ops.silu, self.linear_2)


class ResnetBlock(Module):
    """x + conv(norm(conv(norm(x)) + time)): (N, H, W, inputs) → (N, H, W, outputs), time (N, time_width) or None.

    groups: of the norms, they must divide inputs and outputs;   time_width: None for a block without a time embedding
    The embedding, through SiLU and a linear layer, gives each channel one number, added at all positions; a 1×1
    convolution fits the skip connection where inputs ≠ outputs.  The second convolution starts at zero, so that a new
    block is its skip connection alone.  (He 2016; Ho 2020, arXiv:2006.11239)
    """

    def __init__(
        self, rng: Rng, inputs: int, outputs: int, groups: int, time_width: int | None = None, eps: float = 1e-5
    ) -> None:
        self.norm1 = GroupNorm(rng, inputs, groups, eps, silu=True)
        self.conv1 = Conv2d(rng, inputs, outputs)
        if time_width is not None:
            self.time_emb_proj = Linear(rng, time_width, outputs)
        self.norm2 = GroupNorm(rng, outputs, groups, eps, silu=True)
        self.conv2 = Conv2d(rng, outputs, outputs, zero=True)
        self.conv_shortcut = Conv2d(rng, inputs, outputs, size=1) if inputs != outputs else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.conv1(self.norm1(x))
        if time is not None:
            h = ops.add_channel_bias(h, self.time_emb_proj(ops.silu(time)))  # (N, H, W, K) + (N, K)
        h = self.conv2(self.norm2(h))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(Module):
    """Half the height and width by a 3×3 convolution of stride 2: (N, H, W, C) → (N, H/2, W/2, C)."""

    def __init__(self, rng: Rng, channels: int, padding: int | tuple[int, int, int, int] = 1) -> None:
        self.conv = Conv2d(rng, channels, channels, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(Module):
    """Twice the height and width: nearest ×2, then a 3×3 convolution: (N, H, W, C) → (N, 2H, 2W, C)."""

    def __init__(self, rng: Rng, channels: int) -> None:
        self.conv = Conv2d(rng, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(ops.upsample_nearest(x))


class Attention(Module):
    """Multi-head attention with its projections: self-attention, or cross-attention where a context comes in.

    x (N, L, width), context (N, M, context_width) or None → (N, L, width).  (Vaswani 2017, arXiv:1706.03762)
    """

    def __init__(self, rng: Rng, width: int, heads: int, context_width: int | None = None, bias: bool = False) -> None:
        self.to_q = Linear(rng, width, width, bias=bias)
        self.to_k = Linear(rng, context_width or width, width, bias=bias)
        self.to_v = Linear(rng, context_width or width, width, bias=bias)
        self.to_out = [Linear(rng, width, width)]
        self.heads = heads

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        return self.to_out[0](ops.attention(self.to_q(x), self.to_k(context), self.to_v(context), heads=self.heads))


class GEGLU(Module):
    """A linear layer whose one half is gated by the GELU of the other: (…, inputs) → (…, outputs)."""

    def __init__(self, rng: Rng, inputs: int, outputs: int) -> None:
        self.proj = Linear(rng, inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return ops.geglu(self.proj(x))


class FeedForward(Module):
    """GEGLU to four times the width, and back: (…, D) → same.  (diffusers' `net.1` is a dropout without parameters)"""

    def __init__(self, rng: Rng, width: int) -> None:
        self.net: list = [GEGLU(rng, width, 4 * width), None, Linear(rng, 4 * width, width)]

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class TransformerBlock(Module):
    """Self-attention, cross-attention and feed-forward, each after a layer norm and with a skip connection.

    x (N, L, width), context (N, M, context_width) → (N, L, width)
    """

    def __init__(self, rng: Rng, width: int, heads: int, context_width: int) -> None:
        self.norm1, self.attn1 = LayerNorm(rng, width), Attention(rng, width, heads)
        self.norm2, self.attn2 = LayerNorm(rng, width), Attention(rng, width, heads, context_width)
        self.norm3, self.ff = LayerNorm(rng, width), FeedForward(rng, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(Module):
    """A transformer over the positions of a feature map, conditioned on the text: (N, H, W, C) and (N, M, D) → as x.

    The last convolution starts at zero: a new one is the identity.  (Rombach 2022, arXiv:2112.10752, appendix E)
    """

    def __init__(self, rng: Rng, channels: int, heads: int, groups: int, context_width: int) -> None:
        self.norm = GroupNorm(rng, channels, groups, eps=1e-6)
        self.proj_in = Conv2d(rng, channels, channels, size=1)
        self.transformer_blocks = [TransformerBlock(rng, channels, heads, context_width)]
        self.proj_out = Conv2d(rng, channels, channels, size=1, zero=True)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x)).reshape(x.shape[0], -1, x.shape[-1])  # (N, H·W, C)
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + self.proj_out(h.reshape(*x.shape))
