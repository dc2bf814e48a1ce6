"""What the network should learn at each pixel, and how much it matters: most between cells that nearly touch."""

import numpy as np
from scipy import ndimage


def classes(labels: np.ndarray) -> np.ndarray:
    """The class of each pixel, 1 in a cell and 0 outside, int64 (H, W), from numbered cells (H, W).

    A line of background parts cells that touch: of two neighbours (right or below) with different numbers, the first.
    """
    inside = labels > 0
    part = inside.copy()
    part[:, :-1] &= (labels[:, :-1] == labels[:, 1:]) | ~inside[:, 1:]
    part[:-1] &= (labels[:-1] == labels[1:]) | ~inside[1:]
    return part.astype(np.int64)


def border_weights(labels: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """Each pixel's weight in the loss, float32 (H, W): heavy on the background between two cells.

        w = 1 + w0·exp(−(d1 + d2)² / (2·σ²))   outside the cells, and on the lines that part them;   w = 1 inside

    with d1 and d2 the distances in pixels to the nearest and the second-nearest cell.  Where both are so far that the
    exponential is below 1e-6, w is 1.  (Ronneberger 2015, arXiv:1505.04597, equation 2)
    """
    part = classes(labels)
    cells = np.where(part == 1, labels, 0)
    radius = int(np.ceil(sigma * np.sqrt(2 * np.log(1e6))))
    nearest, second = np.full((2, *labels.shape), np.inf)
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        if box is None:
            continue
        around = tuple(slice(max(0, side.start - radius), side.stop + radius) for side in box)
        distance = ndimage.distance_transform_edt(cells[around] != number)
        d1, d2 = nearest[around], second[around]  # views
        np.minimum(d2, np.maximum(d1, distance), out=d2)
        np.minimum(d1, distance, out=d1)
    border = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return (1 + np.where(part == 1, 0, border)).astype(np.float32)
