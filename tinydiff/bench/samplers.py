"""How good pictures get with each sampler, number of steps, and guidance: `python -m tinydiff.bench.samplers`.

The same prompts and the same noise for all.  The measures are the judge's, as in `tinydiff evaluate`: the Fréchet
distance to real pictures over that of real pictures to real ones, how often the garment is the one that was asked for,
and precision and recall.  Prints them and writes samplers.json, samplers.png and guidance.png.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import tinydiff
from tinydiff.cli.types import Parser, at_least, existing_folder, folder_to_make, guidance_scale
from tinydiff.datasets import UNSEEN, captioned_fashion
from tinydiff.datasets.pixels import as_floats
from tinydiff.diffusion import SAMPLERS
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.errors import InputError
from tinydiff.evaluation.evaluate import NEIGHBOURS, batches, drawn_prompts, features_of, halves
from tinydiff.evaluation.metrics import frechet_distance, precision_recall
from tinydiff.files import written_whole
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.weights import load_classifier, shipped

STEPS = (5, 10, 25, 50, 100, 250)
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
COLOURS = {"ddim": "#0072b2", "ddpm": "#d55e00", "dpm": "#009e73", "heun": "#cc79a7", "iadb": "#000000"}  # Okabe & Ito
NAMES = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "dpm": "DPM-Solver++(2M)",
    "heun": "Heun (two questions a step)",
    "iadb": "IADB (another training)",
}


@dataclass(frozen=True)
class Row:
    """The pictures of one setting."""

    sampler: str
    steps: int
    guidance: float
    below: float  # guidance acts below this share of the noise levels
    frechet_ratio: float
    garment: float  # share of pictures that show the garment that was asked for
    precision: float
    recall: float
    seconds: float


class Measure:
    """Real pictures, and what others are compared with."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.judge = load_classifier(shipped())
        test = captioned_fashion("test")
        seen = np.array([pair not in UNSEEN for pair in zip(test.garment, test.colour, strict=True)])
        real, again = (features_of(self.judge, part) for part in halves(test.images[seen], count, seed))
        self.real, self.base = real, frechet_distance(again, real)
        self.prompts, self.asked = drawn_prompts(count, unseen=False, rng=np.random.default_rng(seed))

    def row(
        self,
        pipe: TextToImage,
        sampler: str,
        steps: int,
        scale: float,
        interval: tuple[float, float] = GUIDANCE_INTERVAL,
    ) -> Row:
        start = time.monotonic()
        step = "ddim" if sampler == "iadb" else sampler  # IADB's step, see diffusion/iadb.py
        images = pipe.generate(self.prompts, steps, scale, interval, sampler=step)
        seconds = time.monotonic() - start
        features = features_of(self.judge, images)
        named = np.concatenate([self.judge.classify(as_floats(part))[0] for part in batches(images)])
        return Row(
            sampler,
            steps,
            scale,
            interval[1],
            frechet_distance(features, self.real) / self.base,
            float((named == self.asked[0]).mean()),
            *precision_recall(self.real, features, NEIGHBOURS),
            seconds,
        )


def compare(
    count: int,
    steps: Sequence[int] = STEPS,
    scales: Sequence[float] = SCALES,
    samplers: Sequence[str] = tuple(SAMPLERS),
    weights: Path | None = None,
    iadb: Path | None = None,
) -> Iterator[Row]:
    """Each sampler at each number of steps, and IADB if there are weights for it; then DDIM at 25 steps with each scale
    of guidance, everywhere and in the usual interval."""
    pipe, measure = tinydiff.load(weights), Measure(count)
    for sampler in samplers:
        for number in steps:
            yield measure.row(pipe, sampler, number, GUIDANCE_SCALE)
    if iadb is not None:
        other = tinydiff.load(iadb)
        if other.prediction_type != "iadb":
            raise InputError(f"{iadb}: learnt to predict {other.prediction_type!r}; train --preset full-iadb does")
        for number in steps:
            yield measure.row(other, "iadb", number, GUIDANCE_SCALE)
    for interval in ((0.0, 1.0), GUIDANCE_INTERVAL):
        for scale in scales:
            yield measure.row(pipe, "ddim", 25, scale, interval)


