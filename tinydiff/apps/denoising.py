"""Noise out of real pictures, by the network that makes pictures out of noise.

A picture with noise of standard deviation σ, in units in which pictures reach from −1 to 1, is a step of the forward
process once it is scaled: x_t = √ᾱ·y with ᾱ = 1/(1 + σ²).  From there one can go straight to the expected picture x̂0,
which has the least squared error, or on in many small steps, which ends at one possible picture, sharper and further
off.  (Ho 2020, arXiv:2006.11239; Kawar 2021, arXiv:2101.09864 for the difference)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from tinydiff import viz
from tinydiff.apps.data.image_files import read_image
from tinydiff.autograd import Array
from tinydiff.device import to_numpy
from tinydiff.diffusion.prediction import to_x0_and_noise
from tinydiff.diffusion.samplers import Options, ddpm_step, sample
from tinydiff.errors import InputError
from tinydiff.files import stems, written_whole
from tinydiff.models.autoencoder import PixelSpace
from tinydiff.pipelines.text_to_image import BATCH, TextToImage

OVERLAP = 2  # windows that see each pixel, in each direction


def denoise(pipe: TextToImage, images: np.ndarray, sigma: float, steps: int | None = None, seed: int = 0) -> np.ndarray:
    """Pictures without their noise: floats (N, H, W, 3), noisy or not in [0, 255], to float32 in [0, 255].

    pipe: one that works on pixels.  sigma: the noise's standard deviation, in grey levels.  steps: None goes straight
    to the expected picture, a number that many steps down from the noise's level, with fresh noise from `seed`.
    Pictures of another size than the network's are worked on in windows that overlap.
    Raises InputError where shapes do not fit, sigma is not above 0, or the pipe works on latents.
    """
    if not isinstance(pipe.autoencoder, PixelSpace):
        raise InputError("denoise: the weights work on latents; weights for pixels are needed (train --preset pixels)")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape or images.dtype.kind != "f":
        raise InputError(f"denoise: images are {images.dtype} {images.shape}, expected floats (N, H, W, 3), none empty")
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"denoise: sigma must be above 0; got {sigma}")
    if images.shape[1:3] != (pipe.size, pipe.size):
        return np.stack([_in_windows(pipe, image, sigma, steps, seed) for image in images])
    level = noise_step(pipe, sigma)
    alpha_bar = float(pipe.schedule.alpha_bar[level])
    rng = np.random.default_rng(seed)
    cleaned = []
    for start in range(0, len(images), BATCH):
        y = images[start : start + BATCH].astype(np.float32) / np.float32(127.5) - 1
        x = pipe.denoiser.place(y * np.float32(alpha_bar**0.5))
        words = pipe._unconditional(len(x))

        def predict(x: Array, t: int, words: Array = words) -> Array:
            return pipe.predict(x, t, words)

        if steps is None:
            x0 = to_x0_and_noise(predict(x, level), x, alpha_bar, pipe.prediction_type)[0]
        else:
            count = min(steps, level + 1)
            options = Options(clip=pipe.clip, last=level)
            x0 = sample(ddpm_step, predict, x, pipe.schedule, count, rng, pipe.prediction_type, options)
        cleaned.append((to_numpy(x0).clip(-1, 1) + 1) * np.float32(127.5))
    return np.concatenate(cleaned)


def noise_step(pipe: TextToImage, sigma: float) -> int:
    """The schedule's step whose noise is nearest to sigma, in grey levels."""
    alpha_bar = pipe.schedule.alpha_bar
    levels = np.sqrt((1 - alpha_bar) / alpha_bar) * 127.5
    return int(abs(np.log(levels / sigma)).argmin())


def estimated_sigma(image: np.ndarray) -> float:
    """The noise's standard deviation in a picture (H, W) or (H, W, 3), in its own units.

    The finest diagonal details are nearly all noise: σ = median |d| / 0.6745 with d = (a − b − c + e)/2 of each 2×2
    pixels.  Where more than half of a picture is flat and clipped (white stays white), it finds too little.
    (Donoho & Johnstone 1994)
    """
    x = image.astype(np.float64)
    x = x[: len(x) // 2 * 2, : x.shape[1] // 2 * 2]
    details = (x[::2, ::2] - x[1::2, ::2] - x[::2, 1::2] + x[1::2, 1::2]) / 2
    return float(np.median(abs(details)) / 0.6745)


def _in_windows(pipe: TextToImage, image: np.ndarray, sigma: float, steps: int | None, seed: int) -> np.ndarray:
    """One picture (H, W, 3) of any size: windows of the network's size, half over each other, faded into each other."""
    size, (height, width) = pipe.size, image.shape[:2]
    stride = size // OVERLAP
    rows, columns = (-(-side // stride) * stride + size for side in (height, width))
    before = size // 2
    padding = ((before, rows - height - before + stride), (before, columns - width - before + stride), (0, 0))
    padded = np.pad(image, padding, mode="symmetric")
    places = [(i, j) for i in range(0, rows, stride) for j in range(0, columns, stride)]
    windows = np.stack([padded[i : i + size, j : j + size] for i, j in places])
    fade = np.sin((np.arange(size) + 0.5) * np.pi / size) ** 2  # those of all windows over a pixel sum to the same
    weight = (fade[:, None] * fade)[..., None]
    total, weights = np.zeros_like(padded, dtype=np.float64), np.zeros(padded.shape[:2] + (1,))
    for (i, j), window in zip(places, denoise(pipe, windows, sigma, steps, seed), strict=True):
        total[i : i + size, j : j + size] += weight * window
        weights[i : i + size, j : j + size] += weight
    inside = slice(before, before + height), slice(before, before + width)
    return (total[inside] / weights[inside]).astype(np.float32)


def denoise_files(
    pipe: TextToImage,
    pictures: Sequence[Path],
    out: Path,
    sigma: float | None,
    steps: int,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """For each PICTURE write PICTURE-denoised.png, the expected one, PICTURE-small-steps.png, and both beside it.

    sigma: the noise's standard deviation in grey levels; None estimates it from each picture.  Raises InputError, which
    names the file, where a picture cannot be read or has more than 8 bits, or two would write the same files.
    """
    by_stem = stems(pictures)
    for stem, path in by_stem.items():
        image = read_image(path)
        if image.dtype != np.uint8:
            raise InputError(f"{path}: a picture of {image.dtype}, expected 8 bits; scale it first")
        colour = np.repeat(image[:, :, None], 3, 2) if image.ndim == 2 else image
        level = sigma or max(1.0, estimated_sigma(image))
        one, many = (denoise(pipe, colour[None].astype(np.float32), level, n, seed)[0] for n in (None, steps))
        found = [np.rint(part).astype(np.uint8) for part in (one, many)]
        scale = max(1, 128 // max(image.shape[:2]))
        captions = [path.name, "one step: the expected picture", f"{steps} small steps: one possible picture"]
        pages = {
            f"{stem}-denoised.png": Image.fromarray(found[0]),
            f"{stem}-small-steps.png": Image.fromarray(found[1]),
            f"{stem}-compared.png": viz.grid(np.stack([colour, *found]), captions, columns=3, scale=scale),
        }
        out.mkdir(parents=True, exist_ok=True)  # only now: bad input leaves nothing
        with ExitStack() as stack:  # all of them or none
            for name, page in pages.items():
                page.save(stack.enter_context(written_whole(out / name)), format="PNG")
        how = "" if sigma else ", estimated"
        say(f"{path}: noise of {level:.1f} grey levels{how}; {', '.join(pages)} in {out}")
