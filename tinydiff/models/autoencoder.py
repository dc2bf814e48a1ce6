"""The KL autoencoder, with the names of diffusers' AutoencoderKL: images to a small latent space, and back."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor, no_grad
from tinydiff.errors import InputError
from tinydiff.nn.blocks import Attention, Downsample, ResnetBlock, Upsample
from tinydiff.nn.layers import Conv2d, GroupNorm, check_images
from tinydiff.nn.module import Module, Rng, chain


@dataclass(frozen=True)
class AutoencoderConfig:
    """The fields and names of diffusers' `vae/config.json`; the defaults are Stable Diffusion 1.x's."""

    in_channels: int = 3  # of the images
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)  # at each level; all but the last halve the size
    layers_per_block: int = 2  # residual blocks a level in the encoder; one more in the decoder
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    scaling_factor: float = 0.18215  # 1 / standard deviation of the training latents; `encode` and `decode` apply it


class Autoencoder(Module):
    """Images (N, H, W, 3) in [−1, 1] ↔ latents (N, H/f, W/f, 4) of about unit variance, f = 2^(levels − 1).

    (Kingma & Welling 2013, arXiv:1312.6114; Rombach 2022, arXiv:2112.10752)

    >>> config = models.AutoencoderConfig(block_out_channels=(8, 16, 16), norm_num_groups=4)
    >>> model = models.Autoencoder(config, np.random.default_rng(0))
    >>> latents = model.encode(np.zeros((1, 32, 32, 3), np.float32))
    >>> latents.shape, model.decode(latents).shape
    ((1, 8, 8, 4), (1, 32, 32, 3))
    """

    clip: float | None = None  # the bound that samplers hold x̂0 to: pixels have one, latents have none

    def __init__(self, config: AutoencoderConfig, rng: Rng) -> None:
        if not config.scaling_factor > 0:
            raise InputError(f"Autoencoder: scaling_factor must be above 0; got {config.scaling_factor}")
        self.config = config
        self.channels = latent = config.latent_channels
        self.factor = 2 ** (len(config.block_out_channels) - 1)  # pixels' side that one place of the latent stands for
        self.encoder = Encoder(rng, config)
        self.quant_conv = Conv2d(rng, 2 * latent, 2 * latent, size=1)
        if rng is not None:  # begin with little noise, σ = e⁻², so that the decoder has something to learn from
            bias = self.quant_conv.bias.data
            self.quant_conv.bias.assign(np.append(bias[:latent], np.full_like(bias[latent:], -4)))
        self.post_quant_conv = Conv2d(rng, latent, latent, size=1)
        self.decoder = Decoder(rng, config)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of each number of the latent, unscaled; a small KL loss keeps them near N(0, 1).

        Raises InputError unless f divides the sides of the images, as does `encode`.
        """
        check_images("Autoencoder", x, self.config.in_channels, self.factor)
        h, latent = self.quant_conv(self.encoder(x)), self.channels  # (N, H/f, W/f, 2·4)
        return ops.slice_channels(h, start=0, stop=latent), ops.slice_channels(h, start=latent, stop=2 * latent)

    def reconstruct(self, z: Tensor) -> Tensor:
        """Images from unscaled latents."""
        return self.decoder(self.post_quant_conv(z))

    def encode(self, images: Array, rng: Any = None) -> Array:
        """Images in [−1, 1] to scaled latents, off the tape: the means, or with `rng` a draw around them."""
        with no_grad():
            z, log_variance = self.moments(Tensor(images))
            if rng is not None:
                z = ops.reparameterize(z, log_variance, self.place(rng.standard_normal(z.shape, np.float32)))
            return z.data * np.float32(self.config.scaling_factor)

    def decode(self, latents: Array) -> Array:
        """Scaled latents to images, off the tape; not clipped."""
        with no_grad():
            return self.reconstruct(Tensor(latents * np.float32(1 / self.config.scaling_factor))).data


