"""Denoising by diffusion beside non-local means, total variation and wavelets: `python notebooks/results/denoising.py`.

Test images of garments with Gaussian noise of three levels, whose level every method is given.  The classical ones are
scikit-image's (`pip install -e ".[test]"`), each with the parameter that was best on training images.  Prints
PSNR and SSIM, and writes denoising.json and denoising.png.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import tinydiff
from studies import program, run, write_results
from tinydiff.apps.grid import save_grid
from tinydiff.cli.types import at_least, existing_folder
from tinydiff.datasets import captioned_fashion
from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.errors import InputError

SIGMAS = (25, 50, 75)  # grey levels of 255
CHOSEN_ON = 24  # training images
SMALL_STEPS = 50
SHOWN = 50  # the level, and
IMAGES = 4  # how many test images the figure shows

# Noisy images (N, H, W, 3), which are in [−1, 1] without their noise → clean ones.
Method = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class DenoisingResult:
    """One method at one level: means over the images."""

    sigma: int
    method: str
    psnr: float
    ssim: float


def classical(sigma: float) -> dict[str, list[Method]]:
    """scikit-image's three, each with the parameters that it is tried with."""
    try:
        import pywt  # noqa: F401  # scikit-image's wavelets are PyWavelets'
        from skimage import restoration
    except ImportError:
        raise InputError('denoising needs scikit-image and PyWavelets: pip install -e ".[test]"') from None
    level = sigma / 255

    def of_each(clean: Callable[..., np.ndarray], **options: object) -> Method:
        def method(noisy: np.ndarray) -> np.ndarray:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the level that wavelets have at this size
                cleaned = [clean(image / 2 + 0.5, channel_axis=-1, **options) for image in noisy]  # in [0, 1]
                return 2 * np.stack(cleaned).clip(0, 1) - 1

        return method

    means = [
        of_each(restoration.denoise_nl_means, h=share * level, sigma=level, patch_size=5, patch_distance=8)
        for share in (0.3, 0.5, 0.7, 0.9)
    ]
    variation = [of_each(restoration.denoise_tv_chambolle, weight=share * level) for share in (0.6, 0.9, 1.2, 1.6)]
    wavelets = [
        of_each(restoration.denoise_wavelet, sigma=level, method=method, convert2ycbcr=ycbcr, rescale_sigma=True)
        for method in ("BayesShrink", "VisuShrink")
        for ycbcr in (False, True)
    ]
    return {"non-local means": means, "total variation": variation, "wavelets": wavelets}


def noisy(clean: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """With Gaussian noise of `sigma` grey levels of 255."""
    noise = np.random.default_rng(seed).standard_normal(clean.shape).astype(np.float32)
    return clean + sigma / np.float32(127.5) * noise


def mean_psnr(found: np.ndarray, clean: np.ndarray) -> float:
    """The mean over images of their PSNR, in dB, of floats (N, H, W, 3) on a scale from −1 to 1."""
    return float(np.mean(10 * np.log10(2**2 / np.mean((found - clean) ** 2, axis=(1, 2, 3)))))


def ssim(found: np.ndarray, clean: np.ndarray) -> float:
    """The mean over images of scikit-image's structural similarity.  (Wang 2004)"""
    from skimage.metrics import structural_similarity

    pairs = zip(found, clean, strict=True)
    return float(np.mean([structural_similarity(a, b, data_range=2, channel_axis=-1) for a, b in pairs]))


def compare(count: int, weights: Path | None = None) -> Iterator[tuple[DenoisingResult, np.ndarray]]:
    """Each method at each level on `count` test images, with what it made of them."""
    denoiser = tinydiff.load_denoiser(weights)
    clean = as_floats(captioned_fashion("test").images[:count])
    chosen_on = as_floats(captioned_fashion("train").images[:CHOSEN_ON])
    for sigma in SIGMAS:
        y, trial = noisy(clean, sigma, 0), noisy(chosen_on, sigma, 1)
        best = {
            name: max(methods, key=lambda method: mean_psnr(method(trial), chosen_on))
            for name, methods in classical(sigma).items()
        }
        ours: dict[str, Method] = {
            "diffusion, one step": partial(denoiser.denoise, sigma=sigma),
            f"diffusion, {SMALL_STEPS} small steps": partial(denoiser.denoise, sigma=sigma, steps=SMALL_STEPS),
        }
        for name, method in {"noisy": lambda y: y, **best, **ours}.items():
            found = method(y).astype(np.float32)
            yield DenoisingResult(sigma, name, mean_psnr(found, clean), ssim(found, clean)), found


def stacked(images: np.ndarray, gap: int = 2) -> np.ndarray:
    """Images (N, H, W, 3), one below the other with white between them: uint8 (N·(H + gap) − gap, W, 3)."""
    padded = np.pad(as_pixels(images), ((0, 0), (0, gap), (0, 0), (0, 0)), constant_values=255)
    return padded.reshape(-1, *images.shape[2:])[:-gap]


def main() -> None:
    parser = program("denoising", __doc__, out="denoising")
    parser.add_argument("-n", type=at_least(IMAGES), default=200, help="test images")
    parser.add_argument("--weights", type=existing_folder, metavar="DIR", help="a run of --preset pixels; else shipped")
    args = parser.parse_args()
    results, columns, captions = [], [stacked(as_floats(captioned_fashion("test").images[:IMAGES]))], ["the truth"]
    for result, found in compare(args.n, args.weights):
        print(f"σ {result.sigma:3}   {result.method:<28} {result.psnr:5.2f} dB   SSIM {result.ssim:.3f}", flush=True)
        results.append(result)
        if result.sigma == SHOWN:
            columns.append(stacked(found[:IMAGES]))
            captions.append(f"{result.method}: {result.psnr:.1f} dB")
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    save_grid(np.stack(columns), out / "denoising.png", captions, columns=len(columns), scale=3)
    write_results(out / "denoising.json", results)
    print(f"{out}: denoising.png, denoising.json")


if __name__ == "__main__":
    sys.exit(run(main))
