"""Nuclei under the microscope: one real image with its mask, and a simulator that never runs out."""

import numpy as np
from scipy import ndimage

from tinydiff.apps.data.image_files import Pair, read_pair
from tinydiff.files import shipped


def load_nuclei(part: str = "all") -> Pair:
    """The shipped image of fluorescent nuclei, uint8 (512, 512), and its mask, int32, a number for each nucleus.

    part: "left" and "right" are its halves, (512, 256) each: one to learn from, the other to measure on.
    (2018 Data Science Bowl, BBBC038; Caicedo 2019, Nature Methods 16, 1247)
    """
    folder = shipped("nuclei")
    image, mask = read_pair(folder / "image.png", folder / "mask.png")
    half = image.shape[1] // 2
    columns = {"all": slice(None), "left": slice(None, half), "right": slice(half, None)}[part]
    return image[:, columns], mask[:, columns]


def simulate_nuclei(
    rng: np.random.Generator,
    size: tuple[int, int] = (256, 256),
    density: float = 0.2,
    haze: float = 0.0,
    exposures: float = 1.0,
) -> Pair:
    """An image as a microscope would see it, uint8 (H, W), and its true mask, int32 (H, W).

    Ellipses, some of them touching or across each other, each with its own brightness and texture; then the optics'
    blur, uneven light, and the noise of counting photons.  density: the share of the image that nuclei cover, 0 for
    none.  haze: how much the light from out of focus varies (a nucleus has about 0.4).  exposures: how many are
    averaged, each of which has the whole noise.
    """
    light = np.zeros(size)
    mask = np.zeros(size, np.int32)
    texture = ndimage.gaussian_filter(rng.standard_normal(size), 3)
    texture = 1 + 0.15 * texture / texture.std()
    number, centre = 0, rng.uniform(0, 1, 2) * size
    while np.count_nonzero(mask) < density * mask.size:
        # Some lie beside the one before, so that many touch.
        beside = rng.random() < 0.4
        centre = centre + rng.normal(0, 16, 2) if beside else rng.uniform(0, 1, 2) * size
        dividing = rng.random() < 0.06  # small and bright
        radii = rng.uniform(3, 6, 2) if dividing else rng.uniform(8, 14) * np.array([1, rng.uniform(0.5, 0.95)])
        inside = _ellipse(size, centre, radii, rng.uniform(0, np.pi))
        if inside[0].size < 20 or np.count_nonzero(mask[inside]) > 0.25 * inside[0].size:
            continue  # no nucleus lies outside, or under another one
        number += 1
        mask[inside] = number
        light[inside] += 3 * rng.uniform(0.5, 1) if dividing else rng.lognormal(-1, 0.5)
    light = ndimage.gaussian_filter(light * texture, rng.uniform(0.8, 1.6))
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / max(size) - 0.5
    slope = rng.normal(0, 0.15, 2)
    light = (light + 0.3 * ndimage.gaussian_filter(light, 12)) * (1 + slope[0] * y + slope[1] * x)
    if haze:
        blurred = ndimage.gaussian_filter(
            rng.standard_normal(size), np.exp(rng.uniform(np.log(2), np.log(max(size) / 3)))
        )
        light += haze * (blurred - blurred.min()) / blurred.std()
    counts = rng.poisson((light + rng.uniform(0.2, 0.6)) * rng.uniform(30, 80) * exposures)
    grey = (counts + np.sqrt(exposures) * rng.normal(0, 2, size)) / exposures
    return np.minimum(grey, 255).clip(0).astype(np.uint8), mask


def _ellipse(size: tuple[int, int], centre: np.ndarray, radii: np.ndarray, angle: float) -> tuple[np.ndarray, ...]:
    """The pixels of an ellipse, as indices."""
    radius = radii.max() + 1
    top, left = np.maximum(centre - radius, 0).astype(int)
    bottom, right = np.minimum(centre + radius + 1, size).astype(int)
    y, x = np.mgrid[top : max(top, bottom), left : max(left, right)]
    dy, dx = y - centre[0], x - centre[1]
    along, across = np.cos(angle) * dy + np.sin(angle) * dx, np.cos(angle) * dx - np.sin(angle) * dy
    inside = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return y[inside], x[inside]
