"""Latents to look at: channels, walks, the way from noise; quality against size, and signal against noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydiff.errors import InputError
from tinydiff.viz.figures import PALETTE, panels, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shown(images: np.ndarray) -> np.ndarray:
    """Images in [−1, 1] (…) as floats in [0, 1], clipped, for `panels`."""
    return np.clip(np.asarray(images) / 2 + 0.5, 0, 1)


def channels(latent: np.ndarray, image: np.ndarray | None = None, limit: float = 3.0) -> Figure:
    """A latent (h, w, C) as a panel for each channel, from −limit to limit, and an image (H, W, 3) last if given.

    Raises InputError for another shape.
    """
    return _beside(latent, {} if image is None else {"image": image}, limit)


def walk(one: np.ndarray, other: np.ndarray, count: int = 7) -> np.ndarray:
    """`count` arrays on the straight line from `one` to `other`, both included: (count, …)."""
    if one.shape != other.shape or count < 2:
        raise InputError(f"walk: from {one.shape} to {other.shape} in {count}, expected one shape and two or more")
    share = np.linspace(0, 1, count, dtype=one.dtype).reshape(-1, *[1] * one.ndim)
    return (1 - share) * one + share * other


def noised(autoencoder: Any, latent: np.ndarray, noise: np.ndarray, alpha_bars: Sequence[float], i: int) -> Figure:
    """A latent (h, w, C) with as much noise as alpha_bars[i] says: its channels, and what the decoder makes of it."""
    a = alpha_bars[i]
    x = (np.sqrt(a) * latent + np.sqrt(1 - a) * noise).astype(np.float32)
    figure = channels(x, shown(autoencoder.decode(x[None])[0]))
    figure.suptitle(f"ᾱ = {a:.3f}")
    return figure


def denoising_step(autoencoder: Any, seen: Sequence[tuple[np.ndarray, np.ndarray]], i: int) -> Figure:
    """A latent on its way from noise: its channels after step i, what the decoder makes of it, and of x̂0.

    seen: (x, x̂0), (h, w, C) each, after each step, as a sampler's callback gets them.
    """
    decoded = shown(autoencoder.decode(np.stack(seen[i])))
    return _beside(seen[i][0], {"x, decoded": decoded[0], "x̂0, decoded": decoded[1]}, limit=3.0)


def sizes(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str) -> Figure:
    """Quality against size: name → (numbers for an image, PSNR in dB); a curve of one point is a star."""
    figure, axes = subplots((8, 4))
    for (name, (numbers, quality)), colour in zip(curves.items(), PALETTE, strict=False):
        single = len(numbers) == 1
        axes.plot(numbers, quality, "*" if single else "o-", ms=18 if single else 6, color=colour, label=name)
    axes.set(xscale="log", xlabel="numbers for an image", ylabel="PSNR, dB", title=title)
    axes.set_xticks([16, 64, 256, 1024, 3072], ["16", "64", "256", "1,024", "3,072"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def signal_to_noise(schedules: Mapping[str, tuple[np.ndarray, Mapping[str, float]]]) -> Figure:
    """Signal-to-noise ratio against the timestep, a panel for each schedule: title → (ᾱ (T,), name → data's variance).

    The ratio is variance·ᾱ/(1 − ᾱ).  Raises InputError for no schedule, or a variance that is not above 0.
    """
    if not schedules or any(v <= 0 for _, variances in schedules.values() for v in variances.values()):
        raise InputError("signal_to_noise: expected one schedule or more, and variances above 0")
    figure, ((*row,),) = subplots((6 * len(schedules), 4), 1, len(schedules), sharey=True, squeeze=False)
    for axes, (title, (alpha_bar, variances)) in zip(row, schedules.items(), strict=True):
        for (name, variance), colour in zip(variances.items(), PALETTE, strict=False):
            axes.plot(variance * alpha_bar / (1 - alpha_bar), color=colour, label=f"{name}: variance {variance:.3g}")
        axes.axhline(1, color="#777777", lw=1, ls="--")
        axes.set(title=title, xlabel="timestep t", yscale="log", ylim=(1e-4, 1e4))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left")
    row[0].set_ylabel("signal to noise, ratio of variances")
    return figure


def _beside(latent: np.ndarray, images: Mapping[str, np.ndarray], limit: float) -> Figure:
    """Panels of a latent's channels, then of images with their titles."""
    if latent.ndim != 3:
        raise InputError(f"channels: the latent is {latent.shape}, expected (h, w, C)")
    maps = list(np.clip(latent / limit, -1, 1).transpose(2, 0, 1))
    titles = [f"channel {i}" for i in range(len(maps))]
    return panels([*maps, *images.values()], [*titles, *images], limits=(-1, 1), cmap="RdBu_r")
