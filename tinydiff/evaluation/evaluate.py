"""What the evaluation classifier says: do images show what their prompts asked for, and how good is the autoencoder?

It is a classifier of garment, colour and background that learnt from real images.  The shipped one is always used, so
that figures of different models can be compared.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tinydiff.apps.train.classifier import classification_loss
from tinydiff.apps.train.session import fit, load_ema
from tinydiff.autograd import Tensor, no_grad
from tinydiff.datasets import COLOURS, GARMENTS, UNSEEN, CaptionedImages, captioned_fashion, load_fashion, render
from tinydiff.datasets.captions import BACKGROUNDS, captions
from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.errors import InputError
from tinydiff.evaluation.metrics import frechet_distance, nearest, precision_recall, psnr
from tinydiff.models.autoencoder import Autoencoder, PixelSpace
from tinydiff.models.classifier import Classifier, ClassifierConfig
from tinydiff.pipelines.text_to_image import TextToImage, load
from tinydiff.training.loop import Shuffle, Task
from tinydiff.training.optim import OptimConfig
from tinydiff.weights import load_classifier, shipped_weights

BATCH = 256
CLASSIFIER = OptimConfig(steps=2_000, batch=64, lr=2e-3, warmup=100, weight_decay=0.02, ema=0.995)
NEIGHBOURS = 3  # of precision and recall: how far an image's surroundings extend


def evaluate(
    weights: str | Path | None = None,
    n: int = 2000,
    steps: int = 25,
    guidance_scale: float = GUIDANCE_SCALE,
    seed: int = 0,
    data: str | Path | None = None,
    guidance_interval: tuple[float, float] = GUIDANCE_INTERVAL,
) -> dict[str, Any]:
    """Generate `n` images of seen garment-colour pairs and n/4 of unseen ones, and let the classifier name them.

    Returns the shares of right names; the Fréchet distance of the images and of the autoencoder's reconstructions
    of test images, each over that of real images to real images; precision and recall; and PSNR in dB.

        figures = tinydiff.evaluate(n=200)
        figures["unseen pairs"]["garment and colour"]  # of 1
    """
    if n < 1:
        raise InputError(f"evaluate: n must be 1 or more, not {n}")
    pipe, classifier = load(weights), load_classifier(shipped_weights())
    pipe.check(["a"], steps, guidance_interval)  # bad numbers are refused before anything is generated
    test = captioned_fashion("test", data)
    figures: dict[str, Any] = {
        "data": test.source,
        "classifier on real test images": _shares(classifier, test.images, truth_of(test)),
    }

    samples = {}
    options = {"steps": steps, "guidance_scale": guidance_scale, "guidance_interval": guidance_interval}
    for name, count, unseen in (("seen pairs", n, False), ("unseen pairs", max(1, n // 4), True)):
        samples[name], asked, _ = _generate(pipe, count, unseen, seed, **options)
        figures[name] = _shares(classifier, samples[name], asked)

    # Fréchet distance, precision and recall: all sets of one size, and real against real beside them
    real_images = test.images[are_seen(test)]
    size = min(n, len(real_images) // 2)
    if size > NEIGHBOURS:
        one, other = halves(real_images, size, seed)
        sets = other, one, samples["seen pairs"][:size], _reconstructed(pipe.autoencoder, one)
        real, again, generated, decoded = (features_of(classifier, images) for images in sets)
        base = frechet_distance(again, real)
        figures |= {
            "Fréchet: images in each set": size,
            "Fréchet: real to real": base,
            "Fréchet ratio: generated": frechet_distance(generated, real) / base,
            "Fréchet ratio: reconstructed": frechet_distance(decoded, real) / base,
        }
        for name, features in (("real to real", again), ("generated", generated)):
            precision, recall = precision_recall(real, features, NEIGHBOURS)
            figures[f"precision and recall: {name}"] = {"precision": precision, "recall": recall}
    figures["PSNR of reconstructions, dB"] = psnr(test.images, _reconstructed(pipe.autoencoder, test.images))
    return figures


def classifiers(
    weights: str | Path | None = None,
    count: int = 6000,
    training: OptimConfig = CLASSIFIER,
    seed: int = 0,
    data: str | Path | None = None,
    **sampling: Any,
) -> dict[str, Any]:
    """Do generated images teach what real ones teach?  Two classifiers like the evaluation's, on real test images.

    One learns from `count` generated images of seen pairs alone, the other from as many real ones.  `sampling`: options
    of `TextToImage.generate`.  (The classification accuracy score of Ravuri & Vinyals 2019, arXiv:1905.10887)
    """
    pipe = load(weights)
    train, test = captioned_fashion("train", data, seed), captioned_fashion("test", data)
    generated, asked, _ = _generate(pipe, count, False, seed, **sampling)
    chosen, seen = np.random.default_rng(seed).permutation(len(train))[:count], are_seen(test)
    sets = {"generated": (generated, asked), "real": (train.images[chosen], truth_of(train)[:, chosen])}
    figures: dict[str, Any] = {"images to learn from": count}
    for name, (images, truth) in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            classifier = train_classifier(images, truth, training, Path(folder), seed)
        named = _shares(classifier, test.images[seen], truth_of(test)[:, seen])
        figures[f"classifier that learnt from {name} images"] = named
    return figures


def train_classifier(images: np.ndarray, truth: np.ndarray, optim: OptimConfig, out: Path, seed: int = 0) -> Classifier:
    """A network like the evaluation classifier, trained on these images alone: uint8 (N, H, W, 3), truth (3, N)."""
    model = Classifier(ClassifierConfig(), np.random.default_rng([seed, 60]))
    batches = Shuffle(len(images), optim.batch, seed)

    def loss(step: int, rng: np.random.Generator) -> Tensor:
        return classification_loss(model, images, tuple(truth), batches.at(step)[1])

    load_ema(model, fit(Task("classifier", model, loss, optim, seed, {"images": len(images)}), out))
    return model


def neighbours(
    weights: str | Path | None = None, count: int = 8, *, seed: int = 0, data: str | Path | None = None, **sampling: Any
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Are generated images copies?  `count` of them, uint8, and the training garment that is nearest to each.

    The garments are shown in the image's own colours, and compared in the classifier's features.  Returned are the
    images, their neighbours, the prompts, and each pair's PSNR: a copy would have 28 dB or more, which is what the
    autoencoder leaves.  `sampling`: options of `TextToImage.generate`.
    """
    pipe, classifier = load(weights), load_classifier(shipped_weights())
    grey, labels, _ = load_fashion("train", data)
    images, asked, prompts = _generate(pipe, count, False, seed, **sampling)
    found = np.empty_like(images)
    for i, (garment, colour, background) in enumerate(asked.T):
        rows = np.flatnonzero(labels == garment)
        candidates = render(grey[rows], np.full(len(rows), colour), np.full(len(rows), background))
        index, _ = nearest(features_of(classifier, images[i : i + 1]), features_of(classifier, candidates))
        found[i] = candidates[index[0]]
    return images, found, prompts, np.array([psnr(a, b) for a, b in zip(images, found, strict=True)])


