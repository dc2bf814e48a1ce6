"""Figures that can be read from the last row: large text, colours that the colour-blind can tell apart."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydiff.errors import InputError
from tinydiff.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe & Ito
SIGNED, POSITIVE = "RdBu_r", "viridis"  # colour maps: values around zero; values from zero up


def style() -> None:
    """Set matplotlib up as all notebooks have it; a cell that ends with a Figure shows it."""
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(
        {
            "font.size": 13,
            "axes.titlesize": 14,
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.grid": False,
            "grid.alpha": 0.3,
            "figure.dpi": 72,
            "figure.constrained_layout.use": True,
            "image.interpolation": "nearest",
            "lines.linewidth": 2,
        }
    )
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        shell.display_formatter.formatters["image/png"].for_type(Figure, _as_png)


def _as_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    return buffer.getvalue()


def subplots(size: tuple[float, float], rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of (width, height) inches and its axes, as pyplot's `subplots`, without pyplot's window behind it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def panels(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    size: float = 2.2,
    cmap: str | None = None,
    limits: tuple[float, float] | None = None,
    bar: bool = False,
) -> Figure:
    """Arrays side by side, each (H, W), or (H, W, 3) uint8 or in [0, 1]; returns the Figure.

    A (H, W) array with values below zero is shown in red and blue around zero, another from dark to bright; `cmap` and
    `limits`, one for all, override that.  size: inches of a panel.  bar: a colour bar for all (needs `limits`).
    Raises InputError for no images, another shape, or titles that are not one for each.
    """
    images = [np.asarray(image) for image in images]
    if not images or any(i.ndim not in (2, 3) or (i.ndim == 3 and i.shape[2] != 3) for i in images):
        shapes = ", ".join(str(i.shape) for i in images) or "none"
        raise InputError(f"panels: images are {shapes}, expected at least one, (H, W) or (H, W, 3)")
    if titles is not None and len(titles) != len(images):
        raise InputError(f"panels: {len(titles)} titles for {len(images)} images, expected one for each")
    if bar and limits is None:
        raise InputError("panels: a colour bar for all needs limits")
    columns = min(columns or len(images), len(images))
    rows = math.ceil(len(images) / columns)
    height = size + 0.35 * (titles is not None)
    figure, axes = subplots((size * columns, height * rows), rows, columns, squeeze=False)
    for own in axes.flat:
        own.axis("off")
    mesh = None
    for own, image, title in zip(axes.flat, images, titles or [""] * len(images), strict=False):
        if image.ndim == 3:
            own.imshow(image)
        else:
            low, high = limits or _limits(image)
            mesh = own.imshow(image, cmap=cmap or (SIGNED if low < 0 else POSITIVE), vmin=low, vmax=high)
        own.set_title(title)
    if bar and mesh is not None:
        figure.colorbar(mesh, ax=axes, shrink=0.8)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 100) -> None:
    """The figure as a PNG file, which appears whole or not at all."""
    with written_whole(path) as beside:
        figure.savefig(beside, format="png", dpi=dpi)


def _limits(image: np.ndarray) -> tuple[float, float]:
    low, high = float(image.min()), float(image.max())
    return (-max(-low, high), max(-low, high)) if low < 0 else (low, high)
