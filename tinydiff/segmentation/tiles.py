"""Images of any size, tile by tile: tiles overlap by the receptive radius, so that no seam is left.

The image is mirrored at its border, and each tile sees all pixels that its answer depends on, which is that of the
whole image.  (Ronneberger 2015, arXiv:1505.04597, figure 2)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinydiff.autograd import Tensor, no_grad
from tinydiff.device import array_module, to_numpy
from tinydiff.errors import InputError
from tinydiff.models.unet2015 import UNet2015

TILE = 512  # pixels of the answer that are computed at once, in each direction


def predict(
    model: UNet2015, image: np.ndarray, tile: int = TILE, prepare: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """How probable each class is at each pixel: image (H, W, …) → float32 (H, W, classes).

    prepare: makes (h, w, channels) float32 of a piece of the image, so that a large one need not be prepared whole.
    Raises InputError where a side of the image is not longer than the receptive radius.
    """
    height, width = image.shape[:2]
    radius = model.receptive_radius
    if min(height, width) <= radius:
        raise InputError(
            f"the image is {height}×{width} pixels, smaller than the receptive radius: expected {radius + 1}"
        )
    step = model.total_stride * max(1, tile // model.total_stride)
    probability = np.empty((height, width, model.config.num_classes), np.float32)
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, columns = min(step, height - top), min(step, width - left)
            seen = mirrored(image, top, left, model.seen(rows), model.seen(columns), model.margin)
            piece = seen if prepare is None else prepare(seen)
            answer = probabilities(model, piece)
            at = (answer.shape[0] - seen.shape[0]) // 2 + model.margin  # 0 where unpadded
            probability[top : top + rows, left : left + columns] = answer[at : at + rows, at : at + columns]
    return probability


def mirrored(image: np.ndarray, top: int, left: int, height: int, width: int, margin: int) -> np.ndarray:
    """The piece (height, width, …) of an image that begins `margin` pixels above and left of (top, left)."""
    rows = _mirror(np.arange(top - margin, top - margin + height), image.shape[0])
    columns = _mirror(np.arange(left - margin, left - margin + width), image.shape[1])
    return image[rows[:, None], columns]


def _mirror(at: np.ndarray, size: int) -> np.ndarray:
    """… 2 1 0 1 2 … size−1 size−2 …: where each place lies, however far outside."""
    period = max(1, 2 * (size - 1))
    at = at % period
    return np.minimum(at, period - at)


def probabilities(model: UNet2015, piece: np.ndarray) -> np.ndarray:
    """The network's own answer: (h, w, channels) → (h', w', classes), with softmax."""
    with no_grad():
        logits = model(Tensor(model.place(piece[None]))).data[0]
    e = array_module(logits).exp(logits - logits.max(-1, keepdims=True))
    return to_numpy(e / e.sum(-1, keepdims=True))