def _generate(
    pipe: TextToImage, count: int, unseen: bool, seed: int, **sampling: Any
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images of random prompts; garment, colour and background that were asked for (3, count); the prompts."""
    rng = np.random.default_rng([seed, int(unseen)])
    prompts, asked = drawn_prompts(count, unseen, rng)
    parts = []
    with tqdm(total=count, desc="generating", unit="image", disable=None) as bar:
        for part in batches(prompts):
            parts.append(pipe.generate(part, seed=int(rng.integers(2**31)), **sampling))
            bar.update(len(part))
    return np.concatenate(parts), asked, prompts


def drawn_prompts(count: int, unseen: bool, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Random prompts of pairs that training has seen, or not, and garment, colour and background (3, count)."""
    pairs = [(g, c) for g in range(len(GARMENTS)) for c in range(len(COLOURS)) if ((g, c) in UNSEEN) == unseen]
    garment, colour = np.array(pairs)[rng.integers(0, len(pairs), count)].T
    background = rng.integers(0, len(BACKGROUNDS), count)
    return captions(garment, colour, background, rng), np.stack([garment, colour, background])


def truth_of(images: CaptionedImages) -> np.ndarray:
    """Garment, colour and background of each, (3, N)."""
    return np.stack([images.garment, images.colour, images.background])


def are_seen(images: CaptionedImages) -> np.ndarray:
    """Whether training has each one's pair of garment and colour, bool (N,)."""
    return np.array([pair not in UNSEEN for pair in zip(images.garment, images.colour, strict=True)])


def _shares(classifier: Classifier, images: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How often the classifier names what is asked for: each of the three, and garment and colour together."""
    named = np.concatenate(
        [np.stack(classifier.classify(as_floats(part))) for part in batches(images)], axis=1
    )  # (3, N)
    right = named == truth
    shares = dict(zip(("garment", "colour", "background"), right.mean(1).tolist(), strict=True))
    return {**shares, "garment and colour": float((right[0] & right[1]).mean())}


def features_of(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """The classifier's features (N, D) of uint8 images: the space in which sets of images are compared."""
    with no_grad():
        return np.concatenate([classifier.features(Tensor(as_floats(part))).data for part in batches(images)])


def _reconstructed(autoencoder: Autoencoder | PixelSpace, images: np.ndarray) -> np.ndarray:
    """Images through the latent space and back."""
    latents = (autoencoder.encode(as_floats(part)) for part in batches(images))
    return np.concatenate([as_pixels(autoencoder.decode(latent)) for latent in latents])


def halves(images: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of `size` images, drawn at random, that share none."""
    order = np.random.default_rng(seed).permutation(len(images))
    return images[order[:size]], images[order[size : 2 * size]]


def batches(images: Any) -> list:
    """A part at a time, which bounds the memory."""
    return [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
