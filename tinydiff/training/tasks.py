"""What each part learns from: the autoencoder from images, the words from captions, the denoiser from both."""

from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor, no_grad
from tinydiff.datasets import Vocabulary
from tinydiff.datasets.pixels import as_floats
from tinydiff.device import to_numpy
from tinydiff.diffusion.loss import noisy_examples
from tinydiff.diffusion.schedule import make_schedule
from tinydiff.models.autoencoder import Autoencoder, PixelSpace
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser
from tinydiff.models.word2vec import Word2Vec
from tinydiff.training.loop import Shuffle, Task
from tinydiff.training.presets import Preset
from tinydiff.training.replay import ReplayedLoss


class TrainingImages(Protocol):
    """Images with captions to learn from, which may be new in each epoch."""

    source: str
    vocabulary: Vocabulary

    def __len__(self) -> int: ...

    def epoch(self, number: int) -> Any: ...  # with .images, uint8 (N, H, W, 3), and .captions


def autoencoder_task(images: TrainingImages, preset: Preset) -> Task:
    """Reconstruct images through the latent space: L1 + MSE + a little KL."""
    model = Autoencoder(preset.autoencoder, np.random.default_rng([preset.seed, 10]))
    optim = preset.autoencoder_optim
    batches = Shuffle(len(images), optim.batch, preset.seed)

    def reconstruction_loss(images: Array, noise: Array) -> Tensor:
        x = Tensor(images)  # (N, H, W, 3)
        mean, log_variance = model.moments(x)  # (N, h, w, C) each
        y = model.reconstruct(ops.reparameterize(mean, log_variance, noise))
        kl = ops.kl_loss(mean, log_variance) * np.float32(preset.kl_weight)
        return ops.l1_loss(y, x) + ops.mse_loss(y, x) + kl

    replayed = ReplayedLoss(model, reconstruction_loss)

    def loss(step: int, rng: np.random.Generator) -> Tensor:
        epoch, indices = batches.at(step)
        x = as_floats(images.epoch(epoch).images[indices])
        n, height, width, _ = x.shape
        shape = n, height // model.factor, width // model.factor, preset.autoencoder.latent_channels
        return replayed(model.place(x), model.place(rng.standard_normal(shape, np.float32)))

    run_config = {"model": asdict(preset.autoencoder), "kl_weight": preset.kl_weight, "data": images.source}
    return Task("autoencoder", model, loss, optim, preset.seed, run_config)


def measured_scaling_factor(model: Autoencoder, images: TrainingImages, seed: int) -> float:
    """1 / standard deviation of the latents of up to 2,048 images of the first epoch, drawn at random."""
    sample = np.random.default_rng([seed, 11]).permutation(len(images))[:2048]
    first = images.epoch(0).images
    parts = (model.place(as_floats(first[part])) for part in np.array_split(sample, -(-len(sample) // 128)))
    with no_grad():
        latents = np.concatenate([to_numpy(model.moments(Tensor(part))[0].data) for part in parts])
    return float(1 / latents.std(dtype=np.float64))


def train_words(images: TrainingImages, vocabulary: Vocabulary, preset: Preset) -> Word2Vec:
    """Word2Vec on the captions of the first epoch."""
    words, rng = preset.words, np.random.default_rng([preset.seed, 20])
    captions = vocabulary.encode(images.epoch(0).captions[: words.captions])
    width = preset.unet.cross_attention_dim
    return Word2Vec.train(
        captions, len(vocabulary), width, rng, epochs=words.epochs, window=words.window, negatives=words.negatives
    )


def denoiser_task(
    images: TrainingImages,
    autoencoder: Autoencoder | PixelSpace,
    word_vectors: np.ndarray,
    vocabulary: Vocabulary,
    preset: Preset,
) -> Task:
    """The diffusion loss of latents, conditioned on captions, a share of which are left empty, for guidance."""
    width = preset.unet.cross_attention_dim
    text = TextEncoderConfig(len(vocabulary), vocabulary.length, width, preset.text_layers, preset.text_heads)
    model = Denoiser(preset.unet, text, np.random.default_rng([preset.seed, 30]))
    model.text_encoder.start_from(word_vectors)
    schedule = make_schedule(preset.scheduler.beta_schedule, preset.scheduler.num_train_timesteps)
    optim = preset.denoiser_optim
    batches = Shuffle(len(images), optim.batch, preset.seed + 1)
    empty = vocabulary.unconditional(1)
    replayed = ReplayedLoss(model, lambda x, t, tokens, aim: ops.mse_loss(model(Tensor(x), t, tokens), Tensor(aim)))

    def loss(step: int, rng: np.random.Generator) -> Tensor:
        epoch, indices = batches.at(step)
        batch = images.epoch(epoch)
        latents = autoencoder.encode(model.place(as_floats(batch.images[indices])))  # (N, h, w, C)
        tokens = vocabulary.encode([batch.captions[i] for i in indices])  # (N, L)
        tokens[rng.random(len(tokens)) < preset.caption_dropout] = empty
        x_t, t, aim = noisy_examples(latents, schedule, rng, preset.scheduler.prediction_type)
        return replayed(x_t, t, tokens, aim)

    run_config = {
        "model": asdict(preset.unet),
        "text_encoder": asdict(text),
        "scheduler": asdict(preset.scheduler),
        "caption_dropout": preset.caption_dropout,
        "data": images.source,
    }
    return Task("denoiser", model, loss, optim, preset.seed, run_config)
