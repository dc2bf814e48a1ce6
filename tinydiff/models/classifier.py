"""The judge: a classifier of real pictures, which says what a drawn one shows and whose features measure distance."""

from __future__ import annotations

from dataclasses import dataclass

from tinydiff import ops
from tinydiff.autograd import Array, Tensor, no_grad
from tinydiff.nn.blocks import ResnetBlock
from tinydiff.nn.layers import Conv2d, GroupNorm, Linear
from tinydiff.nn.module import Generator, Module


@dataclass(frozen=True)
class ClassifierConfig:
    block_out_channels: tuple[int, ...] = (32, 64, 128)  # each level halves the size
    norm_num_groups: int = 8
    garments: int = 10
    colours: int = 8
    backgrounds: int = 4


class Classifier(Module):
    """Pictures (N, 32, 32, 3) in [−1, 1] → logits of garment, colour and background."""

    def __init__(self, config: ClassifierConfig, rng: Generator) -> None:
        self.config = config
        inputs = (3, *config.block_out_channels)
        self.convs = [Conv2d(rng, inputs[i], width) for i, width in enumerate(config.block_out_channels)]
        self.resnets = [ResnetBlock(rng, width, width, config.norm_num_groups) for width in config.block_out_channels]
        self.norm = GroupNorm(rng, config.block_out_channels[-1], config.norm_num_groups, silu=True)
        self.heads = [
            Linear(rng, config.block_out_channels[-1], k) for k in (config.garments, config.colours, config.backgrounds)
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.features(x)
        return tuple(head(features) for head in self.heads)

    def features(self, x: Tensor) -> Tensor:
        """The vector (N, C) before the last layer: the space in which Fréchet distances are measured."""
        for conv, resnet in zip(self.convs, self.resnets, strict=True):
            x = resnet(ops.max_pool2d(conv(x)))
        return ops.global_avg_pool(self.norm(x))

    def classify(self, images: Array) -> tuple[Array, ...]:
        """The most likely garment, colour and background of each picture."""
        with no_grad():
            return tuple(logits.data.argmax(1) for logits in self.forward(Tensor(images)))
