"""The judge: a classifier of real pictures, which says what a drawn one shows and whose features measure distance."""

from __future__ import annotations

from dataclasses import dataclass

from tinydiff import ops
from tinydiff.autograd import Array, Tensor, no_grad
from tinydiff.nn.blocks import ResnetBlock
from tinydiff.nn.layers import Conv2d, GroupNorm, Linear
from tinydiff.nn.module import Generator, Module


@dataclass(frozen=True)
class JudgeConfig:
    widths: tuple[int, ...] = (32, 64, 128)  # each level halves the size
    groups: int = 8
    garments: int = 10
    colours: int = 8
    backgrounds: int = 4


class Judge(Module):
    """Pictures (N, 32, 32, 3) in [−1, 1] → logits of garment, colour and background."""

    def __init__(self, config: JudgeConfig, rng: Generator) -> None:
        self.config = config
        inputs = (3, *config.widths)
        self.convs = [Conv2d(rng, inputs[i], width) for i, width in enumerate(config.widths)]
        self.resnets = [ResnetBlock(rng, width, width, config.groups) for width in config.widths]
        self.norm = GroupNorm(rng, config.widths[-1], config.groups, silu=True)
        self.heads = [Linear(rng, config.widths[-1], k) for k in (config.garments, config.colours, config.backgrounds)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.features(x)
        return tuple(head(features) for head in self.heads)

    def features(self, x: Tensor) -> Tensor:
        """The vector (N, C) before the last layer: the space in which Fréchet distances are measured."""
        for conv, resnet in zip(self.convs, self.resnets, strict=True):
            x = resnet(ops.max_pool2d(conv(x)))
        return ops.mean_positions(self.norm(x))

    def classify(self, images: Array) -> tuple[Array, ...]:
        """The most likely garment, colour and background of each picture."""
        with no_grad():
            return tuple(logits.data.argmax(1) for logits in self.forward(Tensor(images)))
