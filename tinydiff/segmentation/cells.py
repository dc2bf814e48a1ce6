"""From probabilities to numbered cells: what touches is parted at its waist."""

import numpy as np
from scipy import ndimage

LEAST = 16  # pixels: smaller pieces are noise
LEVEL = 0.5  # pixels of distance that one step of the watershed takes
LEAST_RISE = 1e-6  # pixels that a hill of the water is higher than its surroundings, at least
WAIST = 0.75  # pixels by which a piece must narrow between two cells, in distance to its border


def find_cells(probability: np.ndarray, threshold: float = 0.5, least: int = LEAST, waist: float = WAIST) -> np.ndarray:
    """Numbered cells, int32 (H, W), from the probability (H, W) that a pixel is in one.

    Each connected piece of pixels above the threshold is one cell, or several: as many as its distance to the border
    has h-maxima, peaks that are `waist` higher than the pass to the next one.  From there they grow until they meet.
    """
    pieces, _ = ndimage.label(probability > threshold)
    cells = np.zeros(pieces.shape, np.int32)
    count = 0
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        piece = ndimage.binary_fill_holes(pieces[box] == number)
        if np.count_nonzero(piece) < least:
            continue
        parts = part_at_waists(piece, waist)
        cells[box][piece] = parts[piece] + count
        count += parts.max()
    return cells


def part_at_waists(piece: np.ndarray, waist: float) -> np.ndarray:
    """A piece, bool (h, w), as numbered parts, int32, 0 outside of it."""
    room = np.pad(piece, 1)  # beyond the box there is background, or the image's border
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(room), 1.0) * room
    seeds, count = ndimage.label(h_maxima(depth, waist), np.ones((3, 3)))
    if count < 2:
        return piece.astype(np.int32)
    return watershed(seeds, depth)[1:-1, 1:-1]


def watershed(seeds: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Let numbered seeds (h, w) grow into all that is deeper than 0, the deepest pixels first: int32 (h, w).

    So they meet where it is narrowest.  (Vincent & Soille 1991)
    """
    parts = seeds.astype(np.int32)
    for level in np.arange(depth.max(), -LEVEL, -LEVEL):
        allowed = depth > max(level, 0)
        while True:
            reached = np.where(allowed & (parts == 0), ndimage.maximum_filter(parts, 3), 0)
            if not reached.any():
                break
            parts += reached
    return parts


def h_maxima(depth: np.ndarray, waist: float) -> np.ndarray:
    """The tops of all hills that rise `waist` above the pass to the next higher one, bool (h, w); an island for each.

    Water from `waist` below the surface rises as far as the surface lets it.  Then its own hills are the h-maxima: of
    tops that no pass parts deeply enough, equal ones too, it makes a single one.  (Soille 2003, Morphological Image
    Analysis)
    """
    water = flooded(depth - waist, depth)
    return water - flooded(water - LEAST_RISE, water) > LEAST_RISE / 2


def flooded(water: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """How far water rises under a surface, spreading to all sides: reconstruction by dilation."""
    while True:
        risen = np.minimum(ndimage.maximum_filter(water, 3), surface)
        if np.array_equal(risen, water):
            return water
        water = risen
