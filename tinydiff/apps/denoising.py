"""Noise out of real images, by the network that makes images out of noise.

An image in [−1, 1] with noise of standard deviation σ is a step of the forward process once it is scaled: x_t = √ᾱ·y
with ᾱ = 1/(1 + σ²).  From there one can go straight to the expected image x̂0, which has the least squared error, or in
many small steps to one possible image, sharper and further off.  (Ho 2020, arXiv:2006.11239; Kawar 2021,
arXiv:2101.09864 for the difference)
"""

from functools import partial
from pathlib import Path

import numpy as np

from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.device import to_numpy
from tinydiff.diffusion.prediction import to_x0_and_noise
from tinydiff.diffusion.samplers import Options, ddpm_step, sample
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import PixelSpace
from tinydiff.pipelines.text_to_image import TextToImage, load
from tinydiff.weights import shipped_weights

GREY_LEVELS = 127.5  # in a step of 1 on the scale from −1 to 1


class ImageDenoiser:
    """A diffusion model of pixels as a denoiser of images; InputError where it works on latents."""

    def __init__(self, pipe: TextToImage) -> None:
        if not isinstance(pipe.autoencoder, PixelSpace):
            raise InputError("denoise: the weights work on latents, expected those of pixels (train --preset pixels)")
        self.pipe = pipe

    def __repr__(self) -> str:
        parameters = sum(p.size for p in self.pipe.denoiser.parameters())
        lowest, size = _levels(self.pipe)[0], self.pipe.size
        return f"ImageDenoiser({size}×{size} windows, noise from {lowest:.1f} grey levels, {parameters:,} parameters)"

    def to(self, device: str) -> "ImageDenoiser":
        """Move the network to "cpu" or "cuda"."""
        self.pipe.to(device)
        return self

    def denoise(
        self, images: np.ndarray, sigma: float | None = None, steps: int | None = None, seed: int = 0
    ) -> np.ndarray:
        """Images of any size without their noise, (H, W, 3) or (N, H, W, 3): uint8, or floats in [−1, 1] but for it.

        sigma: the noise's standard deviation, in grey levels of 255; None estimates it from each image.  steps: None
        goes straight to the expected image, a number that many steps down from the noise's level, with fresh noise from
        `seed`.  Raises InputError for other shapes and types, and where sigma is not above 0.
        """
        known = images.dtype == np.uint8 or images.dtype.kind == "f"
        if images.ndim not in (3, 4) or images.shape[-1] != 3 or 0 in images.shape or not known:
            expected = "uint8 or floats, (H, W, 3) or (N, H, W, 3), none empty"
            raise InputError(f"denoise: images are {images.dtype} {images.shape}, expected {expected}")
        if sigma is not None and not (np.isfinite(sigma) and sigma > 0):
            raise InputError(f"denoise: sigma must be above 0; got {sigma}")
        if images.ndim == 3:
            return self.denoise(images[None], sigma, steps, seed)[0]
        if sigma is None:
            return np.stack([self.denoise(image, estimated_sigma(image), steps, seed) for image in images])
        if images.dtype.kind == "u":
            return as_pixels(self._denoised(as_floats(images), sigma, steps, seed))
        return self._denoised(images.astype(np.float32), sigma, steps, seed)

    def _denoised(self, y: np.ndarray, sigma: float, steps: int | None, seed: int) -> np.ndarray:
        """Of float32 (N, H, W, 3), whose clean images lie in [−1, 1]."""
        pipe = self.pipe
        if y.shape[1:3] != (pipe.size, pipe.size):
            return np.stack([self._in_windows(image, sigma, steps, seed) for image in y])
        level = nearest_timestep(pipe, sigma)
        alpha_bar = float(pipe.schedule.alpha_bar[level])
        rng = np.random.default_rng(seed)
        cleaned, batch = [], pipe.settings.batch
        for start in range(0, len(y), batch):
            x = pipe.denoiser.place(y[start : start + batch] * np.float32(alpha_bar**0.5))
            predict = partial(pipe.predict, text=pipe._unconditional(len(x)))
            if steps is None:
                x0 = to_x0_and_noise(predict(x, level), x, alpha_bar, pipe.prediction_type)[0]
            else:
                count = min(steps, level + 1)
                options = Options(clip=pipe.autoencoder.clip, last=level)
                x0 = sample(ddpm_step, predict, x, pipe.schedule, count, rng, pipe.prediction_type, options)
            cleaned.append(to_numpy(x0).clip(-1, 1))
        return np.concatenate(cleaned)

    def _in_windows(self, image: np.ndarray, sigma: float, steps: int | None, seed: int) -> np.ndarray:
        """One image (H, W, 3) of any size: windows of the network's size, half over each other, faded into another."""
        size, (height, width) = self.pipe.size, image.shape[:2]
        stride = size // 2
        rows, columns = (-(-side // stride) * stride + size for side in (height, width))
        padded = np.pad(image, ((stride, rows - height), (stride, columns - width), (0, 0)), mode="symmetric")
        places = [(i, j) for i in range(0, rows, stride) for j in range(0, columns, stride)]
        windows = np.stack([padded[i : i + size, j : j + size] for i, j in places])
        fade = np.sin((np.arange(size) + 0.5) * np.pi / size) ** 2  # the next window's is cos²: together 1
        weight = (fade[:, None] * fade)[..., None]
        total = np.zeros_like(padded, dtype=np.float64)
        for (i, j), window in zip(places, self._denoised(windows, sigma, steps, seed), strict=True):
            total[i : i + size, j : j + size] += weight * window
        return total[stride : stride + height, stride : stride + width].astype(np.float32)


def load_denoiser(folder: str | Path | None = None) -> ImageDenoiser:
    """What takes noise out of images, with the shipped weights or those of a run of `train --preset pixels`.

        clean = tinydiff.load_denoiser().denoise(noisy, sigma=25)  # uint8 (H, W, 3) or (N, H, W, 3) → the same

    Raises InputError for files that are missing or damaged, and for weights that work on latents.
    """
    return ImageDenoiser(load(shipped_weights() / "pixels" if folder is None else folder))


def nearest_timestep(pipe: TextToImage, sigma: float) -> int:
    """The schedule's timestep whose noise is nearest to sigma, in grey levels."""
    return int(abs(np.log(_levels(pipe) / sigma)).argmin())


def _levels(pipe: TextToImage) -> np.ndarray:
    """The noise of each timestep, in grey levels."""
    alpha_bar = pipe.schedule.alpha_bar
    with np.errstate(divide="ignore"):  # ∞ at the end of a schedule that ends in noise alone
        return np.sqrt((1 - alpha_bar) / alpha_bar) * GREY_LEVELS


def estimated_sigma(image: np.ndarray) -> float:
    """The noise's standard deviation in an image (H, W) or (H, W, 3), in grey levels, and 1 where it is less.

    image: uint8, or floats that reach from −1 to 1.  The finest diagonal details are nearly all noise:
    σ = median |d| / 0.6745 with d = (a − b − c + e)/2 of each 2×2 pixels.  Where more than half of an image is flat and
    clipped (white stays white), it finds too little.  Raises InputError for less than 2×2 pixels.
    (Donoho & Johnstone 1994)
    """
    if min(image.shape[:2]) < 2:
        raise InputError(f"denoise: the noise of {image.shape[0]}×{image.shape[1]} pixels cannot be estimated; give it")
    x = image.astype(np.float64) * (GREY_LEVELS if image.dtype.kind == "f" else 1)
    x = x[: len(x) // 2 * 2, : x.shape[1] // 2 * 2]
    details = (x[::2, ::2] - x[1::2, ::2] - x[::2, 1::2] + x[1::2, 1::2]) / 2
    return max(1.0, float(np.median(abs(details)) / 0.6745))
