"""What a convolution does, to look at: one window at a time, kernel by kernel, stride by stride; and how fast it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinydiff.errors import InputError
from tinydiff.ops import conv2d
from tinydiff.viz.figures import PALETTE, SIGNED, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EDGE = PALETTE[1]  # of the window


def window(step: int, x: np.ndarray, w: np.ndarray, stride: int = 1, padding: int = 0) -> Figure:
    """Step `step` of the kernel's way over an image, row by row: window, kernel, products, their sum, output so far.

    x (H, W), w (KH, KW); steps count from 0 to H'·W' − 1.  Raises InputError for other shapes or another step.
    """
    y = convolved(x, w, stride, padding)
    if not 0 <= step < y.size:
        raise InputError(f"window: step {step}, expected 0 … {y.size - 1} for an output of {y.shape}")
    i, j = divmod(step, y.shape[1])
    padded = np.pad(x, padding)
    top, left = i * stride, j * stride
    here = padded[top : top + w.shape[0], left : left + w.shape[1]]
    done = np.where(np.arange(y.size).reshape(y.shape) <= step, y, np.nan)

    figure, axes = subplots((13, 2.75), 1, 5, width_ratios=(1.35, 1, 1, 1, 1.35))
    low, high = float(padded.min()), max(float(padded.max()), float(padded.min()) + 1e-9)
    _grid(axes[0], padded, f"image, padding {padding}" if padding else "image")
    axes[0].images[0].set(cmap="gray", clim=(low, high))
    _outline(axes[0], top, left, w.shape)
    _numbers(axes[1], here, "window", "gray", (low, high))
    _numbers(axes[2], w, "× kernel", SIGNED, _around_zero(w))
    _numbers(axes[3], here * w, f"products, sum {_short(y[i, j])}", SIGNED, _around_zero(padded.max() * w))
    _grid(axes[4], done, f"output ({i}, {j})")
    axes[4].images[0].set(cmap=SIGNED, clim=_around_zero(y))
    _outline(axes[4], i, j, (1, 1))
    return figure


def convolved(x: np.ndarray, w: np.ndarray, stride: int = 1, padding: int = 0) -> np.ndarray:
    """One channel in, one out: x (H, W) and w (KH, KW) → (H', W'), in x's type.  Raises InputError for other shapes."""
    if x.ndim != 2 or w.ndim != 2:
        raise InputError(f"convolved: x must be (H, W) and w (KH, KW), not {x.shape}, {w.shape}")
    w = w.astype(x.dtype)[..., None, None]
    return conv2d.forward(x[None, ..., None], w, stride=stride, padding=padding)[0][0, ..., 0]


