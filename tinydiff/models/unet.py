"""The denoiser: a U-Net that is told its noise level and reads the words.

Down through the levels, each saving its features; through the middle; and up again, where the saved features are
"added to the end of the channels".  Its names are those of diffusers' UNet2DConditionModel.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.errors import InputError
from tinydiff.nn.blocks import Downsample, ResnetBlock, SpatialTransformer, TimestepEmbedding, Upsample
from tinydiff.nn.layers import Conv2d, GroupNorm
from tinydiff.nn.module import Generator, Module

CROSS_ATTENTION, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"  # with transformers and without


@dataclass(frozen=True)
class UNetConfig:
    """The defaults are Stable Diffusion 1.x's: `UNet(UNetConfig(), rng=None)` has its parameters' names and shapes."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # channels at each level
    layers_per_block: int = 2  # residual blocks a level going down; one more going up
    down_block_types: tuple[str, ...] = (*[CROSS_ATTENTION] * 3, PLAIN)  # the levels that have transformers
    num_attention_heads: int = 8
    norm_num_groups: int = 32
    cross_attention_dim: int = 768


class UNet(Module):
    """ε or v from a noisy latent (N, H, W, C), noise levels (N,) and words (N, L, D).

    (Ronneberger 2015, arXiv:1505.04597; Rombach 2022, arXiv:2112.10752)
    """

    def __init__(self, config: UNetConfig, rng: Generator) -> None:
        if len(config.down_block_types) != len(config.block_out_channels):
            raise InputError(
                f"UNet: {len(config.block_out_channels)} block_out_channels, "
                f"but {len(config.down_block_types)} down_block_types"
            )
        self.config = config
        first, last = config.block_out_channels[0], config.block_out_channels[-1]
        time_width = 4 * first
        self.conv_in = Conv2d(rng, config.in_channels, first)
        self.time_embedding = TimestepEmbedding(rng, first)

        self.down_blocks: list[DownBlock] = []
        skips, inputs = [first], first  # the channels of what is saved on the way down
        for level, width in enumerate(config.block_out_channels):
            deepest = level == len(config.block_out_channels) - 1
            self.down_blocks.append(DownBlock(rng, config, level, inputs, time_width, downsample=not deepest))
            skips += [width] * (config.layers_per_block + (not deepest))
            inputs = width

        self.mid_block = MidBlock(rng, config, last, time_width)

        self.up_blocks: list[UpBlock] = []
        for level in reversed(range(len(config.block_out_channels))):
            saved = [skips.pop() for _ in range(config.layers_per_block + 1)]
            self.up_blocks.append(UpBlock(rng, config, level, inputs, saved, time_width, upsample=level > 0))
            inputs = config.block_out_channels[level]

        self.conv_norm_out = GroupNorm(rng, first, config.norm_num_groups, silu=True)
        self.conv_out = Conv2d(rng, first, config.out_channels, zero=True)

    def forward(self, x: Tensor, t: Array, context: Tensor) -> Tensor:
        time = self.time_embedding(t)  # (N, 4·first)
        x = self.conv_in(x)
        saved = [x]
        for block in self.down_blocks:
            x = block(x, time, context, saved)
        x = self.mid_block(x, time, context)
        for up_block in self.up_blocks:
            x = up_block(x, time, context, saved)
        return self.conv_out(self.conv_norm_out(x))


class DownBlock(Module):
    """Residual blocks, each with a transformer where configured, then half the resolution; all results are saved."""

    def __init__(
        self, rng: Generator, config: UNetConfig, level: int, inputs: int, time_width: int, downsample: bool
    ) -> None:
        width = config.block_out_channels[level]
        self.attentions = _transformers(rng, config, level, config.layers_per_block)
        self.resnets = [
            ResnetBlock(rng, inputs if i == 0 else width, width, config.norm_num_groups, time_width)
            for i in range(config.layers_per_block)
        ]
        self.downsamplers = [Downsample(rng, width)] if downsample else []

    def forward(self, x: Tensor, time: Tensor, context: Tensor, saved: list[Tensor]) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions:
                x = self.attentions[i](x, context)
            saved.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            saved.append(x)
        return x


class MidBlock(Module):
    """Residual block, transformer, residual block at the lowest resolution."""

    def __init__(self, rng: Generator, config: UNetConfig, width: int, time_width: int) -> None:
        self.attentions = [
            SpatialTransformer(
                rng, width, config.num_attention_heads, config.norm_num_groups, config.cross_attention_dim
            )
        ]
        self.resnets = [ResnetBlock(rng, width, width, config.norm_num_groups, time_width) for _ in range(2)]

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.resnets[0](x, time)
        x = self.attentions[0](x, context)
        return self.resnets[1](x, time)


class UpBlock(Module):
    """As going down, but each residual block also sees what was saved at its resolution; then twice the resolution."""

    def __init__(
        self,
        rng: Generator,
        config: UNetConfig,
        level: int,
        inputs: int,
        saved: list[int],
        time_width: int,
        upsample: bool,
    ) -> None:
        width = config.block_out_channels[level]
        self.attentions = _transformers(rng, config, level, len(saved))
        self.resnets = [
            ResnetBlock(rng, (inputs if i == 0 else width) + skip, width, config.norm_num_groups, time_width)
            for i, skip in enumerate(saved)
        ]
        self.upsamplers = [Upsample(rng, width)] if upsample else []

    def forward(self, x: Tensor, time: Tensor, context: Tensor, saved: list[Tensor]) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(ops.concat(x, saved.pop()), time)
            if self.attentions:
                x = self.attentions[i](x, context)
        for upsample in self.upsamplers:
            x = upsample(x)
        return x


def _transformers(rng: Generator, config: UNetConfig, level: int, count: int) -> list[SpatialTransformer]:
    if config.down_block_types[level] != CROSS_ATTENTION:
        return []
    width = config.block_out_channels[level]
    return [
        SpatialTransformer(rng, width, config.num_attention_heads, config.norm_num_groups, config.cross_attention_dim)
        for _ in range(count)
    ]
