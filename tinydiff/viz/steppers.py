"""To go through an idea one step at a time: a slider where widgets run, a filmstrip where they do not."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinydiff.apps.grid import INK, WHITE
from tinydiff.errors import InputError
from tinydiff.files import written_whole

LABEL = 18  # pixels of the text above a frame


def as_image(drawing: Any, dpi: int = 72) -> Image.Image:
    """A Figure, a PIL image or an uint8 array, as a PIL image in RGB."""
    if isinstance(drawing, Image.Image):
        return drawing.convert("RGB")
    if isinstance(drawing, np.ndarray):
        return Image.fromarray(drawing).convert("RGB")
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=dpi)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def filmstrip(
    draw: Callable[[int], Any], steps: Sequence[int], label: str = "step", columns: int | None = None
) -> Image.Image:
    """`draw(step)` for each of `steps`, side by side with its number above it.

    draw returns what `as_image` takes.  columns: frames in a row, else all.  Raises InputError for no steps.
    """
    if not steps:
        raise InputError("filmstrip: no steps to draw")
    frames = [as_image(draw(step)) for step in steps]
    columns = min(columns or len(frames), len(frames))
    width, height = max(f.width for f in frames), max(f.height for f in frames) + 2 * LABEL
    page = Image.new("RGB", (columns * width, -(-len(frames) // columns) * height), WHITE)
    writer, font = ImageDraw.Draw(page), ImageFont.load_default(LABEL)
    for i, (step, frame) in enumerate(zip(steps, frames, strict=True)):
        left, top = i % columns * width, i // columns * height
        writer.text((left + width / 2, top + LABEL / 3), f"{label} {step}", INK, font, anchor="ma")
        page.paste(frame, (left + (width - frame.width) // 2, top + 2 * LABEL))
    return page


def stepper(
    draw: Callable[[int], Any],
    count: int,
    label: str = "step",
    shown: Sequence[int] | None = None,
    columns: int | None = None,
    start: int = 0,
) -> None:
    """In a notebook: the filmstrip of `shown` (else five of the steps), and a slider over draw(0 … count − 1).

    Without ipywidgets there is the filmstrip alone.  Raises InputError for fewer than one step, or other steps.
    """
    if count < 1:
        raise InputError(f"stepper: needs one step or more; got {count}")
    if shown is None:
        shown = sorted({round(i) for i in np.linspace(0, count - 1, min(5, count))})
    if any(not 0 <= step < count for step in [*shown, start]):
        raise InputError(f"stepper: steps {[*shown, start]} must lie in 0 … {count - 1}")
    from IPython.display import display

    display(filmstrip(draw, shown, label, columns))
    try:
        import ipywidgets
    except ModuleNotFoundError:
        return
    slider = ipywidgets.IntSlider(start, 0, count - 1, description=label, continuous_update=False)
    frame = ipywidgets.Image(format="png")

    def show(change: Any = None) -> None:
        buffer = io.BytesIO()
        as_image(draw(slider.value)).save(buffer, format="PNG")
        frame.value = buffer.getvalue()

    slider.observe(show, names="value")
    show()
    bundle = ipywidgets.VBox([slider, frame])._repr_mimebundle_()
    display({**bundle, "text/plain": "(a slider, where widgets run)"}, raw=True)  # else the text is the PNG's bytes


def save_gif(frames: Sequence[Any], path: str | Path, milliseconds: int = 120, last: int = 1500) -> None:
    """An animation of frames, what `as_image` takes each, that repeats; the last one stays longer.

    The file appears whole or not at all.  Raises InputError for no frames.
    """
    if not len(frames):
        raise InputError("save_gif: no frames")
    images = [as_image(frame) for frame in frames]
    times = [milliseconds] * (len(images) - 1) + [last]
    with written_whole(path) as beside:
        images[0].save(beside, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0, optimize=True)
