"""What was found, to look at: outlines on the image, and the errors where the truth is known."""

import numpy as np
from PIL import Image
from scipy import ndimage

from tinydiff.apps.grid import grid
from tinydiff.segmentation.segmenter import normaliser

# Colours that the colour-blind can tell apart.  (Okabe & Ito 2008)
OUTLINE, MISSED, TOO_MUCH = (240, 228, 66), (213, 94, 0), (0, 114, 178)
RIGHT, NOTHING = (225, 225, 225), (0, 0, 0)


def shown(image: np.ndarray) -> np.ndarray:
    """An image of any depth (H, W) or (H, W, 3) as uint8 (H, W, 3): as the network sees it, faint cells too."""
    x = normaliser(image, 1 if image.ndim == 2 else 3)(image)
    grey = np.clip((x + 1) * 100, 0, 255).astype(np.uint8)
    return np.repeat(grey, 3, 2) if grey.shape[2] == 1 else grey


def overlay(image: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The image with a line along the inside of each cell: uint8 (H, W, 3)."""
    page = shown(image)
    # A pixel is on the line if any of its neighbours has another number.
    edge = (cells > 0) & (ndimage.minimum_filter(cells, 3) != ndimage.maximum_filter(cells, 3))
    page[edge] = OUTLINE
    return page


def errors(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Light where both say cell, black where neither does, orange where it was missed, blue where there is none."""
    found, true = mask != 0, truth != 0
    colours = np.array([[NOTHING, MISSED], [TOO_MUCH, RIGHT]], np.uint8)
    return colours[found.astype(int), true.astype(int)]


def compared(image: np.ndarray, truth: np.ndarray, cells: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The image, the true cells, those that were found, and the errors, side by side."""
    missed, too_much = np.mean((truth != 0) & (mask == 0)), np.mean((truth == 0) & (mask != 0))
    panels = [shown(image), overlay(image, truth), overlay(image, cells), errors(mask, truth)]
    captions = [
        "the image",
        f"the truth: {np.count_nonzero(np.unique(truth))} cells",
        f"found: {cells.max()} cells",
        f"errors: {100 * missed:.1f} % missed (orange), {100 * too_much:.1f} % too much (blue)",
    ]
    return grid(np.stack(panels), captions, columns=4, scale=1)
