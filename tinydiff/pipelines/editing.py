"""Images edited rather than generated: from an image, in a part of it, between two, and back to noise.

`edit`, `interpolate`, `invert` and `reconstruct` take the pipeline first, and are methods of `TextToImage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydiff.autograd import Array
from tinydiff.datasets.pixels import as_floats
from tinydiff.device import to_numpy
from tinydiff.diffusion.prediction import add_noise
from tinydiff.diffusion.samplers import Options, invert_ddim
from tinydiff.errors import InputError

if TYPE_CHECKING:
    from tinydiff.pipelines.text_to_image import TextToImage


def edit(
    pipe: TextToImage,
    images: np.ndarray,
    prompts: Sequence[str] | str,
    strength: float = 0.6,
    mask: np.ndarray | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    negative_prompt: str | None = None,
    seed: int = 0,
    sampler: str | None = None,
) -> np.ndarray:
    """Images uint8 (N, H, W, 3) changed towards their prompts; one image (H, W, 3) or one prompt serves every other.

    strength in (0, 1]: the share of the steps that are taken, from as much noise as they begin with (SDEdit; Meng 2021,
    arXiv:2108.01073); 1 begins with noise alone.  mask, bool (H, W) or (N, H, W): where an image may change; the rest
    is held at each step at its own noise level (Lugmayr 2022, arXiv:2201.09865, without resampling), and comes back bit
    for bit.  The other arguments are those of `generate`.  Raises InputError for what does not fit.

        blue = pipe.edit(sneaker, "a blue sneaker on a white background", strength=0.8)
    """
    prompts, images = _aligned(pipe, prompts, images)
    pipe.check(prompts, steps, guidance_interval, sampler, seed)
    if not 0 < strength <= 1:
        raise InputError(f"edit: strength must lie above 0 and reach at most 1; got {strength}")
    every = images.shape[:3]
    if mask is not None and (mask.dtype != bool or mask.shape not in (every[1:], every)):
        raise InputError(f"edit: the mask is {mask.dtype} {mask.shape}, expected bool {every[1:]} or {every}")
    may_change = np.broadcast_to(True if mask is None else mask, every)  # bool (N, H, W)
    rng, steps = pipe.generator(seed), pipe.settings.steps if steps is None else steps
    drawn = rng if pipe.settings.sample_posterior else None
    clean = pipe.autoencoder.encode(pipe.denoiser.place(as_floats(images)), drawn)
    noise = pipe.denoiser.place(rng.standard_normal(clean.shape, np.float32))
    skip = min(steps - 1, steps - round(strength * steps))
    alpha_bar = float(pipe.schedule.alpha_bar[pipe.schedule.timesteps(steps)[skip]])
    start = noise if strength == 1 else add_noise(clean, noise, alpha_bar)

    adjust = None
    if mask is not None:
        # A place of the latent space may change if any pixel under it may.
        size = images.shape[1] // clean.shape[1]
        blocks = may_change.reshape(len(images), clean.shape[1], size, clean.shape[2], size)
        free = pipe.denoiser.place(blocks.max((2, 4))[..., None].astype(np.float32))  # (N, h, w, 1)

        def adjust(x: Array, alpha_bar: float) -> Array:
            return free * x + (1 - free) * add_noise(clean, noise, alpha_bar)

    text, guidance = pipe.encode_prompt(prompts), (guidance_scale, guidance_interval, negative_prompt)
    latents = pipe.sample(text, start, steps, rng, *guidance, sampler, Options(skip=skip, adjust=adjust))
    return np.where(may_change[..., None], pipe.decode(latents), images)


def interpolate(
    pipe: TextToImage,
    prompt: str,
    to_prompt: str | None = None,
    count: int = 8,
    steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    negative_prompt: str | None = None,
    seed: int = 0,
    to_seed: int = 1,
    sampler: str | None = None,
) -> np.ndarray:
    """`count` images, uint8 (count, H, W, 3), between two prompts, or with one prompt between two seeds.

    Between prompts the text's vectors go straight from one to the other, with one noise for all; between seeds the
    noise goes along the sphere (`slerp`).  The other arguments are those of `generate`.
    """
    if count < 1:
        raise InputError(f"interpolate: count must be 1 or more; got {count}")
    prompts = [prompt] * count if to_prompt is None else [prompt, to_prompt]
    for each in (seed, to_seed):
        pipe.check(prompts, steps, guidance_interval, sampler, each)
    rng, shares = pipe.generator(seed), np.linspace(0, 1, count)
    shape = (1, *pipe.latent_shape)
    if to_prompt is None:
        one, other = (pipe.generator(s).standard_normal(shape, np.float32) for s in (seed, to_seed))
        noise = np.concatenate([slerp(one, other, share) for share in shares])
        text = pipe.encode_prompt(prompts)
    else:
        one, other = pipe.encode_prompt(prompts)
        share = pipe.denoiser.place(shares.astype(np.float32)[:, None, None])
        text = (1 - share) * one + share * other  # (count, L, D)
        noise = np.repeat(rng.standard_normal(shape, np.float32), count, 0)
    guidance = guidance_scale, guidance_interval, negative_prompt
    return pipe.decode(pipe.sample(text, noise, steps, rng, *guidance, sampler))


def invert(pipe: TextToImage, images: np.ndarray, prompts: Sequence[str] | str, steps: int = 50) -> np.ndarray:
    """The noise (N, h, w, C) from which DDIM generates about these images, uint8 (N, H, W, 3), without guidance."""
    prompts, images = _aligned(pipe, prompts, images)
    pipe.check(prompts, steps)
    clean = pipe.autoencoder.encode(pipe.denoiser.place(as_floats(images)))
    text = pipe.encode_prompt(prompts)
    predict = lambda x, t: pipe.predict(x, t, text)  # noqa: E731
    return to_numpy(invert_ddim(predict, clean, pipe.schedule, steps, pipe.prediction_type))


def reconstruct(pipe: TextToImage, noise: np.ndarray, prompts: Sequence[str] | str, steps: int = 50) -> np.ndarray:
    """What DDIM generates from this noise, without guidance: the way back from `invert`."""
    prompts = [prompts] * len(noise) if isinstance(prompts, str) else prompts
    return pipe.decode(pipe.sample(pipe.encode_prompt(prompts), noise, steps, np.random.default_rng(0), 1.0))


def slerp(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Between two arrays along the great circle, where noise keeps its norm: on a line it shrinks.  (Shoemake 1985)"""
    cosine = float((one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum()))
    angle = np.arccos(np.clip(cosine, -1, 1))
    if angle < 1e-6:
        return one
    return ((np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / np.sin(angle)).astype(one.dtype)


def _aligned(pipe: TextToImage, prompts: Any, images: np.ndarray) -> tuple[list[str], np.ndarray]:
    """A list of prompts, and as many images: one prompt serves every image, and one image every prompt."""
    prompts = [prompts] * (len(images) if images.ndim == 4 else 1) if isinstance(prompts, str) else list(prompts)
    count, multiple = len(prompts), pipe.multiple
    images = np.repeat(images[None], count, 0) if images.ndim == 3 else images
    fits = images.ndim == 4 and len(images) == count and images.shape[3] == 3 and min(images.shape[1:3]) > 0
    if not fits or images.dtype != np.uint8 or images.shape[1] % multiple or images.shape[2] % multiple:
        expected = f"{count} prompts need images uint8 ({count}, H, W, 3), H and W multiples of {multiple}"
        raise InputError(f"{expected}; got {images.dtype} {images.shape}")
    return prompts, images