class PixelSpace(Module):
    """In the autoencoder's place where diffusion works on the pixels themselves: nothing is encoded."""

    channels, factor = 3, 1
    clip: float | None = 1.0

    def encode(self, images: Array, rng: Any = None) -> Array:
        return images

    def decode(self, latents: Array) -> Array:
        return latents


class Encoder(Module):
    """Residual blocks and halvings: (N, H, W, 3) → (N, H/f, W/f, 8), two numbers for each latent number."""

    def __init__(self, rng: Rng, config: AutoencoderConfig) -> None:
        channels, layers = config.block_out_channels, config.layers_per_block
        self.conv_in = Conv2d(rng, config.in_channels, channels[0])
        self.down_blocks = _levels(rng, config, channels, layers, "down")
        self.mid_block = Level(rng, config, channels[-1], channels[-1], 2, "middle")
        self.conv_norm_out = GroupNorm(rng, channels[-1], config.norm_num_groups, eps=1e-6, silu=True)
        self.conv_out = Conv2d(rng, channels[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, self.conv_in, *self.down_blocks, self.mid_block, self.conv_norm_out, self.conv_out)


class Decoder(Module):
    """Residual blocks and doublings: (N, H/f, W/f, 4) → the image (N, H, W, 3)."""

    def __init__(self, rng: Rng, config: AutoencoderConfig) -> None:
        channels, layers = config.block_out_channels[::-1], config.layers_per_block + 1  # from the lowest level up
        self.conv_in = Conv2d(rng, config.latent_channels, channels[0])
        self.mid_block = Level(rng, config, channels[0], channels[0], 2, "middle")
        self.up_blocks = _levels(rng, config, channels, layers, "up")
        self.conv_norm_out = GroupNorm(rng, channels[-1], config.norm_num_groups, eps=1e-6, silu=True)
        self.conv_out = Conv2d(rng, channels[-1], config.in_channels)

    def forward(self, z: Tensor) -> Tensor:
        return chain(z, self.conv_in, self.mid_block, *self.up_blocks, self.conv_norm_out, self.conv_out)


class Level(Module):
    """Residual blocks at one resolution; then half of it (way "down"), or twice ("up"); the "middle" has attention."""

    def __init__(self, rng: Rng, config: AutoencoderConfig, inputs: int, width: int, layers: int, way: str) -> None:
        groups, attention = config.norm_num_groups, way == "middle" and config.mid_block_add_attention
        self.attentions = [AttentionBlock(rng, width, groups)] if attention else []
        counts = [inputs] + [width] * (layers - 1)
        self.resnets = [ResnetBlock(rng, count, width, groups, eps=1e-6) for count in counts]
        # Padded below and to the right only, as in Stable Diffusion 1.x.
        self.downsamplers = [Downsample(rng, width, padding=(0, 1, 0, 1))] if way == "down" else []
        self.upsamplers = [Upsample(rng, width)] if way == "up" else []

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.resnets
        return chain(x, first, *self.attentions, *others, *self.downsamplers, *self.upsamplers)


def _levels(rng: Rng, config: AutoencoderConfig, channels: tuple[int, ...], layers: int, way: str) -> list[Level]:
    """A level for each number of channels; after the last the resolution stays."""
    *pairs, last = pairwise((channels[0], *channels))
    return [*(Level(rng, config, *pair, layers, way) for pair in pairs), Level(rng, config, *last, layers, "")]


class AttentionBlock(Attention):
    """Single-head self-attention over the positions of a feature map, with a skip connection: (N, H, W, C) → same."""

    def __init__(self, rng: Rng, channels: int, groups: int) -> None:
        self.group_norm = GroupNorm(rng, channels, groups, eps=1e-6)
        super().__init__(rng, channels, heads=1, bias=True)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = super().forward(self.group_norm(x).reshape(x.shape[0], -1, x.shape[-1]))  # (N, H·W, C)
        return x + h.reshape(*x.shape)
