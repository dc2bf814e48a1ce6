"""What the judge says: are the pictures what the prompts asked for, and how good is the autoencoder under them?

The judge is a classifier that tinydiff trained on real pictures.  The shipped one is always used, and it stays as it
is, so that figures of different models can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tinydiff.autograd import Tensor, no_grad
from tinydiff.datasets import COLOURS, GARMENTS, UNSEEN, captioned_fashion
from tinydiff.datasets.captions import BACKGROUNDS, captions
from tinydiff.errors import InputError
from tinydiff.metrics import frechet_distance, psnr
from tinydiff.models.autoencoder import Autoencoder, PixelSpace
from tinydiff.models.judge import Judge
from tinydiff.pipelines import TextToImage, as_pixels, load
from tinydiff.training.parts import as_floats
from tinydiff.weights import load_autoencoder, load_judge, shipped

BATCH = 256


def evaluate(
    weights: str | Path | None = None,
    n: int = 2000,
    steps: int = 25,
    guidance: float = 3.0,
    seed: int = 0,
    data: str | Path | None = None,
) -> dict[str, Any]:
    """Draw `n` pictures of seen garment-colour pairs and n/4 of unseen ones, and let the judge name what they show.

    Returns the shares of right names, the Fréchet distance of the pictures and of the autoencoder's reconstructions
    of test pictures, each over the distance of real pictures to real pictures, and PSNR.
    Raises InputError as `load` and `captioned_fashion` do.
    """
    if n < 1:
        raise InputError(f"evaluate: n must be 1 or more, not {n}")
    pipe, judge = load(weights), load_judge(shipped())
    pipe.schedule.timesteps(steps)  # a bad number of steps is refused before anything is drawn
    test = captioned_fashion("test", data)
    truth = np.stack([test.garment, test.colour, test.background])
    figures: dict[str, Any] = {
        "data": test.source,
        "judge on real test pictures": _shares(judge.classify, test.images, truth),
    }

    samples, total = [], n + max(1, n // 4)
    with tqdm(total=total, desc="drawing", unit="picture") as bar:
        for name, count, unseen in (("seen pairs", n, False), ("unseen pairs", total - n, True)):
            images, asked = _draw(pipe, count, unseen, steps, guidance, seed, bar)
            figures[name] = _shares(judge.classify, images, asked)
            samples.append(images)

    # Fréchet distances: all sets of one size, and real against real beside them
    seen = np.array([pair not in UNSEEN for pair in zip(test.garment, test.colour, strict=True)])
    size = min(n, int(seen.sum()) // 2)
    if size > 1:
        one, other = _halves(test.images[seen], size, seed)
        base = _distance(judge, one, other)
        rebuilt = _reconstructed(pipe.autoencoder, one)
        figures |= {
            "Fréchet: pictures in each set": size,
            "Fréchet: real to real": base,
            "Fréchet ratio: drawn": _distance(judge, samples[0][:size], other) / base,
            "Fréchet ratio: rebuilt": _distance(judge, rebuilt, other) / base,
        }
    figures["PSNR of rebuilt pictures, dB"] = psnr(test.images, _reconstructed(pipe.autoencoder, test.images))
    return figures


def autoencoder_figures(folder: str | Path, data: str | Path | None = None, seed: int = 0) -> dict[str, float]:
    """PSNR and Fréchet ratio of an autoencoder alone, on the test pictures: to choose between latent sizes."""
    autoencoder, judge = load_autoencoder(Path(folder)), load_judge(shipped())
    images = captioned_fashion("test", data).images
    one, other = _halves(images, len(images) // 2, seed)
    ratio = _distance(judge, _reconstructed(autoencoder, one), other) / _distance(judge, one, other)
    return {"PSNR": psnr(images, _reconstructed(autoencoder, images)), "Fréchet ratio": ratio}


def _draw(
    pipe: TextToImage, count: int, unseen: bool, steps: int, guidance: float, seed: int, bar: tqdm
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of prompts drawn from the grammar, and what was asked for: (3, count) garment, colour, background."""
    rng = np.random.default_rng([seed, int(unseen)])
    pairs = [(g, c) for g in range(len(GARMENTS)) for c in range(len(COLOURS)) if ((g, c) in UNSEEN) == unseen]
    garment, colour = np.array(pairs)[rng.integers(0, len(pairs), count)].T
    background = rng.integers(0, len(BACKGROUNDS), count)
    prompts = captions(garment, colour, background, rng)
    parts = []
    for start in range(0, count, BATCH):
        part = prompts[start : start + BATCH]
        own_seed = int(rng.integers(2**31))
        parts.append(pipe.generate(part, steps=steps, guidance=guidance, seed=own_seed))
        bar.update(len(part))
    return np.concatenate(parts), np.stack([garment, colour, background])


def _shares(classify: Callable[[np.ndarray], tuple], images: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How often the judge names what is asked for: each of the three, and garment and colour together."""
    named = np.concatenate([np.stack(classify(as_floats(part))) for part in _batches(images)], axis=1)  # (3, N)
    right = named == truth
    shares = dict(zip(("garment", "colour", "background"), right.mean(1).tolist(), strict=True))
    return {**shares, "garment and colour": float((right[0] & right[1]).mean())}


def _distance(judge: Judge, a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two sets of uint8 pictures in the judge's features."""

    def features(images: np.ndarray) -> np.ndarray:
        with no_grad():
            return np.concatenate([judge.features(Tensor(as_floats(part))).data for part in _batches(images)])

    return frechet_distance(features(a), features(b))


def _reconstructed(autoencoder: Autoencoder | PixelSpace, images: np.ndarray) -> np.ndarray:
    """Pictures through the latent space and back."""
    return np.concatenate(
        [as_pixels(autoencoder.decode(autoencoder.encode(as_floats(part)))) for part in _batches(images)]
    )


def _halves(images: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of `size` pictures, drawn at random, that share none."""
    order = np.random.default_rng(seed).permutation(len(images))
    return images[order[:size]], images[order[size : 2 * size]]


def _batches(images: np.ndarray) -> list[np.ndarray]:
    return [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
