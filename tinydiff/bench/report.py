"""Benchmark rows as lines of text, as JSON, and as an image."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinydiff.bench.timing import Timing, geometric_mean
from tinydiff.cli.results import write_json
from tinydiff.errors import InputError
from tinydiff.viz.figures import save_figure, subplots


def line(row: Timing) -> str:
    """One row: what, how long or how much, what it is compared with, the ratio, the rate."""
    value = _bytes if row.group == "memory" else _time
    text = f"{row.group:<22} {row.name:<42} {value(row.ours):>9}"
    if row.theirs is not None and row.ratio is not None:
        text += f"   {row.against} {value(row.theirs):>9}   ratio {row.ratio:8.2f}"
    return text + (f"   {row.rate:6.0f} GFLOP/s" if row.rate is not None else "")


def summary(rows: Sequence[Timing]) -> list[str]:
    """Geometric means of the ratios of 3×3 convolutions over the shapes of `conv.SHAPES`."""
    from tinydiff.bench.conv import SHAPES

    names, lines = {str(shape) for shape in SHAPES}, []
    for group in ("forward", "forward and gradients"):
        ratios = [row.ratio for row in rows if row.group == group and row.name in names and row.ratio]
        if ratios:
            mean, least = geometric_mean(ratios), min(ratios)
            lines.append(f"{group:<22} {'geometric mean of 3×3':<42} ratio {mean:.2f}, least {least:.2f}")
    return lines


def write_rows(path: Path, rows: Sequence[Timing], conditions: dict[str, Any]) -> None:
    entries = [{**asdict(row), "ratio": row.ratio, "gflops": row.rate} for row in rows]
    write_json(path, {"conditions": conditions, "rows": entries})


def write_image(path: Path, rows: Sequence[Timing], conditions: dict[str, Any]) -> None:
    """A bar for each ratio to PyTorch, the line at 1; without PyTorch for each rate, the line at the machine's peak.

    Raises InputError where the rows have neither.
    """
    shown = [(row, row.ratio, f"{row.ratio:.2f}") for row in rows if row.ratio is not None and row.against == "PyTorch"]
    where = f"on {conditions['threads']} threads with {conditions['instructions']}"
    line, caption = 1.0, f"times as fast as PyTorch {conditions['torch']}, {where}\n(memory: PyTorch's over tinydiff's)"
    if not shown:
        shown = [(row, row.rate, f"{row.rate:.0f}") for row in rows if row.rate is not None]
        line, caption = conditions["peak, GFLOP/s"], f"GFLOP/s, {where}; the line is the peak of multiply-adds"
    if not shown:
        raise InputError("bench: nothing to draw, these groups have no rates and PyTorch is not installed")
    figure, axes = subplots((8, 0.9 + 0.3 * len(shown)))
    colours = {"forward": "#9ecae1", "forward and gradients": "#4292c6"}
    largest = max(value for _, value, _ in shown)
    for i, (row, value, text) in enumerate(reversed(shown)):
        axes.barh(i, value, color=colours.get(row.group, "#08519c"), height=0.72)
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(value + 0.015 * largest, i, text, va="center", fontsize=8, bbox=behind)
    axes.set_yticks(range(len(shown)), [f"{row.group}: {row.name}" for row, _, _ in reversed(shown)], fontsize=8)
    axes.axvline(line, color="#333333", linewidth=1)
    axes.set_xlabel(caption, fontsize=8)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, 1.12 * max(largest, line))
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, dpi=130)


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _bytes(count: float) -> str:
    return f"{count / 2**20:.0f} MB"
