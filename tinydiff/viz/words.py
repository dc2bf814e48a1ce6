"""Words to look at: vectors in the plane, who listens to whom, and where in an image a word acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinydiff.errors import InputError
from tinydiff.viz.figures import PALETTE, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def principal_plane(vectors: np.ndarray) -> np.ndarray:
    """The coordinates (N, 2) of vectors (N, D) in the plane in which they differ most; the signs are fixed."""
    centred = vectors - vectors.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2] * np.sign(directions[:2, np.abs(directions[:2]).argmax(1)].diagonal())[:, None]
    return centred @ directions.T


def word_map(vectors: np.ndarray, words: Sequence[str], kinds: Mapping[str, Sequence[str]]) -> Figure:
    """Word vectors (V, D) in their principal plane, each with its word, coloured by kind: name → its words.

    Raises InputError where there is not one word for each vector.
    """
    if len(vectors) != len(words):
        raise InputError(f"word_map: {len(words)} words for {len(vectors)} vectors, expected one for each")
    places = principal_plane(vectors)
    figure, axes = subplots((11, 7.6))
    colours: dict[str, str] = {}
    for (kind, own), colour in zip(kinds.items(), PALETTE, strict=False):
        rows = [i for i, word in enumerate(words) if word in own]
        axes.scatter(places[rows, 0], places[rows, 1], s=30, color=colour, label=kind)
        colours |= {words[i]: colour for i in rows}
    spans = np.ptp(places, axis=0)
    labels = _apart(places / spans) * spans
    for word, place, label in zip(words, places, labels, strict=True):
        colour = colours.get(word, "#777777")
        line = {"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.6}
        axes.annotate(word, place, label, color=colour, fontsize=11, va="center", arrowprops=line)
    both = np.concatenate([places, labels])
    axes.set_xlim(both[:, 0].min() - 0.05 * spans[0], both[:, 0].max() + 0.14 * spans[0])
    axes.set_ylim(both[:, 1].min() - 0.05 * spans[1], both[:, 1].max() + 0.05 * spans[1])
    axes.set(
        xlabel="first principal component", ylabel="second", title="word vectors in the plane of their largest spread"
    )
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _apart(places: np.ndarray, width: float = 0.11, height: float = 0.032) -> np.ndarray:
    """Where labels go that stand right of their places (N, 2), in a unit square, and none over another."""
    taken: list[np.ndarray] = []
    found = np.empty_like(places)
    for i in np.argsort(places[:, 1], kind="stable"):
        start, steps = places[i] + [0.03, 0], 0
        spot = start
        while any(abs(spot[0] - other[0]) < width and abs(spot[1] - other[1]) < height for other in taken):
            steps += 1  # a little up, a little down, further up, …
            spot = start + [0, height / 3 * ((steps + 1) // 2) * (1 if steps % 2 else -1)]
        taken.append(spot)
        found[i] = spot
    return found


def attention_table(weights: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str = "") -> Figure:
    """Attention weights (L, M) as a table: each row says whom its word listens to; rows sum to 1.

    Raises InputError where names and weights do not fit.
    """
    if weights.shape != (len(rows), len(columns)):
        raise InputError(f"attention_table: weights {weights.shape} for {len(rows)} rows and {len(columns)} columns")
    figure, axes = subplots((1.1 * len(columns) + 2.2, 0.62 * len(rows) + 1.4))
    axes.imshow(weights, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for i, j in np.ndindex(weights.shape):
        axes.text(
            j, i, f"{weights[i, j]:.2f}", ha="center", va="center", color="white" if weights[i, j] > 0.6 else "black"
        )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(title=title, xlabel="answers", ylabel="asks")
    return figure


def overlay(image: np.ndarray, weights: np.ndarray, strength: float = 0.75) -> np.ndarray:
    """An image, uint8 (H, W, 3), dimmed where `weights` (h, w) are small: floats (H, W, 3) in [0, 1].

    h and w must divide H and W; the largest weight leaves its place as it is.  Raises InputError otherwise.
    """
    height, width = image.shape[:2]
    if weights.ndim != 2 or height % weights.shape[0] or width % weights.shape[1]:
        raise InputError(f"overlay: weights {weights.shape} do not divide an image of {image.shape}")
    large = weights.repeat(height // weights.shape[0], 0).repeat(width // weights.shape[1], 1)
    low, high = large.min(), large.max()
    light = (large - low) / (high - low) if high > low else np.ones_like(large)
    return image / 255 * (1 - strength + strength * light)[..., None]
