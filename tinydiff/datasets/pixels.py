"""Images as numbers: uint8 0 … 255 in files and on screens, float32 −1 … 1 in networks."""

import numpy as np

from tinydiff.errors import InputError


def as_floats(images: np.ndarray) -> np.ndarray:
    """Images for a network: uint8 0 … 255 → float32 −1 … 1; floats must be finite and lie in [−1, 1] already.

    Raises InputError otherwise: images in [0, 1] or [0, 255] would train without an error, and badly.
    """
    if images.dtype == np.uint8:
        return images.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
    if images.dtype.kind != "f":
        raise InputError(f"as_floats: images must be uint8, or floats in [-1, 1]; these are {images.dtype}")
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    if not (-1 <= low and high <= 1):
        raise InputError(f"as_floats: float images must lie in [-1, 1]; these range from {low:.4g} to {high:.4g}")
    return images.astype(np.float32)


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Images in [−1, 1] → uint8, clipped.  Raises FloatingPointError for NaN, which would come out black."""
    if not np.isfinite(images).all():
        raise FloatingPointError("as_pixels: an image holds values that are not finite; are the weights damaged?")
    return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
