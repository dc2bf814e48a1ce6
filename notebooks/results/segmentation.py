"""What the U-Net of 2015 is worth: against thresholds, against itself without skip connections, and from how little.

    python notebooks/results/segmentation.py -o DIR

Everything learns from the left half of the shipped image of nuclei (thresholds are chosen by it) and is measured on the
right half.  Writes a table (figures.json) and two images (methods.png, tiles.png) to DIR.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from studies import program, run
from tinydiff.apps.data.image_files import Pair
from tinydiff.apps.data.nuclei import load_nuclei
from tinydiff.apps.grid import save_grid
from tinydiff.cli.choices import SEGMENTATION_PRESETS
from tinydiff.cli.results import write_json
from tinydiff.cli.types import at_least
from tinydiff.segmentation import Segmenter, find_cells, normaliser
from tinydiff.segmentation.images import errors, overlay, shown
from tinydiff.segmentation.metrics import objects, overlap
from tinydiff.segmentation.presets import SegmentationPreset, segmentation_preset
from tinydiff.segmentation.training import train_on_pairs
from tinydiff.viz.figures import save_figure, subplots

TILES = (1, 2, 4, 8, 16, 32)
STEPS = (100, 300, 1_000)  # skip connections are worth most where there is little training
SIDE = 64  # pixels of a training tile: 32 of them make the left half


@dataclass(frozen=True)
class SegmentationResult:
    """One method on the right half."""

    method: str
    iou: float
    dice: float
    accuracy: float
    f1: float  # of single cells, paired from an IoU of 0.5 on
    cell_iou: float  # of the pairs
    parameters: int = 0
    seconds: float = 0.0


def measured(
    method: str, mask: np.ndarray, cells: np.ndarray, truth: np.ndarray, parameters: int = 0, seconds: float = 0.0
) -> SegmentationResult:
    pixels, single = overlap(mask, truth), objects(cells, truth)
    figures = pixels.iou, pixels.dice, pixels.accuracy, single.f1, single.iou
    return SegmentationResult(method, *figures, parameters, seconds)


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that parts the values into two classes with the least variance within them.  (Otsu 1979)"""
    counts, edges = np.histogram(values, bins)
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * middles) / np.maximum(below, 1)
    mean_above = (np.cumsum((counts * middles)[::-1]) / np.maximum(above[::-1], 1))[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(middles[np.argmax(between)])


def thresholds(left: Pair, right: Pair) -> Iterator[tuple[SegmentationResult, np.ndarray]]:
    """Methods that learn nothing, or one number."""

    def smoothed(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(np.log1p(image.astype(np.float64)), 1.0)

    image, truth = right
    log = smoothed(image)
    levels = np.linspace(log.min(), log.max(), 200)
    best = max(levels, key=lambda level: overlap(smoothed(left[0]) > level, left[1]).iou)
    for method, mask in (
        ("Otsu's threshold", image > otsu(image)),
        ("Otsu's threshold of the smoothed logarithm", log > otsu(log)),
        ("the threshold that is best on the left half", log > best),
    ):
        yield measured(method, mask, find_cells(mask.astype(np.float32)), truth), mask


def trained(
    method: str, pairs: list[Pair], preset: SegmentationPreset, strip: float
) -> tuple[SegmentationResult, np.ndarray]:
    """A network that learnt from these pairs, on the right half."""
    left, (image, truth) = load_nuclei("left")[0], load_nuclei("right")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        learnt = train_on_pairs(pairs, preset, Path(folder), validation_strip=strip, prepare=normaliser(left, 1))
    seconds = time.monotonic() - start
    found = Segmenter(learnt.model).segment(image)
    parameters = sum(p.data.size for p in learnt.model.parameters())
    return measured(method, found.mask, found.cells, truth, parameters=parameters, seconds=seconds), found.mask


def methods(preset: SegmentationPreset) -> Iterator[tuple[SegmentationResult, np.ndarray]]:
    """Thresholds, then the network without skip connections and with them, after few steps and after many."""
    left = load_nuclei("left")
    yield from thresholds(left, load_nuclei("right"))
    for steps in STEPS:
        for name, skips in (("without skip connections", False), ("U-Net", True)):
            optim, model = replace(preset.optim, steps=steps), replace(preset.model, skips=skips)
            settings = replace(preset, optim=optim, model=model)
            yield trained(f"{name}, {steps} steps", [left], settings, strip=0.2)


def curve(preset: SegmentationPreset, steps: int, seeds: int) -> dict[int, list[SegmentationResult]]:
    """The U-Net from 1, 2, 4 … tiles of the left half, each as many steps; each seed draws its own tiles at random."""
    image, labels = load_nuclei("left")
    places = [(top, left) for top in range(0, 512, SIDE) for left in range(0, 256, SIDE)]
    tiles = [(image[t : t + SIDE, x : x + SIDE], labels[t : t + SIDE, x : x + SIDE]) for t, x in places]
    pixels = preset.optim.batch * preset.size**2
    rows: dict[int, list[SegmentationResult]] = {count: [] for count in TILES}
    for seed in range(seeds):
        shuffled = np.random.default_rng(seed).permutation(len(tiles))
        order = sorted(shuffled, key=lambda i: not (tiles[i][1] > 0).any())  # one tile alone must hold a cell
        optim = replace(preset.optim, steps=steps, batch=pixels // SIDE**2)
        small = replace(preset, optim=optim, size=SIDE, seed=seed)
        for count in TILES:
            rows[count].append(trained(f"{count} tiles", [tiles[i] for i in order[:count]], small, strip=0)[0])
            say(rows[count][-1])
    return rows


def say(row: SegmentationResult) -> None:
    print(
        f"{row.method:<46} IoU {row.iou:.3f}   Dice {row.dice:.3f}   pixels {100 * row.accuracy:5.1f} %   "
        f"cells: F1 {row.f1:.3f}, IoU {row.cell_iou:.3f}   {row.parameters:9,} parameters, {row.seconds:4.0f} s",
        flush=True,
    )


def compared(found: list[tuple[SegmentationResult, np.ndarray]], path: Path) -> None:
    """The right half, its truth, and each method's errors."""
    image, truth = load_nuclei("right")
    panels, captions = [shown(image), overlay(image, truth)], ["the right half", "the truth"]
    for row, mask in found:
        panels.append(errors(mask, truth))
        captions.append(f"{row.method}: IoU {row.iou:.3f}, F1 {row.f1:.3f}")
    save_grid(np.stack(panels), path, captions, columns=len(panels), scale=1)


def plot(rows: dict[int, list[SegmentationResult]], threshold: SegmentationResult, path: Path) -> None:
    """Intersection over union and F1 of cells against the number of tiles; each seed a point."""
    figure, panels = subplots((10, 4), 1, 2)
    titles = {"iou": "intersection over union", "f1": "F1 of single cells"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        values = {count: [getattr(row, name) for row in own] for count, own in rows.items()}
        for count, own in values.items():
            axes.plot([count] * len(own), own, ".", color="#9ecae1", ms=9)
        means = [np.mean(own) for own in values.values()]
        axes.plot(list(values), means, color="#08519c", linewidth=2, label="U-Net, mean")
        axes.axhline(getattr(threshold, name), color="#d55e00", linestyle="--", label=threshold.method)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(rows), [str(count) for count in rows])
        axes.set(title=title, xlabel=f"training tiles of {SIDE}×{SIDE} pixels", ylim=(0.4, 1))
        axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save_figure(figure, path, dpi=110)


def main() -> None:
    parser = program("segmentation", __doc__, out="segmentation")
    parser.add_argument("--preset", choices=SEGMENTATION_PRESETS, default="full", help="the networks compared")
    parser.add_argument("--steps", type=at_least(1), default=300, help="of each training for the curve over tiles")
    parser.add_argument("--seeds", type=at_least(1), default=3, help="trainings for each number of tiles")
    args = parser.parse_args()
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for row, mask in methods(segmentation_preset(args.preset)):
        found.append((row, mask))
        say(row)
    threshold = found[2]
    compared([threshold, *found[3:5], found[-1]], out / "methods.png")
    rows = curve(segmentation_preset("quick"), args.steps, args.seeds)
    plot(rows, threshold[0], out / "tiles.png")
    figures = {
        "methods": [asdict(row) for row, _ in found],
        "tiles": {str(count): [asdict(row) for row in of_seeds] for count, of_seeds in rows.items()},
    }
    write_json(out / "figures.json", figures)
    print(f"{out}: methods.png, tiles.png, figures.json")


if __name__ == "__main__":
    sys.exit(run(main))
