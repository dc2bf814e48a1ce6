"""The blocks of the twin: PyTorch's counterparts of `tinydiff.nn.blocks`, with the same names."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class ResnetBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int, time_width: int | None = None, eps: float = 1e-5):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, inputs, eps), nn.Conv2d(inputs, outputs, 3, padding=1)
        if time_width is not None:
            self.time_emb_proj = nn.Linear(time_width, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(groups, outputs, eps), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Any, time: Any = None) -> Any:
        h = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    def __init__(self, channels: int, padding: int = 1):
        super().__init__()
        self.conv, self.padding = nn.Conv2d(channels, channels, 3, stride=2, padding=padding), padding

    def forward(self, x: Any) -> Any:
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, context_width: int | None = None, bias: bool = False):
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context_width or width, width, bias=bias)
        self.to_v = nn.Linear(context_width or width, width, bias=bias)
        self.to_out, self.heads = nn.ModuleList([nn.Linear(width, width)]), heads

    def forward(self, x: Any, context: Any = None) -> Any:
        context = x if context is None else context
        return self.to_out[0](attention(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


def attention(q: Any, k: Any, v: Any, heads: int) -> Any:
    q, k, v = (a.unflatten(2, (heads, -1)).transpose(1, 2) for a in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class GEGLU(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Any) -> Any:
        values, gates = self.proj(x).chunk(2, dim=-1)
        return values * F.gelu(gates)


class FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Any) -> Any:
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, context_width: int):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.attn2 = nn.LayerNorm(width), Attention(width, heads, context_width)
        self.norm3, self.ff = nn.LayerNorm(width), FeedForward(width)

    def forward(self, x: Any, context: Any) -> Any:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, channels: int, heads: int, groups: int, context_width: int):
        super().__init__()
        self.norm, self.proj_in = nn.GroupNorm(groups, channels, 1e-6), nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, context_width)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Any, context: Any) -> Any:
        n, channels, height, width = x.shape
        h = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(n, height * width, channels)
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + self.proj_out(h.reshape(n, height, width, channels).permute(0, 3, 1, 2))


class TimestepEmbedding(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear_1, self.linear_2, self.width = nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width), width

    def forward(self, t: Any) -> Any:
        half = self.width // 2
        angles = t.double()[:, None] * torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float64) / half)
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).float()
        return self.linear_2(F.silu(self.linear_1(waves)))
