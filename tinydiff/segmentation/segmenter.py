"""An image in, its cells out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinydiff.errors import InputError
from tinydiff.models.unet2015 import UNet2015, UNet2015Config
from tinydiff.segmentation.cells import find_cells
from tinydiff.segmentation.tiles import TILE, predict
from tinydiff.weights import load_model, shipped_weights

SAMPLE = 1 << 20  # pixels that the levels of a large image are measured on


@dataclass(frozen=True)
class Segmentation:
    """What was found in an image of (H, W) pixels."""

    probability: np.ndarray  # float32 (H, W): of being in a cell
    cells: np.ndarray  # int32 (H, W): 0 outside, and a number for each cell

    @property
    def count(self) -> int:
        return int(self.cells.max(initial=0))

    @property
    def mask(self) -> np.ndarray:
        """bool (H, W): in a cell or not."""
        return self.probability > 0.5


class Segmenter:
    """The U-Net of 2015 with all that stands before and after it."""

    def __init__(self, model: UNet2015) -> None:
        if (known := model.config.num_classes) != 2:
            raise InputError(f"Segmenter: the model knows {known} classes, expected cell and background")
        self.model = model

    def __repr__(self) -> str:
        parameters = sum(p.data.size for p in self.model.parameters())
        widths = "/".join(map(str, self.model.config.block_out_channels))
        return f"Segmenter(images of any size, a U-Net of {widths} channels, {parameters:,} parameters)"

    def to(self, device: str) -> "Segmenter":
        """Move the model to "cpu" or "cuda"."""
        self.model.to(device)
        return self

    def segment(self, image: np.ndarray, tile: int = TILE) -> Segmentation:
        """Find the cells of an image (H, W) or (H, W, 3) of any depth; it is worked on in tiles of that many pixels.

        Raises InputError where a side is not longer than the receptive radius.
        """
        probability = predict(self.model, image, tile, normaliser(image, self.model.config.in_channels))
        inside = np.ascontiguousarray(probability[:, :, 1])
        return Segmentation(inside, find_cells(inside))


def load_segmenter(folder: str | Path | None = None) -> Segmenter:
    """What finds cells, from a folder that `train segmentation` wrote, or with the shipped weights."""
    folder = shipped_weights() if folder is None else Path(folder)
    return Segmenter(load_model(folder, "segmentation", UNet2015, UNet2015Config))


def normaliser(image: np.ndarray, channels: int = 3) -> Callable[[np.ndarray], np.ndarray]:
    """What makes any piece of this image (h, w) or (h, w, 3) fit for the network: (h, w, channels) float32.

        x = 2·√((value − low) / (high − low)) − 1

    low and high being the values that a hundredth of the pixels lie below and above: cameras differ in offset and
    gain, and under the root faint cells beside bright ones are seen too.  Grey is repeated in every channel.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != channels):
        raise InputError(f"segment: the image is {image.shape}, expected (H, W) or (H, W, {channels})")
    if not np.isfinite(image).all():
        raise InputError("segment: the image has values that are not finite")
    every = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLE)))
    low, high = np.percentile(image[::every, ::every], (1, 99))
    scale = np.float32(1 / (high - low) if high > low else 1)

    def prepare(piece: np.ndarray) -> np.ndarray:
        x = 2 * np.sqrt(np.maximum((piece.astype(np.float32) - np.float32(low)) * scale, 0)) - 1
        return x if x.ndim == 3 else np.repeat(x[:, :, None], channels, 2)

    return prepare
