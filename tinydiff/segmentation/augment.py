"""More images from few: pieces cut out anywhere, flipped, turned, and bent as tissue bends."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Augmentation:
    """How much the images are changed; the defaults suit pieces of about 128 pixels."""

    elastic_sigma: float = 8.0  # standard deviation of shifts on a grid of 3×3, in pixels (the paper: 10, at 512)
    flips: bool = True  # mirrored or not, and turned by 0, 90, 180 or 270 degrees
    contrast: float = 0.25  # standard deviation of the logarithm of the factor on the grey values
    brightness: float = 0.1  # and of what is added to them
    simulated: float = 0.0  # share of the pieces that are simulated: nuclei, or none, in haze


def deformation(rng: np.random.Generator, size: int, elastic_sigma: float) -> np.ndarray:
    """A smooth shift for each pixel, (2, size, size): bicubic between shifts N(0, elastic_sigma²) on a grid of 3×3.

    (Ronneberger 2015, arXiv:1505.04597, section 3.1)
    """
    coarse = rng.normal(0, elastic_sigma, (2, 3, 3)) if elastic_sigma else np.zeros((2, 3, 3))
    return np.stack([ndimage.zoom(shift, size / 3, order=3, mode="nearest", grid_mode=True) for shift in coarse])


def cut(
    rng: np.random.Generator, image: np.ndarray, labels: np.ndarray, weights: np.ndarray, size: int, how: Augmentation
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random piece (size, size, …) of an image (H, W, C), its labels and its weights, all changed in the same way.

    The image goes on beyond its border as in a mirror.  Labels are never mixed: each pixel takes that of its nearest.
    """
    height, width = labels.shape
    middle = rng.uniform(0, 1, 2) * (max(0, height - size), max(0, width - size))
    where = np.mgrid[0:size, 0:size] + middle[:, None, None].round() + deformation(rng, size, how.elastic_sigma)

    moved = partial(ndimage.map_coordinates, coordinates=where, mode="mirror")
    piece = np.stack([moved(image[:, :, c], order=1) for c in range(image.shape[2])], -1)
    parts = [piece, moved(labels, order=0), moved(weights, order=1)]
    if how.flips:
        turns, mirrored = int(rng.integers(4)), rng.integers(2)
        parts = [np.rot90(part[::-1] if mirrored else part, turns) for part in parts]
    piece, labels, weights = parts
    factor, more = np.exp(rng.normal(0, how.contrast)), rng.normal(0, how.brightness)
    return (piece * factor + more).astype(np.float32), labels, weights
