"""The U-Net that removes noise, conditioned on the timestep and the text; its names are UNet2DConditionModel's."""

from dataclasses import dataclass

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.errors import InputError
from tinydiff.models.text_encoder import TextEncoder, TextEncoderConfig
from tinydiff.nn.blocks import Downsample, ResnetBlock, SpatialTransformer, TimestepEmbedding, Upsample
from tinydiff.nn.layers import Conv2d, GroupNorm, check_images
from tinydiff.nn.module import Module, Rng

CROSS_ATTENTION, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"  # with transformers and without


@dataclass(frozen=True)
class UNetConfig:
    """The fields and names of diffusers' `unet/config.json`; the defaults are Stable Diffusion 1.x's."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # channels at each level
    layers_per_block: int = 2  # residual blocks a level going down; one more going up
    down_block_types: tuple[str, ...] = (*[CROSS_ATTENTION] * 3, PLAIN)  # the levels that have transformers
    num_attention_heads: int = 8  # `attention_head_dim` in the files of Stable Diffusion 1.x
    norm_num_groups: int = 32
    cross_attention_dim: int = 768  # of the text's vectors


class UNet(Module):
    """ε or v from a noisy latent (N, H, W, C), timesteps (N,) and the text (N, L, D): → (N, H, W, out_channels).

    H and W must be multiples of 2^(levels − 1).  Raises InputError unless each level has its type of block.
    (Ronneberger 2015, arXiv:1505.04597; Rombach 2022, arXiv:2112.10752)

    >>> sum(p.data.size for p in models.UNet(models.UNetConfig(), rng=None).parameters())  # Stable Diffusion 1.x's
    859520964
    """

    def __init__(self, config: UNetConfig, rng: Rng) -> None:
        channels, types = config.block_out_channels, config.down_block_types
        if len(types) != len(channels):
            raise InputError(f"UNet: {len(channels)} block_out_channels, but {len(types)} down_block_types")
        self.config = config
        self.conv_in = Conv2d(rng, config.in_channels, channels[0])
        self.time_embedding = TimestepEmbedding(rng, channels[0])
        self.down_blocks = [DownBlock(rng, config, level) for level in range(len(channels))]
        self.mid_block = MidBlock(rng, config)
        self.up_blocks = [UpBlock(rng, config, level) for level in reversed(range(len(channels)))]
        self.conv_norm_out = GroupNorm(rng, channels[0], config.norm_num_groups, silu=True)
        self.conv_out = Conv2d(rng, channels[0], config.out_channels, zero=True)

    def forward(self, x: Tensor, t: Array, context: Tensor) -> Tensor:
        config = self.config
        check_images("UNet", x, config.in_channels, 2 ** (len(config.block_out_channels) - 1))
        if np.shape(t) != x.shape[:1]:
            raise InputError(f"UNet: t is {np.shape(t)}, expected a timestep for each of the {len(x.data)} images")
        time = self.time_embedding(t)  # (N, 4·block_out_channels[0])
        x = self.conv_in(x)
        saved = [x]
        for block in self.down_blocks:
            x = block(x, time, context, saved)
        x = self.mid_block(x, time, context)
        for up_block in self.up_blocks:
            x = up_block(x, time, context, saved)
        return self.conv_out(self.conv_norm_out(x))


class Denoiser(Module):
    """A U-Net with the text encoder that learns along: as UNet, from word ids (N, L) in place of the text's vectors."""

    def __init__(self, unet: UNetConfig, text: TextEncoderConfig, rng: Rng) -> None:
        self.text_encoder = TextEncoder(text, rng)
        self.unet = UNet(unet, rng)

    def forward(self, x: Tensor, t: Array, tokens: Array) -> Tensor:
        return self.unet(x, t, self.text_encoder(tokens))


class Level(Module):
    """Residual blocks at one resolution, conditioned on t; after each a transformer, on the text, where configured."""

    def __init__(
        self, rng: Rng, config: UNetConfig, level: int, inputs: list[int], transformers: int | None = None
    ) -> None:
        width, time_width = config.block_out_channels[level], 4 * config.block_out_channels[0]
        heads, groups, text_width = config.num_attention_heads, config.norm_num_groups, config.cross_attention_dim
        if transformers is None:
            transformers = len(inputs) if config.down_block_types[level] == CROSS_ATTENTION else 0
        self.attentions = [SpatialTransformer(rng, width, heads, groups, text_width) for _ in range(transformers)]
        self.resnets = [ResnetBlock(rng, count, width, groups, time_width) for count in inputs]

    def step(self, i: int, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if i < len(self.attentions) else x


class DownBlock(Level):
    """The results of all its blocks are saved; then half the resolution."""

    def __init__(self, rng: Rng, config: UNetConfig, level: int) -> None:
        channels, layers = config.block_out_channels, config.layers_per_block
        super().__init__(rng, config, level, [channels[max(0, level - 1)]] + [channels[level]] * (layers - 1))
        self.downsamplers = [Downsample(rng, channels[level])] if level < len(channels) - 1 else []

    def forward(self, x: Tensor, time: Tensor, context: Tensor, saved: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.step(i, x, time, context)
            saved.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)  # (N, H, W, C) → (N, H/2, W/2, C)
            saved.append(x)
        return x


class MidBlock(Level):
    """Residual block, transformer, residual block at the lowest resolution."""

    def __init__(self, rng: Rng, config: UNetConfig) -> None:
        super().__init__(rng, config, -1, [config.block_out_channels[-1]] * 2, transformers=1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        return self.step(1, self.step(0, x, time, context), time, context)


class UpBlock(Level):
    """As going down, but each residual block also sees what was saved at its resolution; then twice the resolution."""

    def __init__(self, rng: Rng, config: UNetConfig, level: int) -> None:
        channels, layers = config.block_out_channels, config.layers_per_block
        below = channels[min(level + 1, len(channels) - 1)]
        above = channels[max(0, level - 1)]  # what was saved first at this resolution came from the level above
        same = [channels[level]] * layers
        super().__init__(rng, config, level, [a + b for a, b in zip([below, *same], [*same, above], strict=True)])
        self.upsamplers = [Upsample(rng, channels[level])] if level > 0 else []

    def forward(self, x: Tensor, time: Tensor, context: Tensor, saved: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.step(i, ops.concat(x, saved.pop()), time, context)  # (N, H, W, C + saved channels) → (N, H, W, K)
        for upsample in self.upsamplers:
            x = upsample(x)  # (N, H, W, C) → (N, 2H, 2W, C)
        return x
