"""The U-Net of 2015: which class each pixel belongs to, learnt from very few images.

Down the contraction path, where two 3×3 convolutions see further after each max-pool; up the expansion path, where the
features saved at the same resolution are "added to the end of the channels".  (Ronneberger 2015, arXiv:1505.04597)
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.errors import InputError
from tinydiff.nn.layers import Conv2d, check_images
from tinydiff.nn.module import Module, Parameter, Rng, chain, constant, normal


@dataclass(frozen=True)
class UNet2015Config:
    """The defaults are the paper's, but for its unpadded convolutions."""

    in_channels: int = 3  # of the images
    num_classes: int = 2
    block_out_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)  # channels at each level
    padded: bool = True  # False: each convolution loses a pixel on every side, and what is saved is cropped to fit
    dropout: float = 0.5  # share of the numbers at the lowest level that training leaves out
    skips: bool = True  # False: a plain encoder-decoder of about the same size, to see what the skips are worth


class UNet2015(Module):
    """Images (N, H, W, in_channels) → logits (N, H', W', num_classes), H' = H where padded.

    H and W must be multiples of 2^(levels − 1) where padded; unpadded, every level must be even before its max-pool:
    572 becomes 388 with the paper's five levels.  Raises InputError for a configuration or a size that does not fit.

    >>> model = models.UNet2015(models.UNet2015Config(block_out_channels=(4, 8)), np.random.default_rng(0))
    >>> model(np.zeros((1, 16, 16, 3), np.float32)).shape
    (1, 16, 16, 2)
    """

    def __init__(self, config: UNet2015Config, rng: Rng) -> None:
        if len(config.block_out_channels) < 2 or not 0 <= config.dropout < 1:
            raise InputError(f"UNet2015: needs two levels or more and dropout in [0, 1); got {config}")
        self.config = config
        channels, padded = config.block_out_channels, config.padded
        self.down = [DoubleConv(rng, *pair, padded) for pair in pairwise((config.in_channels, *channels))]
        upwards = pairwise(reversed(channels))  # from the lowest level
        self.up = [UpBlock(rng, *pair, padded, config.skips) for pair in upwards]
        self.classify = Convolution(rng, channels[0], config.num_classes, size=1)

    def forward(self, x: Tensor, rng: np.random.Generator | None = None) -> Tensor:
        """Logits; with a generator as in training, where dropout draws from it at random."""
        check_images("UNet2015", x, self.config.in_channels)
        self._check(x.shape)
        saved = []
        for level, block in enumerate(self.down):
            x = block(ops.max_pool2d(x) if level else x)  # (N, H, W, C) → (N, H/2, W/2, C) → (N, H/2, W/2, K)
            saved.append(x)
        x = saved.pop()
        if rng is not None and self.config.dropout:
            keep = 1 - self.config.dropout
            mask = (rng.random(x.shape, np.float32) < keep) / np.float32(keep)
            x = x * self.place(mask.astype(x.dtype))
        for up in self.up:
            x = up(x, saved.pop())
        return self.classify(x)

    def _check(self, shape: tuple[int, ...]) -> None:
        padded, levels = self.config.padded, len(self.config.block_out_channels)
        trimmed = 0 if padded else 4  # pixels of two unpadded convolutions
        need = f"multiples of {2 ** (levels - 1)}" if padded else "even before each max-pool"
        for size in shape[1:3]:
            for _ in range(levels - 1):
                size -= trimmed
                if size < 2 or size % 2:
                    raise InputError(f"UNet2015: x {shape} must be (N, H, W, C) with H and W {need}")
                size //= 2
            if size <= trimmed:
                raise InputError(f"UNet2015: x {shape} is too small for {levels} levels")


class DoubleConv(Module):
    """Two 3×3 convolutions, each followed by ReLU: (N, H, W, C) → (N, H', W', K), H' = H or H − 4."""

    def __init__(self, rng: Rng, inputs: int, outputs: int, padded: bool) -> None:
        self.conv1 = Convolution(rng, inputs, outputs, padded=padded)
        self.conv2 = Convolution(rng, outputs, outputs, padded=padded)

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, self.conv1, ops.relu, self.conv2, ops.relu)


class UpBlock(Module):
    """An up-convolution that halves the channels, what was saved at this resolution beside it, two convolutions.

    (N, H, W, below) and saved (N, H'', W'', width) → (N, H', W', width).
    """

    def __init__(self, rng: Rng, below: int, width: int, padded: bool, skip: bool) -> None:
        made = width if skip else 2 * width  # alone it makes all the channels that the first convolution expects
        self.up_weight = Parameter(he(rng, (2, 2, made, below), fan_in=below))  # every output has one tap
        self.up_bias = Parameter(constant(rng, (made,), 0))
        self.double_conv = DoubleConv(rng, 2 * width, width, padded)
        self.skip = skip

    def forward(self, x: Tensor, saved: Tensor) -> Tensor:
        x = ops.conv_transpose2d(x, self.up_weight, self.up_bias, stride=2)  # twice the height and width
        return self.double_conv(ops.concat(ops.center_crop(saved, size=x.shape[1:3]), x) if self.skip else x)


class Convolution(Conv2d):
    """A convolution whose weights begin as ReLU wants them, and its biases with 0."""

    def __init__(self, rng: Rng, inputs: int, outputs: int, size: int = 3, padded: bool = True) -> None:
        super().__init__(rng, inputs, outputs, size, padding=None if padded else 0, zero=True)
        self.weight.assign(he(rng, self.weight.shape, fan_in=size * size * inputs))


def he(rng: Rng, shape: tuple[int, ...], fan_in: int) -> Array:
    """N(0, 2 / fan-in): ReLU halves the variance, this doubles it back.  (He 2015, arXiv:1502.01852)"""
    return normal(rng, shape, math.sqrt(2 / fan_in))
