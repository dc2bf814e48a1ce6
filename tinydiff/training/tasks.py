"""What each part learns from: the autoencoder from pictures, the words from captions, the denoiser from both.

Every function here returns a trained module (or word vectors); `run.train` writes the files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinydiff import ops
from tinydiff.apps.data.own_images import OwnPictures
from tinydiff.apps.train.report import EXAMPLES, Strips
from tinydiff.autograd import Array, Tensor
from tinydiff.datasets import GARMENTS, CaptionedImages, Vocabulary, draw_training
from tinydiff.datasets.captions import BACKGROUNDS, COLOURS, canonical
from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.device import to_numpy
from tinydiff.diffusion.prediction import add_noise, target
from tinydiff.diffusion.schedule import make_schedule
from tinydiff.models.autoencoder import Autoencoder, PixelSpace
from tinydiff.models.classifier import Judge, JudgeConfig
from tinydiff.models.denoiser import Denoiser
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.word2vec import Word2Vec
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.training.loop import Shuffle, fit
from tinydiff.training.optim import OptimConfig
from tinydiff.training.presets import TEXT_WIDTH, Preset
from tinydiff.weights import as_stored


class Fashion:
    """The training garments, with colours, backgrounds and captions drawn anew each epoch."""

    def __init__(self, grey: np.ndarray, labels: np.ndarray, source: str, seed: int, every_pair: bool = False) -> None:
        self.grey, self.labels, self.source, self.seed = grey, labels, source, seed
        self.every_pair = every_pair
        self.vocabulary = Vocabulary()
        self._epoch = -1
        self._drawn: CaptionedImages | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(self, number: int) -> CaptionedImages:
        """All garments as drawn for this epoch; it depends on the seed and the number alone."""
        if number != self._epoch or self._drawn is None:
            self._drawn = None  # the old pictures' memory is free before the new ones are made
            rng = np.random.default_rng([self.seed, 1, number])
            self._drawn = draw_training(self.grey, self.labels, rng, self.source, self.every_pair)
            self._epoch = number
        return self._drawn

    def examples(self, count: int) -> list[str]:
        """Captions to watch a training by: every garment, in one colour or another."""
        return [canonical(i % len(GARMENTS), i % len(COLOURS), i % len(BACKGROUNDS)) for i in range(count)]


def train_autoencoder(
    images_of: Callable[[int], np.ndarray],
    count: int,
    preset: Preset,
    out: Path,
    resume: bool,
    data: str,
    device: str = "cpu",
) -> Autoencoder:
    """Reconstruct pictures through the latent space: L1 + MSE + a little KL.

    `images_of(epoch)` gives `count` pictures (N, H, W, 3).  The latent scale, 1 / standard deviation, is measured
    on the pictures of the first epoch.
    """
    model = Autoencoder(preset.autoencoder, np.random.default_rng([preset.seed, 10]))
    model.to(device)
    batches = Shuffle(count, preset.autoencoder_optim.batch, preset.seed)

    def loss_of(step: int, rng: np.random.Generator) -> Tensor:
        position = batches.at(step)
        x = Tensor(model.place(as_floats(images_of(position.epoch)[position.indices])))
        mean, log_variance = model.moments(x)
        noise = model.place(rng.standard_normal(mean.shape, np.float32))
        y = model.reconstruct(ops.sample_gaussian(mean, log_variance, noise))
        kl = ops.kl_loss(mean, log_variance) * np.float32(preset.kl_weight)
        return ops.l1_loss(y, x) + ops.mse_loss(y, x) + kl

    def rebuilt(average: dict[str, Array]) -> np.ndarray:
        shown = Autoencoder(preset.autoencoder, rng=None)
        shown.load({name: as_stored(to_numpy(a)) for name, a in average.items()})
        shown.to(device)
        pictures = images_of(0)[:EXAMPLES]
        decoded = shown.decode(shown.encode(shown.place(as_floats(pictures))))
        return np.concatenate([pictures, as_pixels(to_numpy(decoded))])

    weights = fit(
        "autoencoder",
        model,
        loss_of,
        preset.autoencoder_optim,
        out,
        identity={"model": asdict(preset.autoencoder), "kl_weight": preset.kl_weight, "data": data},
        seed=preset.seed,
        resume=resume,
        watch=Strips(out, "autoencoder", resume, rebuilt, rows=2),
    )
    model.load({name: as_stored(a) for name, a in weights.items()})
    sample = np.random.default_rng([preset.seed, 11]).permutation(count)[:2048]
    pictures = (model.place(as_floats(images_of(0)[part])) for part in np.array_split(sample, -(-len(sample) // 128)))
    latents = np.concatenate([to_numpy(model.encode(part)) for part in pictures])
    model.latent_scale = float(1 / latents.std(dtype=np.float64))
    return model


def train_words(fashion: Fashion | OwnPictures, vocabulary: Vocabulary, preset: Preset) -> Word2Vec:
    """Word2Vec on the captions of the first epoch."""
    settings = preset.words
    tokens = vocabulary.encode(fashion.epoch(0).captions[: settings.captions])
    return Word2Vec.train(
        tokens,
        len(vocabulary),
        TEXT_WIDTH,
        np.random.default_rng([preset.seed, 20]),
        epochs=settings.epochs,
        window=settings.window,
        negatives=settings.negatives,
    )


def train_denoiser(
    fashion: Fashion | OwnPictures,
    autoencoder: Autoencoder | PixelSpace,
    words: np.ndarray,
    vocabulary: Vocabulary,
    preset: Preset,
    out: Path,
    resume: bool,
    device: str = "cpu",
) -> Denoiser:
    """Predict `preset.kind` from noisy latents and captions, a tenth of which are empty, for guidance."""
    text = TextEncoderConfig(len(vocabulary), vocabulary.length, TEXT_WIDTH, preset.text_layers, preset.text_heads)
    model = Denoiser(preset.denoiser, text, np.random.default_rng([preset.seed, 30]))
    model.text_encoder.start_from(words)
    model.to(device)
    autoencoder.to(device)
    schedule = make_schedule(preset.schedule)
    batches = Shuffle(len(fashion), preset.denoiser_optim.batch, preset.seed + 1)
    null = vocabulary.null(1)
    latent = latent_shape(autoencoder, fashion)

    def loss_of(step: int, rng: np.random.Generator) -> Tensor:
        position = batches.at(step)
        drawn = fashion.epoch(position.epoch)
        x0 = autoencoder.encode(model.place(as_floats(drawn.images[position.indices])))
        n = len(x0)
        tokens = vocabulary.encode([drawn.captions[i] for i in position.indices])
        tokens[rng.random(n) < preset.caption_dropout] = null
        t = rng.integers(0, schedule.steps, n)
        noise = model.place(rng.standard_normal(x0.shape, np.float32))
        a = schedule.alpha_bar[t]
        prediction = model(Tensor(add_noise(x0, noise, a)), t, tokens)
        return ops.mse_loss(prediction, Tensor(target(x0, noise, a, preset.kind)))

    identity: dict[str, Any] = {
        "model": asdict(preset.denoiser),
        "text": asdict(text),
        "diffusion": [preset.schedule, preset.kind, preset.caption_dropout],
        "data": fashion.source,
    }

    def drawn(average: dict[str, Array]) -> np.ndarray:
        shown = Denoiser(preset.denoiser, text, rng=None)
        shown.load({name: as_stored(to_numpy(a)) for name, a in average.items()})
        shown.to(device)
        pipe = TextToImage(autoencoder, shown, vocabulary, schedule, preset.kind, latent)
        return pipe.generate(fashion.examples(EXAMPLES))

    weights = fit(
        "denoiser",
        model,
        loss_of,
        preset.denoiser_optim,
        out,
        identity=identity,
        seed=preset.seed,
        resume=resume,
        watch=Strips(out, "denoiser", resume, drawn),
    )
    model.load({name: as_stored(a) for name, a in weights.items()})
    return model


def latent_shape(autoencoder: Autoencoder | PixelSpace, pictures: Fashion | OwnPictures) -> tuple[int, int, int]:
    """(h, w, C) of a picture's latent."""
    _, height, width, _ = pictures.epoch(0).images.shape
    return height // autoencoder.factor, width // autoencoder.factor, autoencoder.channels


