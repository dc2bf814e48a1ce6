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
BLOCK = 3  # side of the blocks that noise and sparse cells are measured on, in pixels: small beside a cell
ABOVE_NOISE = 6  # standard deviations of blocks without a cell that one with a cell must be brighter
LEAST_RANGE = 8  # standard deviations of a pixel's noise between low and high


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
        parameters = sum(p.size for p in self.model.parameters())
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

    with the whole image's `levels`: cameras differ in offset and gain, and under the root faint cells beside bright
    ones are seen too.  Grey is repeated in every channel.  Raises InputError for another shape, no pixels, and values
    that are no real numbers, not finite or NaN.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != channels) or not image.size:
        raise InputError(f"segment: the image is {image.shape}, expected (H, W) or (H, W, {channels})")
    if image.dtype.kind not in "uif":
        raise InputError(f"segment: the image is of {image.dtype}, expected whole numbers or floats")
    if bad := image.size - np.count_nonzero(np.isfinite(image)):
        raise InputError(f"segment: {bad:,} of the image's {image.size:,} values are NaN or infinite, expected none")
    low, high = levels(image)
    scale = np.float32(1 / (high - low) if high > low else 1)

    def prepare(piece: np.ndarray) -> np.ndarray:
        x = 2 * np.sqrt(np.maximum((piece.astype(np.float32) - np.float32(low)) * scale, 0)) - 1
        return x if x.ndim == 3 else np.repeat(x[:, :, None], channels, 2)

    return prepare


def levels(image: np.ndarray) -> tuple[float, float]:
    """The values of an image (H, W, …) that become −1 and 1: low, and high.

    A hundredth of the pixels lie below low, and above high where cells cover enough of the image.  Where they are few,
    that would be noise, so high is at least what three quarters of the blocks that stand out of the noise stay below,
    and never nearer to low than some standard deviations of the noise: an empty image must not look like a full one.
    """
    every = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLE)))
    low, high = np.percentile(image[::every, ::every], (1, 99))
    rows, columns = (side // BLOCK for side in image.shape[:2])
    if min(rows, columns) > 1:
        whole = image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, -1)
        blocks = whole.mean((1, 3), dtype=np.float64)
        # The median difference of neighbours, as the standard deviation of normal noise; rounding has its own noise.
        noise = np.median(np.abs(np.diff(blocks, axis=1))) / (0.6745 * np.sqrt(2))
        standing_out = blocks[blocks > np.median(blocks) + ABOVE_NOISE * noise]
        pixel_noise = max(BLOCK * noise, 0.3 if image.dtype.kind in "ui" else 0.0)
        high = max(high, low + LEAST_RANGE * pixel_noise, np.percentile(standing_out, 75) if standing_out.size else low)
    return float(low), float(high)


def is_bright_and_coloured(image: np.ndarray) -> bool:
    """Whether an image looks like stained tissue or a photograph: fluorescence shows its colours on a dark ground.

    uint8 (H, W, 3) whose median pixel is brighter than 0.3, and of whose pixels a fifth have channels that differ by
    more than 0.15.  Of 11 photographs and slides in scikit-image's data only Hubble's black sky is none; simulated
    nuclei in blue are none either, whether they cover 20 % of the image or 70 %.
    """
    if image.ndim == 2:
        return False
    step = max(1, max(image.shape) // 1024)
    brightest = image[::step, ::step].max(-1)
    coloured = np.mean(brightest - image[::step, ::step].min(-1) > 0.15 * 255)
    return bool(coloured > 0.2 and np.median(brightest) > 0.3 * 255)
