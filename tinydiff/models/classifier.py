"""The evaluation classifier: trained on real images, it says what a generated one shows."""

from dataclasses import dataclass
from itertools import pairwise

from tinydiff import ops
from tinydiff.autograd import Array, Tensor, no_grad
from tinydiff.nn.blocks import ResnetBlock
from tinydiff.nn.layers import Conv2d, GroupNorm, Linear, check_images
from tinydiff.nn.module import Module, Rng


@dataclass(frozen=True)
class ClassifierConfig:
    """The last three are the numbers of classes, as in the captions of the data set."""

    block_out_channels: tuple[int, ...] = (32, 64, 128)  # each level halves the size
    norm_num_groups: int = 8
    garments: int = 10
    colours: int = 8
    backgrounds: int = 4


class Classifier(Module):
    """Images (N, H, W, 3) in [−1, 1] → logits of garment (N, 10), colour (N, 8) and background (N, 4).

    >>> model = models.Classifier(models.ClassifierConfig(), np.random.default_rng(0))
    >>> [answer.shape for answer in model.classify(np.zeros((2, 32, 32, 3), np.float32))]
    [(2,), (2,), (2,)]
    """

    def __init__(self, config: ClassifierConfig, rng: Rng) -> None:
        self.config = config
        channels, groups = config.block_out_channels, config.norm_num_groups
        self.convs = [Conv2d(rng, *pair) for pair in pairwise((3, *channels))]
        self.resnets = [ResnetBlock(rng, width, width, groups) for width in channels]
        self.norm = GroupNorm(rng, channels[-1], groups, silu=True)
        self.heads = [Linear(rng, channels[-1], k) for k in (config.garments, config.colours, config.backgrounds)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.features(x)
        return tuple(head(features) for head in self.heads)

    def features(self, x: Tensor) -> Tensor:
        """The vector (N, C) before the last layer: the space in which Fréchet distances are measured."""
        check_images("Classifier", x, 3, 2 ** len(self.convs))
        for conv, resnet in zip(self.convs, self.resnets, strict=True):
            x = resnet(ops.max_pool2d(conv(x)))  # (N, H, W, C) → (N, H/2, W/2, K)
        return ops.global_avg_pool(self.norm(x))  # (N, K)

    def classify(self, images: Array) -> tuple[Array, ...]:
        """The most likely garment, colour and background of each image: three arrays of indices (N,)."""
        with no_grad():
            return tuple(logits.data.argmax(1) for logits in self.forward(Tensor(images)))
