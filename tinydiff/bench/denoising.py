"""Denoising by diffusion against non-local means, total variation and wavelets: `python -m tinydiff.bench.denoising`.

Test pictures of garments with Gaussian noise of three levels, which every method is told.  The classical ones are
scikit-image's (`pip install "tinydiff[test]"`), each with the parameter that was best on training pictures.  Prints
PSNR and SSIM, and writes denoising.json and denoising.png.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

import tinydiff
from tinydiff import viz
from tinydiff.apps.denoising import denoise
from tinydiff.cli.types import Parser, at_least, existing_folder, folder_to_make
from tinydiff.datasets import captioned_fashion
from tinydiff.errors import InputError
from tinydiff.files import written_whole
from tinydiff.weights import shipped

SIGMAS = (25, 50, 75)  # grey levels of 255
CHOSEN_ON = 24  # training pictures
SMALL_STEPS = 50
SHOWN = 50  # the level, and
PICTURES = 4  # how many test pictures the figure shows

Method = Callable[[np.ndarray], np.ndarray]  # noisy pictures (N, H, W, 3) in [0, 255] → clean ones


@dataclass(frozen=True)
class Row:
    """One method at one level: means over the pictures."""

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
        raise InputError("bench.denoising needs scikit-image and PyWavelets: pip install 'tinydiff[test]'") from None
    level = sigma / 255

    def of_each(clean: Callable[..., np.ndarray], **options: object) -> Method:
        def method(noisy: np.ndarray) -> np.ndarray:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the level that wavelets have at this size
                return np.stack([255 * clean(image / 255, channel_axis=-1, **options) for image in noisy]).clip(0, 255)

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
    return clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape).astype(np.float32)


def psnr(found: np.ndarray, clean: np.ndarray) -> float:
    """The mean over pictures of their PSNR, in dB, of floats in [0, 255]."""
    return float(np.mean(10 * np.log10(255**2 / np.mean((found - clean) ** 2, axis=(1, 2, 3)))))


def ssim(found: np.ndarray, clean: np.ndarray) -> float:
    """The mean over pictures of scikit-image's structural similarity.  (Wang 2004)"""
    from skimage.metrics import structural_similarity

    pairs = zip(found, clean, strict=True)
    return float(np.mean([structural_similarity(a, b, data_range=255, channel_axis=-1) for a, b in pairs]))


def compare(count: int, weights: Path | None = None) -> Iterator[tuple[Row, np.ndarray]]:
    """Each method at each level on `count` test pictures, with what it made of them."""
    pipe = tinydiff.load(weights or shipped() / "pixels")
    clean = captioned_fashion("test").images[:count].astype(np.float32)
    chosen_on = captioned_fashion("train").images[:CHOSEN_ON].astype(np.float32)
    for sigma in SIGMAS:
        y, trial = noisy(clean, sigma, 0), noisy(chosen_on, sigma, 1)
        best = {
            name: max(methods, key=lambda method: psnr(method(trial), chosen_on))
            for name, methods in classical(sigma).items()
        }
        ours: dict[str, Method] = {
            "diffusion, one step": partial(denoise, pipe, sigma=sigma),
            f"diffusion, {SMALL_STEPS} small steps": partial(denoise, pipe, sigma=sigma, steps=SMALL_STEPS),
        }
        for name, method in {"noisy": lambda y: y, **best, **ours}.items():
            found = method(y).astype(np.float32)
            yield Row(sigma, name, psnr(found, clean), ssim(found, clean)), found


def stacked(images: np.ndarray, gap: int = 2) -> np.ndarray:
    """Pictures (N, H, W, 3) one below the other, with white between them."""
    padded = np.pad(images, ((0, 0), (0, gap), (0, 0), (0, 0)), constant_values=255)
    return padded.reshape(-1, *images.shape[2:])[:-gap]


def main() -> int:
    parser = Parser(prog="python -m tinydiff.bench.denoising", description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=at_least(PICTURES), default=200, help="test pictures")
    parser.add_argument("--weights", type=existing_folder, metavar="DIR", help="a run of --preset pixels; else shipped")
    parser.add_argument("-o", "--output", type=folder_to_make, default="runs/denoising", metavar="DIR")
    args = parser.parse_args()
    rows, panels, captions = [], [], []
    try:
        for row, found in compare(args.n, args.weights):
            print(f"σ {row.sigma:3}   {row.method:<28} {row.psnr:5.2f} dB   SSIM {row.ssim:.3f}", flush=True)
            rows.append(row)
            if row.sigma == SHOWN:
                panels.append(found[:PICTURES].clip(0, 255).astype(np.uint8))
                captions.append(f"{row.method}: {row.psnr:.1f} dB")
    except InputError as error:
        print(f"tinydiff: {error}", file=sys.stderr)
        return 2
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    clean = captioned_fashion("test").images[:PICTURES]
    columns = np.stack([stacked(part) for part in (clean, *panels)])
    viz.save_grid(columns, out / "denoising.png", ["the truth", *captions], columns=len(columns), scale=3)
    with written_whole(out / "denoising.json") as beside:
        beside.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    print(f"{out}: denoising.png, denoising.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
