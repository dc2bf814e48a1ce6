"""From a prompt to a picture: words → vectors → noise → many small steps → latent → pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinydiff.autograd import Array, Tensor, no_grad
from tinydiff.datasets.captions import Vocabulary
from tinydiff.datasets.pixels import as_pixels
from tinydiff.device import to_numpy
from tinydiff.diffusion.guidance import GUIDANCE, INTERVAL, check_interval, guided
from tinydiff.diffusion.samplers import SAMPLERS
from tinydiff.diffusion.schedule import Schedule, make_schedule
from tinydiff.errors import InputError
from tinydiff.kernels import constant_weights, reuse_memory
from tinydiff.models.autoencoder import Autoencoder, PixelSpace
from tinydiff.models.denoiser import Denoiser
from tinydiff.weights import load_autoencoder, load_denoiser, shipped

BATCH = 32  # pictures that go through the networks together: what bounds the memory


class TextToImage:
    """The latent diffusion model, ready to draw.  (Rombach 2022, arXiv:2112.10752)

    `interval`: the shares of the noise levels between which there is guidance; (0, 1) is everywhere.
    """

    interval: tuple[float, float] = INTERVAL

    def __init__(
        self,
        autoencoder: Autoencoder | PixelSpace,
        denoiser: Denoiser,
        vocabulary: Vocabulary,
        schedule: Schedule,
        kind: str,
        latent: tuple[int, int, int],
    ) -> None:
        self.autoencoder, self.denoiser, self.vocabulary = autoencoder, denoiser, vocabulary
        self.schedule, self.kind, self.latent = schedule, kind, latent
        self.clip = 1.0 if isinstance(autoencoder, PixelSpace) else None  # pixels have bounds, latents have none

    def to(self, device: str) -> TextToImage:
        """Move the networks to "cpu" or "cuda", in place.  Raises InputError where the device cannot be used."""
        for module in (self.autoencoder, self.denoiser):
            module.to(device)
        return self

    def check(self, prompts: Sequence[str], steps: int = 25, sampler: str = "ddim") -> None:
        """Raise InputError where a prompt, the number of steps or the sampler does not fit; it costs nothing."""
        if isinstance(prompts, str) or not prompts:
            raise InputError(f"generate: prompts must be a list of at least one string, not {prompts!r}")
        self.vocabulary.encode(list(prompts))
        self.schedule.timesteps(steps)
        check_interval(self.interval)
        if sampler not in SAMPLERS:
            raise InputError(f"generate: no sampler {sampler!r}; there are {', '.join(SAMPLERS)}")

    def generate(
        self,
        prompts: Sequence[str],
        steps: int = 25,
        guidance: float = GUIDANCE,
        seed: int = 0,
        sampler: str = "ddim",
    ) -> np.ndarray:
        """One picture for each prompt, uint8 (N, H, W, 3); the same seed gives the same pictures.

        Noise is drawn on the CPU, so that a seed means the same pictures on a GPU, up to rounding.
        `steps` of the schedule's are taken; `guidance` says how much the prompt is exaggerated, 1 is not at all.
        Raises InputError for what does not fit, FloatingPointError where a picture is not finite.
        """
        self.check(prompts, steps, sampler)
        if seed < 0:
            raise InputError(f"generate: the seed must be 0 or more, not {seed}")
        reuse_memory()
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((len(prompts), *self.latent), np.float32)
        return self.draw(self.words(prompts), noise, steps, guidance, sampler, rng)

    @property
    def size(self) -> int:
        """Pixels of a picture's side."""
        return self.latent[0] * self.autoencoder.factor

    def words(self, prompts: Sequence[str]) -> Array:
        """Prompts as the vectors that the U-Net reads, (N, L, D)."""
        return self.read(self.vocabulary.encode(list(prompts)))

    def draw(
        self,
        words: Array,
        noise: Array,
        steps: int,
        guidance: float,
        sampler: str,
        rng: np.random.Generator,
        adjust: Callable[[Array, float], Array] | None = None,
        **course: Any,
    ) -> np.ndarray:
        """Pictures, uint8 (N, H, W, 3), of words (N, L, D) from latents (N, h, w, C), a part of them at a time.

        `adjust` and `course` are for the sampler, see `diffusion.samplers.walk`; with `adjust` all go together.
        """
        part = len(noise) if adjust is not None else BATCH
        pictures = []
        low, high = (share * self.schedule.steps for share in self.interval)
        with constant_weights():
            nothing = self.read(self.vocabulary.null(min(part, len(noise))))
            for i in range(0, len(noise), part):
                here = words[i : i + part]
                predict = guided(self.predict, (here,), (nothing[: len(here)],), guidance, (low, high))
                x = self.denoiser.place(noise[i : i + part])
                course |= {"kind": self.kind, "clip": self.clip, "adjust": adjust}
                latents = SAMPLERS[sampler](predict, x, self.schedule, steps, rng, **course)
                pictures.append(as_pixels(to_numpy(self.autoencoder.decode(latents))))
        return np.concatenate(pictures)

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """Word numbers (N, L) → vectors (N, L, D)."""
        with no_grad():
            return self.denoiser.text_encoder(tokens).data

    def predict(self, x: np.ndarray, t: int, words: np.ndarray) -> np.ndarray:
        """The network's prediction for latents (N, h, w, 4) that are all at noise level t."""
        with no_grad():
            return self.denoiser.unet(Tensor(x), np.full(len(x), t), Tensor(words)).data


def load(folder: str | Path | None = None) -> TextToImage:
    """The model with the shipped weights, or with those in a folder that `tinydiff train` wrote.

    Raises InputError for files that are missing, damaged, of another version or shape, or that do not belong together.
    """
    where = shipped() if folder is None else Path(folder)
    denoiser, config = load_denoiser(where)
    autoencoder = PixelSpace() if config.get("space") == "pixels" else load_autoencoder(where)
    channels, latent = autoencoder.channels, tuple(config["latent"])
    if len(latent) != 3 or not channels == latent[2] == denoiser.unet.config.in_channels:
        raise InputError(
            f"{where}: the autoencoder's latents have {channels} channels, the denoiser was trained on {latent}"
        )
    vocabulary = Vocabulary(config["words"], denoiser.text_encoder.config.length)
    if len(vocabulary) != denoiser.text_encoder.config.vocabulary:
        raise InputError(
            f"{where}: {len(vocabulary)} words do not fit {denoiser.text_encoder.config.vocabulary} vectors"
        )
    return TextToImage(autoencoder, denoiser, vocabulary, make_schedule(config["schedule"]), config["kind"], latent)
