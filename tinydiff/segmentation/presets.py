"""Named configurations of `train segmentation`: how wide the network is and how long it is trained."""

from dataclasses import dataclass, replace

from tinydiff.errors import InputError
from tinydiff.models.unet2015 import UNet2015Config
from tinydiff.segmentation.augment import Augmentation
from tinydiff.training.optim import OptimConfig


@dataclass(frozen=True)
class SegmentationPreset:
    """All that `tinydiff train segmentation` needs to know."""

    model: UNet2015Config
    optim: OptimConfig
    size: int = 128  # pixels of the pieces that are learnt from; unpadded, of their answer
    augmentation: Augmentation = Augmentation()
    w0: float = 5.0  # weight and width, in pixels, of the border between two cells (the paper's weight is 10)
    sigma: float = 5.0
    seed: int = 0


SMALL = UNet2015Config(block_out_channels=(16, 32, 64, 128))
SHORT = OptimConfig(steps=300, batch=4, lr=2e-3, warmup=20, ema=0.98)
PAPER = OptimConfig(steps=1_000, batch=1, lr=3e-4, warmup=50, ema=0.99)
SEGMENTATION = {
    "quick": SegmentationPreset(SMALL, SHORT),
    "full": SegmentationPreset(SMALL, replace(SHORT, steps=4_000)),
    "paper": SegmentationPreset(UNet2015Config(), PAPER, size=256),
}


def segmentation_preset(name: str) -> SegmentationPreset:
    """The preset of that name for `train segmentation`; InputError names those that there are."""
    if name not in SEGMENTATION:
        raise InputError(f"no preset {name!r} for segmentation; there are {', '.join(SEGMENTATION)}")
    return SEGMENTATION[name]
