"""Images to look at: one, enlarged smoothly, or a grid of them with what was asked for under each."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinydiff.errors import InputError
from tinydiff.files import written_whole

MARGIN, GAP = 16, 12  # pixels around the page and between images
TEXT, LINE, LEAST_WIDTH = 13, 17, 96  # caption: size of the letters, distance of its lines, narrowest column
WHITE, INK, FRAME = (255, 255, 255), (60, 60, 60), (222, 222, 222)


def upscaled(image: np.ndarray, scale: int = 4) -> Image.Image:
    """One image, uint8 (H, W, 3), as a PIL image of (H·scale, W·scale)."""
    size = image.shape[1] * scale, image.shape[0] * scale
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def grid(
    images: np.ndarray, captions: Sequence[str] | None = None, columns: int | None = None, scale: int = 4
) -> Image.Image:
    """Images, uint8 (N, H, W, 3), side by side on a white page, row by row, each with its caption under it.

    columns: images in a row; else about as many as rows.  Raises InputError where shapes or numbers do not fit.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) == 0:
        raise InputError(f"grid: images are {images.dtype} {images.shape}, expected uint8 (N, H, W, 3)")
    if captions is not None and len(captions) != len(images):
        raise InputError(f"grid: {len(captions)} captions for {len(images)} images, expected one for each")
    if scale < 1 or (columns is not None and columns < 1):
        raise InputError(f"grid: columns {columns}, scale {scale}, expected 1 or more")

    count, height, width = len(images), images.shape[1] * scale, images.shape[2] * scale
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    font = _font("".join(captions or []))
    cell = max(width, LEAST_WIDTH) if captions else width
    texts = [wrapped(caption, cell, font) for caption in captions or [""] * count]
    below = LINE * max(len(lines) for lines in texts)

    right, down = cell + GAP, height + below + GAP  # from one image to the next
    page = Image.new("RGB", (2 * MARGIN + columns * right - GAP, 2 * MARGIN + rows * down - GAP), WHITE)
    draw = ImageDraw.Draw(page)
    for i, (image, lines) in enumerate(zip(images, texts, strict=True)):
        left, top = MARGIN + i % columns * right, MARGIN + i // columns * down
        x = left + (cell - width) // 2
        page.paste(upscaled(image, scale), (x, top))
        draw.rectangle((x - 1, top - 1, x + width, top + height), outline=FRAME)  # shows where a white image ends
        for row, line in enumerate(lines):
            draw.text((left + cell / 2, top + height + 4 + row * LINE), line, INK, font, anchor="ma")
    return page


def _font(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which has the letters of English, or Matplotlib's: accents, Greek, Cyrillic and more."""
    if text.isascii():
        return ImageFont.load_default(TEXT)
    from matplotlib import get_data_path

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", TEXT)


def save_grid(
    images: np.ndarray,
    path: str | Path,
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    scale: int = 4,
) -> None:
    """`grid` to a PNG file, which appears whole or not at all."""
    page = grid(images, captions, columns, scale)
    with written_whole(path) as beside:
        page.save(beside, format="PNG", optimize=True)


def wrapped(text: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """`text` in lines of at most `width` pixels, broken between words (a longer word stands alone)."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