def applied(image: np.ndarray, kernels: Mapping[str, np.ndarray]) -> Figure:
    """An image (H, W) and, under each named kernel (KH, KW), what the kernel makes of it, with zeros around it.

    Results of a kernel whose numbers sum to zero are shown in red and blue around zero, others in the image's greys.
    Raises InputError for no kernels, or kernels with an even side, which have no middle.
    """
    if not kernels or any(side % 2 == 0 for w in kernels.values() for side in w.shape):
        raise InputError(f"applied: kernels of {[w.shape for w in kernels.values()]}, expected odd sides, one or more")
    figure, axes = subplots((2.15 * (len(kernels) + 1), 4.6), 2, len(kernels) + 1)
    axes[0, 0].axis("off")
    _grid(axes[1, 0], image, "the image")
    axes[1, 0].images[0].set(cmap="gray")
    for (name, w), (above, below) in zip(kernels.items(), axes[:, 1:].T, strict=True):
        _numbers(above, w, name, SIGNED, _around_zero(w))
        y = convolved(image, w, padding=w.shape[0] // 2)
        _grid(below, y, "")
        if abs(w.sum()) < 1e-6:  # it answers differences
            below.images[0].set(cmap=SIGNED, clim=_around_zero(y))
        else:
            below.images[0].set(cmap="gray", clim=(image.min(), image.max()))
    return figure


def strides(height: int, width: int, size: int, settings: Sequence[tuple[int, int]]) -> Figure:
    """Where a size × size kernel stands on an image, for each (stride, padding): a dot for each output number.

    Padding is grey; the first two windows of a row are outlined.  Raises InputError where the kernel does not fit.
    """
    figure, row = subplots((3.1 * len(settings), 3.9), 1, len(settings), squeeze=False)
    for axes, (stride, padding) in zip(row[0], settings, strict=True):
        y = convolved(np.ones((height, width)), np.ones((size, size)), stride, padding)
        padded = np.pad(np.ones((height, width)), padding)
        _grid(axes, padded, f"stride {stride}, padding {padding}\n{height}×{width} → {y.shape[0]}×{y.shape[1]}")
        axes.images[0].set(cmap="gray", clim=(-2, 1))
        axes.set_xticks(np.arange(padded.shape[1] + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(padded.shape[0] + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="0.8", linewidth=1)
        axes.tick_params(which="minor", length=0)
        for number, colour in zip(range(min(2, y.shape[1])), (PALETTE[1], PALETTE[0]), strict=False):
            _outline(axes, 0, number * stride, (size, size), colour)
        rows, columns = (stride * np.indices(y.shape) + (size - 1) / 2).reshape(2, -1)
        axes.plot(columns, rows, "o", color=PALETTE[0], markersize=6)
    return figure


def bars(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    title: str,
    unit: str,
    form: str = "{:.3g}",
    log: bool = True,
) -> Figure:
    """A group of bars for each name, one of each series, each with its value; NaN leaves a gap.

    Raises InputError for a series that has not one number above zero (or NaN) for each name.
    """
    values = {name: np.asarray(numbers, float) for name, numbers in series.items()}
    if not values or any(v.shape != (len(names),) or (v <= 0).any() for v in values.values()):
        raise InputError(f"bars: expected a number above zero for each of {len(names)} names, got {dict(series)}")
    thick = 0.8 / len(values)
    figure, axes = subplots((11, 1.2 + 0.4 * len(names) * len(values) ** 0.8))
    for row, (name, numbers) in enumerate(values.items()):
        places = np.arange(len(names)) + (row - (len(values) - 1) / 2) * thick
        group = axes.barh(places, numbers, 0.9 * thick, color=PALETTE[row % len(PALETTE)], label=name)
        texts = ["" if np.isnan(number) else form.format(number) for number in numbers]
        axes.bar_label(group, texts, padding=4, fontsize=12)
    axes.set(xscale="log" if log else "linear", title=title, xlabel=unit)
    least, most = (reduce([reduce(v) for v in values.values()]) for reduce in (np.nanmin, np.nanmax))
    room = (least / 2, most * (most / least) ** 0.12 * 1.2) if log else (0, 1.12 * most)  # for the longest one's text
    axes.set_xlim(*room)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    if len(values) > 1:
        figure.legend(loc="outside lower right", ncols=len(values), frameon=False)
    return figure


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, x: str, y: str, log: bool = False
) -> Figure:
    """Curves (abscissae, ordinates) by their names, one colour each.  Raises InputError for none."""
    if not series:
        raise InputError("lines: no curves to draw")
    figure, axes = subplots((9, 3.6))
    for name, (abscissae, ordinates) in series.items():
        axes.plot(abscissae, ordinates, "o-", markersize=4, label=name)
    axes.set(title=title, xlabel=x, ylabel=y, yscale="log" if log else "linear")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _grid(axes: Axes, values: np.ndarray, title: str) -> None:
    axes.imshow(values)
    axes.set(title=title, xticks=[], yticks=[])


def _numbers(axes: Axes, values: np.ndarray, title: str, cmap: str, limits: tuple[float, float]) -> None:
    """The array with its numbers written into its cells, dark on bright and bright on dark."""
    _grid(axes, values, title)
    axes.images[0].set(cmap=cmap, clim=limits)
    for (i, j), value in np.ndenumerate(values):
        red, green, blue, _ = axes.images[0].to_rgba(value)
        ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        axes.text(j, i, _short(value), ha="center", va="center", color=ink, fontsize=13 if len(values) < 5 else 9)


def _short(value: float) -> str:
    """Two decimals at most, and a minus sign that is as wide as a plus."""
    return f"{round(float(value), 2) + 0.0:g}".replace("-", "−")


def _outline(axes: Axes, top: int, left: int, shape: tuple[int, ...], colour: str = EDGE) -> None:
    from matplotlib.patches import Rectangle

    corner = left - 0.5, top - 0.5
    axes.add_patch(Rectangle(corner, shape[1], shape[0], fill=False, edgecolor=colour, linewidth=3, clip_on=False))


def _around_zero(values: np.ndarray) -> tuple[float, float]:
    most = max(float(abs(values).max()), 1e-9)
    return -most, most
