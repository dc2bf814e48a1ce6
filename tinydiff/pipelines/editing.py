"""Pictures changed rather than made: from a picture, in a part of it, between two, and back to noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydiff.autograd import Array
from tinydiff.datasets.pixels import as_floats
from tinydiff.device import to_numpy
from tinydiff.diffusion.guidance import GUIDANCE
from tinydiff.diffusion.prediction import add_noise
from tinydiff.diffusion.samplers import invert_ddim
from tinydiff.errors import InputError
from tinydiff.pipelines.text_to_image import TextToImage


def edit(
    pipe: TextToImage,
    images: np.ndarray,
    prompts: Sequence[str],
    strength: float = 0.6,
    mask: np.ndarray | None = None,
    steps: int = 25,
    guidance: float = GUIDANCE,
    seed: int = 0,
    sampler: str = "ddim",
) -> np.ndarray:
    """Pictures, uint8 (N, H, W, 3), changed towards their prompts; as many come back.

    strength in (0, 1]: the share of the steps that are taken, from as much noise as they begin with (SDEdit; Meng 2021,
    arXiv:2108.01073); 1 begins with noise alone.  mask, bool (H, W) or (N, H, W): where a picture may change; the rest
    is held at each step at its own noise level (Lugmayr 2022, arXiv:2201.09865, without resampling), and comes back bit
    for bit.  Raises InputError for what does not fit.
    """
    pipe.check(prompts, steps, sampler)
    _check_pictures(pipe, images, len(prompts))
    if not 0 < strength <= 1:
        raise InputError(f"edit: strength must lie above 0 and reach at most 1; got {strength}")
    may_change: Any = _mask(mask, images.shape)
    rng = np.random.default_rng(seed)
    clean = pipe.autoencoder.encode(pipe.denoiser.place(as_floats(images)))
    noise = pipe.denoiser.place(rng.standard_normal(clean.shape, np.float32))
    skip = min(steps - 1, steps - round(strength * steps))
    level = float(pipe.schedule.alpha_bar[pipe.schedule.timesteps(steps)[skip]])
    start = noise if strength == 1 else add_noise(clean, noise, level)

    adjust = None
    if mask is not None:
        # A place of the latent space may change if any pixel under it may.
        size = images.shape[1] // clean.shape[1]
        blocks = may_change.reshape(len(images), clean.shape[1], size, clean.shape[2], size)
        free = pipe.denoiser.place(blocks.max((2, 4))[..., None].astype(np.float32))  # (N, h, w, 1)

        def adjust(x: Array, alpha_bar: float) -> Array:
            return free * x + (1 - free) * add_noise(clean, noise, alpha_bar)

    drawn = pipe.draw(pipe.words(prompts), start, steps, guidance, sampler, rng, skip=skip, adjust=adjust)
    return np.where(may_change[..., None], drawn, images)


def between_seeds(
    pipe: TextToImage,
    prompt: str,
    seeds: tuple[int, int],
    count: int = 8,
    steps: int = 25,
    guidance: float = GUIDANCE,
    sampler: str = "ddim",
) -> np.ndarray:
    """`count` pictures of one prompt, uint8, from the noise of one seed to that of another along the sphere."""
    pipe.check([prompt], steps, sampler)
    one, other = (np.random.default_rng(seed).standard_normal((1, *pipe.latent), np.float32) for seed in seeds)
    noise = np.concatenate([slerp(one, other, share) for share in np.linspace(0, 1, count)])
    return pipe.draw(pipe.words([prompt] * count), noise, steps, guidance, sampler, np.random.default_rng(seeds[0]))


def between_prompts(
    pipe: TextToImage,
    prompts: tuple[str, str],
    seed: int = 0,
    count: int = 8,
    steps: int = 25,
    guidance: float = GUIDANCE,
    sampler: str = "ddim",
) -> np.ndarray:
    """`count` pictures, uint8, from one noise, while the words' vectors go straight from one prompt's to another's."""
    pipe.check(list(prompts), steps, sampler)
    one, other = pipe.words(prompts)
    share = np.linspace(0, 1, count, dtype=np.float32)[:, None, None]
    words = (1 - pipe.denoiser.place(share)) * one + pipe.denoiser.place(share) * other
    rng = np.random.default_rng(seed)
    noise = np.repeat(rng.standard_normal((1, *pipe.latent), np.float32), count, 0)
    return pipe.draw(words, noise, steps, guidance, sampler, rng)


def slerp(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Between two arrays along the great circle: noise stays as long as noise is.  (Shoemake 1985)"""
    cosine = float((one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum()))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if angle < 1e-6:
        return one
    return ((np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / np.sin(angle)).astype(one.dtype)


def invert(pipe: TextToImage, images: np.ndarray, prompts: Sequence[str], steps: int = 50) -> np.ndarray:
    """The noise (N, h, w, C) from which DDIM draws about these pictures, uint8 (N, H, W, 3), without guidance."""
    pipe.check(prompts, steps)
    _check_pictures(pipe, images, len(prompts))
    clean = pipe.autoencoder.encode(pipe.denoiser.place(as_floats(images)))
    words = pipe.words(prompts)
    return to_numpy(invert_ddim(lambda x, t: pipe.predict(x, t, words), clean, pipe.schedule, steps, pipe.kind))


def redraw(pipe: TextToImage, noise: np.ndarray, prompts: Sequence[str], steps: int = 50) -> np.ndarray:
    """What DDIM draws from this noise, without guidance: the way back from `invert`."""
    return pipe.draw(pipe.words(prompts), noise, steps, 1.0, "ddim", np.random.default_rng(0))


def _check_pictures(pipe: TextToImage, images: np.ndarray, count: int) -> None:
    size = pipe.size
    if images.dtype != np.uint8 or images.shape != (count, size, size, 3):
        raise InputError(
            f"edit: {count} prompts need pictures uint8 ({count}, {size}, {size}, 3); got {images.dtype} {images.shape}"
        )


def _mask(mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """bool (N, H, W): where each picture may change."""
    if mask is None:
        return np.ones(shape[:3], bool)
    if mask.dtype != bool or mask.shape not in (shape[1:3], shape[:3]):
        raise InputError(f"edit: the mask is {mask.dtype} {mask.shape}, expected bool {shape[1:3]} or {shape[:3]}")
    return np.broadcast_to(mask, shape[:3])
