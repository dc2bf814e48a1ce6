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


@dataclass(frozen=True)
class UNetConfig:
    """The defaults are Stable Diffusion 1.x's: `UNet(UNetConfig(), rng=None)` has its parameters' names and shapes."""

    in_channels: int = 4
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)  # channels at each level
    layers: int = 2  # residual blocks a level going down; one more going up
    attention: tuple[bool, ...] = (True, True, True, False)  # the levels that have transformers
    heads: int = 8
    groups: int = 32
    text_width: int = 768


class UNet(Module):
    """ε or v from a noisy latent (N, H, W, C), noise levels (N,) and words (N, L, D).

    (Ronneberger 2015, arXiv:1505.04597; Rombach 2022, arXiv:2112.10752)
    """

    def __init__(self, config: UNetConfig, rng: Generator) -> None:
        if len(config.attention) != len(config.widths):
            raise InputError(f"UNet: {len(config.widths)} widths but {len(config.attention)} entries in attention")
        self.config = config
        first, last = config.widths[0], config.widths[-1]
        time_width = 4 * first
        self.conv_in = Conv2d(rng, config.in_channels, first)
        self.time_embedding = TimestepEmbedding(rng, first)

        self.down_blocks: list[DownBlock] = []
        skips, inputs = [first], first  # the channels of what is saved on the way down
        for level, width in enumerate(config.widths):
            deepest = level == len(config.widths) - 1
            self.down_blocks.append(DownBlock(rng, config, level, inputs, time_width, downsample=not deepest))
            skips += [width] * (config.layers + (not deepest))
            inputs = width

        self.mid_block = MidBlock(rng, config, last, time_width)

        self.up_blocks: list[UpBlock] = []
        for level in reversed(range(len(config.widths))):
            saved = [skips.pop() for _ in range(config.layers + 1)]
            self.up_blocks.append(UpBlock(rng, config, level, inputs, saved, time_width, upsample=level > 0))
            inputs = config.widths[level]

        self.conv_norm_out = GroupNorm(rng, first, config.groups, silu=True)
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
        width = config.widths[level]
        self.attentions = _transformers(rng, config, level, config.layers)
        self.resnets = [
            ResnetBlock(rng, inputs if i == 0 else width, width, config.groups, time_width)
            for i in range(config.layers)
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
        self.attentions = [SpatialTransformer(rng, width, config.heads, config.groups, config.text_width)]
        self.resnets = [ResnetBlock(rng, width, width, config.groups, time_width) for _ in range(2)]

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
        width = config.widths[level]
        self.attentions = _transformers(rng, config, level, len(saved))
        self.resnets = [
            ResnetBlock(rng, (inputs if i == 0 else width) + skip, width, config.groups, time_width)
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
    if not config.attention[level]:
        return []
    width = config.widths[level]
    return [SpatialTransformer(rng, width, config.heads, config.groups, config.text_width) for _ in range(count)]
