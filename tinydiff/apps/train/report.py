"""The training report: what each network could do on the way, its losses, and how long it took.

Each checkpoint of a network leaves a strip of images in `samples/`, generated with the EMA of its weights from the
same prompts and the same noise; `report.md` shows them all, beside the losses.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tinydiff import checkpoint
from tinydiff.apps.grid import grid
from tinydiff.apps.train.curves import loss_curves
from tinydiff.autograd import Array
from tinydiff.files import written_whole

EXAMPLES = 10  # images in a strip
HEADINGS = {
    "autoencoder": "images (above) and what the autoencoder makes of them (below)",
    "denoiser": "the same prompts and the same noise",
}


class Strips:
    """Called at each checkpoint of a part with (step, EMA): generates its strip, unless it is there, and keeps it."""

    def __init__(
        self, out: Path, part: str, resume: bool, generate: Callable[[dict[str, Array]], np.ndarray], rows: int = 1
    ) -> None:
        self.folder, self.part, self.generate, self.rows = out / "samples", part, generate, rows
        before = strips(out, part)
        self.began = time.monotonic() - (before[-1][1] if resume and before else 0)
        for left in (*self.folder.glob(".tinydiff-*.partial"), *self.folder.glob(f"{part}-*.png")):
            if not resume or left.suffix == ".partial":
                left.unlink()

    def __call__(self, step: int, ema: dict[str, Array]) -> None:
        path = self.folder / f"{self.part}-{step:06}.png"
        if _seconds(path) is not None:
            return
        seconds = PngInfo()
        seconds.add_text("seconds", f"{time.monotonic() - self.began:.0f}")
        images = self.generate(ema)
        page = grid(images, columns=len(images) // self.rows, scale=2)
        self.folder.mkdir(exist_ok=True)
        with written_whole(path) as beside:
            page.save(beside, format="PNG", optimize=True, pnginfo=seconds)


def strips(out: Path, part: str) -> list[tuple[int, float, Path]]:
    """A part's strips so far: step, seconds of training (without pauses), and the file.  Damaged ones are left out."""
    found = []
    for path in sorted((out / "samples").glob(f"{part}-*.png")):
        step, seconds = path.stem.rpartition("-")[2], _seconds(path)
        if step.isdecimal() and seconds is not None:
            found.append((int(step), seconds, path))
    return found


def _seconds(path: Path) -> float | None:
    """How long the part had been trained for this strip; None where the image is missing, empty or damaged."""
    with suppress(Exception), Image.open(path) as page:  # Pillow raises nearly anything
        page.load()
        return float(page.info.get("seconds", 0))
    return None


def write_report(out: Path, captions: list[str]) -> Path:
    """`report.md` of all that was trained in the folder `out`; returns its path.  `captions`: those of the strips."""
    lines = ["# Training report", ""]
    rows, images = [], []
    finished = (path for path in out.glob("*.safetensors") if not path.stem.endswith(".checkpoint"))
    for path in sorted(finished, key=lambda path: path.stat().st_mtime):
        part = path.stem
        arrays, config = checkpoint.load(path)
        made, own = config["training"], strips(out, part)
        losses = out / f"{part}.csv"
        steps = len(losses.read_text().splitlines()) - 1 if losses.exists() else 0
        seconds = own[-1][1] if own else made["seconds"]
        numbers = sum(array.size for array in arrays.values())
        rows.append(f"| {part} | {made['preset']} | {steps or ''} | {minutes(seconds)} | {numbers:,} |")
        if own:
            images += [f"## {part}", "", f"Each row: {HEADINGS[part]}.", ""]
            if part == "denoiser":
                images += [*(f"{i}. {caption}" for i, caption in enumerate(captions, start=1)), ""]
            shown = [f"| {step:,} | {minutes(s)} | ![]({path.relative_to(out)}) |" for step, s, path in own]
            images += ["| step | time | |", "|---|---|---|", *shown, ""]
        lines += [f"Learnt from {made['data']}.", ""] if len(rows) == 1 else []
    lines += ["| part | preset | steps | time | numbers |", "|---|---|---|---|---|", *rows, ""]
    if any(out.glob("*.csv")):
        lines += [f"![The losses of each step]({loss_curves(out).name})", ""]
    target = out / "report.md"
    with written_whole(target) as beside:
        beside.write_text("\n".join(lines + images).rstrip() + "\n", encoding="utf-8", errors="backslashreplace")
    return target


def minutes(seconds: float) -> str:
    """As a reader wants it: "12 s", "1.5 min"."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
