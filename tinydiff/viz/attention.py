"""Where each word of a prompt acts, as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinydiff.apps.attention_maps import AttentionMaps
from tinydiff.viz.figures import subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5  # steps in the figure


def attention_figure(found: AttentionMaps) -> Figure:
    """A figure: above, what the network expects at some of the steps; below, where each word acts then."""
    steps = len(found.maps)
    columns = sorted({round(i) for i in np.linspace(0, steps - 1, min(SHOWN, steps))})
    rows = len(found.words) + 1
    size = 1.5 * (len(columns) + 1) + 1.2, 1.5 * rows
    no_ticks: dict[str, list] = {"xticks": [], "yticks": []}
    figure, axes = subplots(size, rows, len(columns) + 1, squeeze=False, subplot_kw=no_ticks)
    for place, step in enumerate([*columns, None]):
        axes[0, place].imshow(found.image if step is None else found.predicted[step])
        axes[0, place].set_title("the image; mean" if step is None else f"step {step + 1}", fontsize=11)
        for row, maps in enumerate(found.maps.transpose(1, 0, 2, 3), start=1):
            shown = maps.mean(0) if step is None else maps[step]
            mesh = axes[row, place].imshow(shown, vmin=0, vmax=found.maps.mean(0).max(), cmap="viridis")
    for row, name in enumerate(["expected", *found.words]):
        axes[row, 0].set_ylabel(name, fontsize=12, rotation=0, ha="right", va="center")
    figure.colorbar(mesh, ax=axes[1:, -1], shrink=0.8, label="weight of the word")
    return figure
