"""Diffusion to look at: schedules, an image at many noise levels, the way back step by step, and the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydiff.diffusion.samplers import Options
from tinydiff.errors import InputError
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.viz.figures import PALETTE, panels, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def schedules(*chosen: Any) -> Figure:
    """ᾱ of each Schedule, and the signal-to-noise ratio ᾱ/(1 − ᾱ) on a log scale, against the timestep."""
    figure, (left, right) = subplots((10, 3.6), 1, 2)
    for schedule, colour in zip(chosen, PALETTE, strict=False):
        alpha_bar = schedule.alpha_bar
        left.plot(alpha_bar, color=colour, label=schedule.name)
        right.plot(alpha_bar / (1 - alpha_bar), color=colour)
    left.set(title="share of the image, ᾱ", xlabel="timestep t", ylabel="ᾱ")
    right.set(title="signal-to-noise ratio", xlabel="timestep t", ylabel="ᾱ/(1 − ᾱ)", yscale="log", ylim=(1e-4, 1e4))
    left.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


@dataclass(frozen=True)
class Process:
    """How one image was generated: images in [0, 1], (steps, H, W, 3) each, and the steps' timesteps."""

    states: np.ndarray  # x after each step, decoded
    guesses: np.ndarray  # x̂0 at each step, decoded: the image that the network expects
    timesteps: list[int]

    def draw(self, step: int) -> Figure:
        """The state before the step's work was used further, and the guess: for a stepper."""
        titles = [f"x after t = {self.timesteps[step]}", "x̂0, expected"]
        return panels([self.states[step], self.guesses[step]], titles, size=1.9)


def reverse_process(
    pipe: TextToImage, prompt: str, steps: int = 25, guidance_scale: float = 1.0, seed: int = 0, sampler: str = "ddim"
) -> Process:
    """Generate an image and keep what each step had.  Raises InputError as `pipe.generate` does."""
    pipe.check([prompt], steps, sampler=sampler)
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((1, *pipe.latent_shape), np.float32)
    options = Options(callback=lambda _, x, x0: seen.append((x[0], x0[0])))
    pipe.sample(pipe.encode_prompt([prompt]), noise, steps, rng, guidance_scale, sampler=sampler, options=options)

    def decoded(place: int) -> np.ndarray:
        return np.clip(pipe.autoencoder.decode(np.stack([pair[place] for pair in seen])) / 2 + 0.5, 0, 1)

    return Process(decoded(0), decoded(1), pipe.schedule.timesteps(steps))


def plane(
    paths: Sequence[np.ndarray],
    ends: dict[str, np.ndarray],
    targets: np.ndarray,
    groups: np.ndarray | None = None,
    followed: int = 60,
) -> Figure:
    """A diffusion in the plane: the paths of some samples, and where all samples end for each name in `ends`.

    paths: the samples (N, 2) at each step, fine; ends: title → samples (N, 2).  targets (P, 2): the data, shown as
    circles where they are few, else as grey dots.  groups: an index for each sample, which gives its colour; else that
    of the target at which its path ends.  Raises InputError for other shapes.
    """
    if any(p.ndim != 2 or p.shape[1] != 2 for p in [*paths, *ends.values(), targets]):
        raise InputError("plane: paths, ends and targets must be (N, 2)")
    if groups is None:
        groups = ((paths[-1][:, None] - targets) ** 2).sum(-1).argmin(1)
    colours = np.array(PALETTE)[groups % len(PALETTE)]
    figure, axes = subplots((3.3 * (1 + len(ends)), 3.6), 1, 1 + len(ends), sharex=True, sharey=True)
    first, *others = np.atleast_1d(axes)
    few = len(targets) <= 12
    for axes in (first, *others):
        if few:
            axes.scatter(*targets.T, s=90, facecolors="none", edgecolors="#333333")
        else:
            axes.scatter(*targets.T, s=3, color="#bbbbbb")
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
    for i in range(min(followed, len(colours))):
        first.plot(*np.array(paths)[:, i].T, color=colours[i], lw=0.8, alpha=0.8)
    first.scatter(*paths[0].T, s=4, color=colours)
    first.set_title(f"{min(followed, len(colours))} paths")
    for axes, (title, samples) in zip(others, ends.items(), strict=True):
        axes.scatter(*samples.T, s=6, color=colours)
        axes.set_title(title)
    return figure