def train_judge(fashion: Fashion, preset: Preset, out: Path, resume: bool, device: str = "cpu") -> Judge:
    """Name garment, colour and background of real pictures.

    The judge learns from every pair of garment and colour: one that never saw a green dress would call it anything
    but a dress, and could not tell whether the denoiser, which never saw one either, has drawn it.
    """
    fashion = Fashion(fashion.grey, fashion.labels, fashion.source, preset.seed, every_pair=True)
    model = Judge(preset.judge, np.random.default_rng([preset.seed, 40]))
    model.to(device)
    batches = Shuffle(len(fashion), preset.judge_optim.batch, preset.seed + 2)

    def loss_of(step: int, rng: np.random.Generator) -> Tensor:
        position = batches.at(step)
        drawn = fashion.epoch(position.epoch)
        truth = drawn.garment, drawn.colour, drawn.background
        return _judging_loss(model, drawn.images, truth, position.indices)

    identity = {"model": asdict(preset.judge), "data": fashion.source}
    weights = fit("judge", model, loss_of, preset.judge_optim, out, identity=identity, seed=preset.seed, resume=resume)
    model.load({name: as_stored(a) for name, a in weights.items()})
    return model


def train_classifier(images: np.ndarray, truth: np.ndarray, optim: OptimConfig, out: Path, seed: int = 0) -> Judge:
    """A network of the judge's kind that learns from these pictures alone: uint8 (N, H, W, 3), truth (3, N)."""
    model = Judge(JudgeConfig(), np.random.default_rng([seed, 60]))
    batches = Shuffle(len(images), optim.batch, seed)

    def loss_of(step: int, rng: np.random.Generator) -> Tensor:
        return _judging_loss(model, images, tuple(truth), batches.at(step).indices)

    weights = fit("classifier", model, loss_of, optim, out, identity={"pictures": len(images)}, seed=seed)
    model.load({name: as_stored(a) for name, a in weights.items()})
    return model


def _judging_loss(model: Judge, images: np.ndarray, truth: tuple[np.ndarray, ...], indices: np.ndarray) -> Tensor:
    """The cross-entropies of garment, colour and background, together."""
    logits = model(Tensor(model.place(as_floats(images[indices]))))
    garment, colour, background = (
        ops.cross_entropy_loss(own, right[indices]) for own, right in zip(logits, truth, strict=True)
    )
    return garment + colour + background
