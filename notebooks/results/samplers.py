"""How good images get with each sampler, number of steps, and guidance: `python notebooks/results/samplers.py`.

The same prompts and the same noise for all.  The measures are the evaluation classifier's, as in `tinydiff
evaluate`: the Fréchet distance to real images over that of real images to real ones, how often the garment is the one
that was asked for, and precision and recall.  Prints them and writes samplers.json, samplers.png and guidance.png.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinydiff
from studies import program, run, write_results
from tinydiff.cli.types import at_least, existing_folder, guidance_scale
from tinydiff.datasets import captioned_fashion
from tinydiff.datasets.pixels import as_floats
from tinydiff.diffusion import SAMPLERS
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.errors import InputError
from tinydiff.evaluation.evaluate import NEIGHBOURS, are_seen, batches, drawn_prompts, features_of, halves
from tinydiff.evaluation.metrics import frechet_distance, precision_recall
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.viz.figures import PALETTE, save_figure, subplots
from tinydiff.weights import load_classifier, shipped_weights

STEPS = (5, 10, 25, 50, 100, 250)
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
NAMES = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "dpm": "DPM-Solver++(2M)",
    "heun": "Heun (two predictions a step)",
    "plms": "PLMS",
    "euler": "Euler",
    "euler-ancestral": "Euler, ancestral",
    "iadb": "IADB (another training)",
}
MEASURED = ("ddim", "ddpm", "dpm", "heun")  # PLMS's slopes are known from elsewhere, and Euler's steps are DDIM's


@dataclass(frozen=True)
class SamplerResult:
    """The images of one setting."""

    sampler: str
    steps: int
    guidance: float
    below: float  # guidance acts below this share of the noise levels
    frechet_ratio: float
    garment: float  # share of images that show the garment that was asked for
    precision: float
    recall: float
    seconds: float


class Measure:
    """Real images, and what others are compared with."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.classifier = load_classifier(shipped_weights())
        test = captioned_fashion("test")
        sets = halves(test.images[are_seen(test)], count, seed)
        real, again = (features_of(self.classifier, images) for images in sets)
        self.real, self.base = real, frechet_distance(again, real)
        self.prompts, self.asked = drawn_prompts(count, unseen=False, rng=np.random.default_rng(seed))

    def result(
        self,
        pipe: TextToImage,
        sampler: str,
        steps: int,
        scale: float,
        interval: tuple[float, float] = GUIDANCE_INTERVAL,
    ) -> SamplerResult:
        start = time.monotonic()
        step = "ddim" if sampler == "iadb" else sampler  # IADB's step, see diffusion/iadb.py
        images = pipe.generate(self.prompts, steps, scale, interval, sampler=step)
        seconds = time.monotonic() - start
        features = features_of(self.classifier, images)
        named = np.concatenate([self.classifier.classify(as_floats(part))[0] for part in batches(images)])
        return SamplerResult(
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
    samplers: Sequence[str] = MEASURED,
    weights: Path | None = None,
    iadb: Path | None = None,
) -> Iterator[SamplerResult]:
    """Each sampler at each number of steps, and IADB if there are weights for it; then DDIM at 25 steps with each scale
    of guidance, everywhere and in the usual interval."""
    pipe, measure = tinydiff.load(weights), Measure(count)
    for sampler in samplers:
        for number in steps:
            yield measure.result(pipe, sampler, number, GUIDANCE_SCALE)
    if iadb is not None:
        other = tinydiff.load(iadb)
        if other.prediction_type != "iadb":
            raise InputError(f"{iadb}: learnt to predict {other.prediction_type!r}; train --preset full-iadb does")
        for number in steps:
            yield measure.result(other, "iadb", number, GUIDANCE_SCALE)
    for interval in ((0.0, 1.0), GUIDANCE_INTERVAL):
        for scale in scales:
            yield measure.result(pipe, "ddim", 25, scale, interval)


MEASURES = {
    "frechet_ratio": "Fréchet distance, over real to real",
    "garment": "garments that are right",
    "precision": "precision",
    "recall": "recall (diversity)",
}


def plot_steps(rows: Sequence[SamplerResult], path: Path) -> None:
    """Fréchet ratio and right garments against the steps, a curve for each sampler."""
    figure, panels = subplots((10, 4), 1, 2)
    numbers = sorted({row.steps for row in rows})
    for axes, name in zip(panels, ("frechet_ratio", "garment"), strict=True):
        for sampler, label in NAMES.items():
            own = [row for row in rows if row.sampler == sampler]
            values = [getattr(row, name) for row in own]
            colour = "#000000" if sampler == "iadb" else PALETTE[list(NAMES).index(sampler)]
            if own:
                axes.plot([row.steps for row in own], values, "o-", ms=5, color=colour, label=label)
        axes.set(title=MEASURES[name], xlabel="steps", xscale="log")
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set_ylim(*((1, None) if name == "frechet_ratio" else (min(0.9, *(row.garment for row in rows)), 1)))
    axes.legend(loc="lower right")
    save_figure(figure, path, dpi=110)


def plot_guidance(rows: Sequence[SamplerResult], path: Path) -> None:
    """Dashed: guidance everywhere; full: in the interval alone."""
    figure, (left, right) = subplots((10, 4), 1, 2)
    for below, line in ((1.0, "o--"), (GUIDANCE_INTERVAL[1], "o-")):
        own = [row for row in rows if row.below == below]
        scales = [row.guidance for row in own]
        where = "everywhere" if below == 1 else f"below {below:g} of the noise levels"
        for name, colour in (("garment", PALETTE[0]), ("precision", PALETTE[2]), ("recall", PALETTE[1])):
            label = MEASURES[name] if below != 1 else None
            left.plot(scales, [getattr(row, name) for row in own], line, ms=5, color=colour, label=label)
        ratios = [row.frechet_ratio for row in own]
        right.plot(scales, ratios, line, ms=5, color=PALETTE[0], label=f"guidance {where}")
    left.set(title="accuracy and diversity", xlabel="guidance scale", ylim=(0, 1.02))
    right.set(title=MEASURES["frechet_ratio"], xlabel="guidance scale", ylim=(0, None))
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    save_figure(figure, path, dpi=110)


def main() -> None:
    parser = program("samplers", __doc__, out="samplers")
    add = parser.add_argument
    add("-n", type=at_least(NEIGHBOURS + 1), default=500, help="images of each setting")
    add("--steps", type=at_least(1), nargs="+", default=STEPS, help="numbers of steps")
    add("--samplers", choices=tuple(SAMPLERS), nargs="+", default=MEASURED)
    add("--scales", type=guidance_scale, nargs="*", default=SCALES, help="guidance to compare; or none")
    add("--weights", type=existing_folder, metavar="DIR", help="a folder that train wrote; else shipped")
    iadb = "a folder that train --preset full-iadb wrote: compared, too"
    add("--iadb", type=existing_folder, metavar="DIR", help=iadb)
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
    write_results(out / "samplers.json", rows)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


if __name__ == "__main__":
    sys.exit(run(main))
