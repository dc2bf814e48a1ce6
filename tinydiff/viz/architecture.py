"""The latent diffusion model as one figure, its shapes and sizes read off the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinydiff.apps.summary import LayerSummary, summary
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.viz.figures import PALETTE, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS, LATENTS, TEXT = "#fbe3d6", "#ddebf7", "#e2f0d9"  # the three spaces' backgrounds
BLUE, ORANGE, GREEN, *_ = PALETTE
Point = tuple[float, float]


def parts(pipe: TextToImage) -> dict[str, LayerSummary]:
    """Encoder, decoder, U-Net and text encoder of a latent model, each run once on one image (see `summary`).

    Raises InputError for a model of pixels, which has no autoencoder.
    """
    if not isinstance(pipe.autoencoder, Autoencoder):
        raise InputError("parts: this model works on pixels, there is no autoencoder to show")
    latent = np.zeros((1, *pipe.latent_shape), np.float32)
    image = np.zeros((1, pipe.size, pipe.size, 3), np.float32)
    words = pipe.encode_prompt(["a"])
    return {
        "encoder": summary(pipe.autoencoder.encoder, image, depth=0).total,
        "decoder": summary(pipe.autoencoder.decoder, latent, depth=0).total,
        "unet": summary(pipe.denoiser.unet, latent, np.zeros(1), words, depth=0).total,
        "text encoder": summary(pipe.denoiser.text_encoder, pipe.vocabulary.unconditional(1), depth=0).total,
    }


def architecture(pipe: TextToImage, steps: int = 25) -> Figure:
    """The figure of the latent diffusion paper, with this model's shapes, parameters and multiply-adds.

    (Rombach 2022, arXiv:2112.10752, figure 3)
    """
    found = parts(pipe)
    latent, size = "×".join(map(str, pipe.latent_shape)), pipe.size
    length, width = found["text encoder"].shape[1:]
    figure, axes = subplots((13, 6.2), bare=True)
    axes.set(xlim=(0, 130), ylim=(0, 60))
    _space(axes, 1, 34, PIXELS, "pixel space")
    _space(axes, 37, 55, LATENTS, "latent space")
    _space(axes, 94, 35, TEXT, "text")

    _box(axes, 12, 37, 20, 12, f"encoder\n{_size(found['encoder'])}", BLUE)
    _box(axes, 12, 8, 20, 12, f"decoder\n{_size(found['decoder'])}", BLUE)
    name = "cosine" if pipe.schedule.name == "squaredcos_cap_v2" else pipe.schedule.name
    levels = f"noise: {pipe.schedule.num_train_timesteps:,} levels\n{name} schedule"
    _box(axes, 53, 37, 28, 12, levels, ORANGE)
    predicted = pipe.prediction_type.removesuffix("_prediction")
    unet = f"U-Net, called {steps} times\npredicts {predicted}\n{_size(found['unet'])}"
    _box(axes, 45, 6, 38, 16, unet, BLUE)
    _box(axes, 100, 8, 23, 12, f"text encoder\n{_size(found['text encoder'])}", GREEN)
    _box(axes, 100, 37, 23, 12, f"Word2Vec\n{len(pipe.vocabulary)} words", GREEN)

    _arrow(axes, (3, 43), (12, 43), f"{size}×{size}×3\nimage", "left")
    _arrow(axes, (32, 43), (53, 43), f"z: {latent}")
    _arrow(axes, (77, 37), (77, 22), "$z_T$: noise", "right")
    _arrow(axes, (45, 14), (32, 14), "$z_0$")
    _arrow(axes, (12, 14), (3, 14), f"{size}×{size}×3\nimage", "left")
    _arrow(axes, (111.5, 37), (111.5, 20), f"{length}×{width}", "right")
    _arrow(axes, (100, 14), (83, 14), "cross-\nattention")
    axes.text(126, 53.5, "“a red dress …”", ha="right", va="center", fontsize=11, style="italic")
    _arrow(axes, (118, 52), (118, 49), "")
    _arrow(axes, (50, 22), (70, 22), "", bend=-0.45)  # the loop of the U-Net
    axes.text(60, 28.4, f"$z_{{t}}$ → $z_{{t−1}}$, {latent}", ha="center", fontsize=12)
    return figure


def _size(row: LayerSummary) -> str:
    return f"{_short(row.parameters)} parameters\n{_short(row.multiply_adds)} multiply-adds"


def _short(number: int) -> str:
    """3,951,300 → "4.0 M"."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def _space(axes: Any, left: float, width: float, colour: str, name: str) -> None:
    _rounded(axes, (left, 2), width, 55, 2, fc=colour, ec="none", zorder=0)
    axes.text(left + 2, 53.5, name, fontsize=14, weight="bold", va="center")


def _box(axes: Any, left: float, bottom: float, width: float, height: float, text: str, colour: str) -> None:
    _rounded(axes, (left, bottom), width, height, 1, fc="white", ec=colour, lw=2)
    name, *rest = text.split("\n")
    x, centred = left + width / 2, {"ha": "center", "va": "center"}
    axes.text(x, bottom + height - 2.6, name, weight="bold", fontsize=12, color=colour, **centred)
    axes.text(x, bottom + (height - 4) / 2, "\n".join(rest), fontsize=10.5, **centred)


def _rounded(axes: Any, corner: Point, width: float, height: float, radius: int, **style: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=f"round,pad=0,rounding_size={radius}", **style))


def _arrow(axes: Any, start: Point, end: Point, text: str, side: str = "above", bend: float = 0) -> None:
    style = {"arrowstyle": "->", "lw": 1.8, "color": "#333333", "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", end, start, arrowprops=style)
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if side == "right":
        axes.text(x + 1, y, text, ha="left", va="center", fontsize=11)
    elif side == "left":
        axes.text(2, y + 1, text, ha="left", va="bottom", fontsize=10.5)
    else:
        axes.text(x, y + 1, text, ha="center", va="bottom", fontsize=11)
