"""Images of any size, tile by tile: each sees all pixels that its answer depends on, so that no seam is left.

The image is mirrored at its border.  (Ronneberger 2015, arXiv:1505.04597, figure 2)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinydiff.autograd import Tensor, no_grad
from tinydiff.device import array_module, to_numpy
from tinydiff.errors import InputError
from tinydiff.models.unet2015 import UNet2015, UNet2015Config

TILE = 512  # pixels of the answer that are computed at once, in each direction


@dataclass(frozen=True)
class Geometry:
    """How far a U-Net of 2015 sees, in pixels."""

    config: UNet2015Config

    @property
    def total_stride(self) -> int:
        """Pixels of the highest level under one of the lowest: shifts by this many are shifts of the whole answer."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    @property
    def valid_margin(self) -> int:
        """Pixels that the unpadded convolutions take from each side: two at each level going down, two going up."""
        return 2 * (2 * self.total_stride - 1) + 2 * (self.total_stride - 1)

    @property
    def receptive_radius(self) -> int:
        """How far away what a pixel's answer depends on may lie: the convolutions', and max-pool's grid."""
        return self.valid_margin + self.total_stride - 1

    @property
    def margin(self) -> int:
        """Pixels around a tile that the network must see."""
        return self._whole_strides(self.receptive_radius) if self.config.padded else self.valid_margin

    def seen(self, pixels: int) -> int:
        """The smallest size of an image that gives an answer for so many pixels, with the margin on both sides."""
        if self.config.padded:
            return self._whole_strides(pixels) + 2 * self.margin
        rim = 4 * (self.total_stride - 1)  # of an image of total_stride·n + rim pixels, n are left at the lowest level
        return self._whole_strides(pixels + 2 * self.valid_margin - rim) + rim

    def _whole_strides(self, pixels: int) -> int:
        """The smallest multiple of the total stride that holds so many pixels."""
        return math.ceil(pixels / self.total_stride) * self.total_stride


def predict(
    model: UNet2015, image: np.ndarray, tile: int = TILE, prepare: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """How probable each class is at each pixel: image (H, W, …) → float32 (H, W, classes).

    prepare: makes (h, w, channels) float32 of a piece of the image, so that a large one need not be prepared whole.
    Raises InputError where a side of the image is not longer than the receptive radius.
    """
    height, width = image.shape[:2]
    geometry = Geometry(model.config)
    least = geometry.receptive_radius + 1
    if min(height, width) < least:
        raise InputError(f"the image is {height}×{width} pixels, smaller than the receptive radius: expected {least}")
    step = geometry.total_stride * max(1, tile // geometry.total_stride)
    probability = np.empty((height, width, model.config.num_classes), np.float32)
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, columns = min(step, height - top), min(step, width - left)
            seen = mirrored(image, top, left, geometry.seen(rows), geometry.seen(columns), geometry.margin)
            answer = probabilities(model, seen if prepare is None else prepare(seen))
            at = (answer.shape[0] - seen.shape[0]) // 2 + geometry.margin  # 0 where unpadded
            probability[top : top + rows, left : left + columns] = answer[at : at + rows, at : at + columns]
    return probability


def mirrored(image: np.ndarray, top: int, left: int, height: int, width: int, margin: int) -> np.ndarray:
    """The piece (height, width, …) of an image that begins `margin` pixels above and left of (top, left)."""
    rows, columns = _mirror(top - margin, height, image.shape[0]), _mirror(left - margin, width, image.shape[1])
    return image[rows[:, None], columns]


def _mirror(first: int, count: int, size: int) -> np.ndarray:
    """Indices of `count` places from the first on: … 2 1 0 1 2 … size−1 size−2 …, however far outside."""
    period = max(1, 2 * (size - 1))
    at = np.arange(first, first + count) % period
    return np.minimum(at, period - at)


def probabilities(model: UNet2015, piece: np.ndarray) -> np.ndarray:
    """The network's own answer: (h, w, channels) → (h', w', classes), with softmax."""
    with no_grad():
        logits = model(Tensor(model.place(piece[None]))).data[0]
    e = array_module(logits).exp(logits - logits.max(-1, keepdims=True))
    return to_numpy(e / e.sum(-1, keepdims=True))
