"""Diffusion to look at: schedules, the way back step by step, and the plane, where the perfect network is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydiff.diffusion.iadb import Direction
from tinydiff.diffusion.samplers import Options
from tinydiff.errors import InputError
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.viz.figures import PALETTE, panels, subplots
from tinydiff.viz.latents import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def schedules(*chosen: Any) -> Figure:
    """ᾱ of each Schedule, and the signal-to-noise ratio ᾱ/(1 − ᾱ) on a log scale, against the timestep."""
    figure, (left, right) = subplots((10, 3.6), 1, 2, grid=True)
    for schedule, colour in zip(chosen, PALETTE, strict=False):
        alpha_bar = schedule.alpha_bar
        left.plot(alpha_bar, color=colour, label=schedule.name)
        right.plot(alpha_bar / (1 - alpha_bar), color=colour)
    left.set(title="share of the image, ᾱ", xlabel="timestep t", ylabel="ᾱ")
    right.set(title="signal-to-noise ratio", xlabel="timestep t", ylabel="ᾱ/(1 − ᾱ)", yscale="log", ylim=(1e-4, 1e4))
    left.legend()
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
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    options = Options(callback=lambda _, x, x0: seen.append((x[0], x0[0])))
    pipe.generate([prompt], steps, guidance_scale, seed=seed, sampler=sampler, options=options)

    def decoded(place: int) -> np.ndarray:
        return shown(pipe.autoencoder.decode(np.stack([pair[place] for pair in seen])))

    return Process(decoded(0), decoded(1), pipe.schedule.timesteps(steps))


def exact_direction(points: np.ndarray) -> Direction:
    """The D that a perfect network would learn, where x0 ~ N(0, 1) and x1 is one of `points` (P, D), each as likely.

        E[x1 | x] = Σ w_i·x1_i,   w_i ∝ exp(−‖x − α·x1_i‖² / (2·(1 − α)²)),   E[x0 | x] = (x − α·E[x1 | x])/(1 − α)

    In the plane it shows what deblending does, with nothing to train: every sample of noise ends at one of the points.
    """
    if points.ndim != 2 or not len(points):
        raise InputError(f"exact_direction: points are {points.shape}, expected (P, D), one or more")

    def direction(x: Any, alpha: float) -> Any:
        squares = ((x[:, None] - alpha * points) ** 2).sum(-1)  # (N, P)
        exponents = -squares / (2 * (1 - alpha) ** 2)
        weights = np.exp(exponents - exponents.max(1, keepdims=True))
        x1 = weights @ points / weights.sum(1, keepdims=True)  # (N, D)
        return x1 - (x - alpha * x1) / (1 - alpha)

    return direction


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
    figure, axes = subplots((3.3 * (1 + len(ends)), 3.6), 1, 1 + len(ends), grid=True, sharex=True, sharey=True)
    first, *others = np.atleast_1d(axes)
    circle = {"s": 90, "facecolors": "none", "edgecolors": "#333333"}
    for axes in (first, *others):
        axes.scatter(*targets.T, **(circle if len(targets) <= 12 else {"s": 3, "color": "#bbbbbb"}))
        axes.set_aspect("equal")
    for path, colour in zip(np.stack(paths, 1)[:followed], colours, strict=False):
        first.plot(*path.T, color=colour, lw=0.8, alpha=0.8)
    first.scatter(*paths[0].T, s=4, color=colours)
    first.set_title(f"{min(followed, len(colours))} paths")
    for axes, (title, samples) in zip(others, ends.items(), strict=True):
        axes.scatter(*samples.T, s=6, color=colours)
        axes.set_title(title)
    return figure