def plot_steps(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name, title in zip(
        figure.subplots(1, 2),
        ("frechet_ratio", "garment"),
        ("Fréchet distance, over real to real", "garments that are right"),
        strict=True,
    ):
        for sampler in dict.fromkeys(row.sampler for row in rows):
            own = [row for row in rows if row.sampler == sampler]
            axes.plot(
                [row.steps for row in own],
                [getattr(row, name) for row in own],
                "o-",
                ms=5,
                color=COLOURS[sampler],
                label=NAMES[sampler],
            )
        axes.set_xscale("log")
        numbers = sorted({row.steps for row in rows})
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.set(title=title, xlabel="steps")
        axes.grid(alpha=0.3)
        axes.set_ylim(*((1, None) if name == "frechet_ratio" else (min(0.9, *(row.garment for row in rows)), 1)))
    axes.legend(loc="lower right")
    with written_whole(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def plot_guidance(rows: Sequence[Row], path: Path) -> None:
    """Dashed: guidance everywhere; full: in the interval alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for below, line in ((1.0, "o--"), (GUIDANCE_INTERVAL[1], "o-")):
        own = [row for row in rows if row.below == below]
        scales = [row.guidance for row in own]
        where = "everywhere" if below == 1 else f"below {below:g} of the noise levels"
        for name, title, colour in (
            ("garment", "garments that are right", "#0072b2"),
            ("precision", "precision", "#009e73"),
            ("recall", "recall (diversity)", "#d55e00"),
        ):
            label = title if below != 1 else None
            left.plot(scales, [getattr(row, name) for row in own], line, ms=5, color=colour, label=label)
        right.plot(scales, [row.frechet_ratio for row in own], line, ms=5, color="#0072b2", label=f"guidance {where}")
    left.set(title="accuracy and diversity", xlabel="guidance", ylim=(0, 1.02))
    right.set(title="Fréchet distance, over real to real", xlabel="guidance", ylim=(0, None))
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    with written_whole(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def main() -> int:
    parser = Parser(prog="python -m tinydiff.bench.samplers", description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=at_least(NEIGHBOURS + 1), default=500, help="pictures of each setting")
    parser.add_argument("--steps", type=at_least(1), nargs="+", default=STEPS, help="numbers of steps")
    parser.add_argument("--samplers", choices=tuple(SAMPLERS), nargs="+", default=tuple(SAMPLERS))
    parser.add_argument("--scales", type=guidance_scale, nargs="*", default=SCALES, help="guidance to compare; or none")
    parser.add_argument(
        "--weights", type=existing_folder, metavar="DIR", help="a folder that train wrote; else shipped"
    )
    parser.add_argument(
        "--iadb", type=existing_folder, metavar="DIR", help="a folder that train --preset full-iadb wrote: drawn too"
    )
    parser.add_argument("-o", "--output", type=folder_to_make, default="runs/samplers", metavar="DIR")
    args = parser.parse_args()
    rows = []
    for row in compare(args.n, args.steps, args.scales, args.samplers, args.weights, args.iadb):
        print(
            f"{row.sampler:<5} {row.steps:3} steps, guidance {row.guidance:3.1f} below {row.below:4.2f}"
            f"   Fréchet {row.frechet_ratio:5.2f}   garment {100 * row.garment:5.1f} %"
            f"   precision {row.precision:.3f}   recall {row.recall:.3f}"
            f"   {row.seconds:4.0f} s",
            flush=True,
        )
        rows.append(row)
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    split = len(rows) - 2 * len(args.scales)
    plot_steps(rows[:split], out / "samplers.png")
    if args.scales:
        plot_guidance(rows[split:], out / "guidance.png")
    with written_whole(out / "samplers.json") as beside:
        beside.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
