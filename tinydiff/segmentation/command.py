"""What `tinydiff segment` does: files in, files out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from tinydiff.apps.data.image_files import read_image, read_pair
from tinydiff.errors import InputError
from tinydiff.files import stems, written_whole
from tinydiff.kernels import constant_weights
from tinydiff.segmentation.images import compared, overlay
from tinydiff.segmentation.metrics import objects, overlap
from tinydiff.segmentation.segmenter import load_segmenter


def segment_files(
    images: Sequence[Path],
    out: Path,
    mask: Path | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> None:
    """For each IMAGE write IMAGE-mask.png (0 and 255), IMAGE-cells.png (16 bits, each cell its number) and
    IMAGE-overlay.png to the folder `out`, and say how many cells there are; with its true `mask`, how right that is,
    and IMAGE-compared.png.

    More than 65,535 cells do not fit into a PNG: they go to IMAGE-cells.tif.  Raises InputError, which names the file,
    where a picture cannot be read, is too small, or two would write the same files.
    """
    by_stem = stems(images)
    if mask is not None and len(images) > 1:
        raise InputError(f"segment: --mask belongs to one picture, not to {len(images)}")
    segmenter = load_segmenter(weights).to(device)
    for stem, path in by_stem.items():
        image, truth = read_pair(path, mask) if mask is not None else (read_image(path), None)
        try:
            with constant_weights():
                found = segmenter.segment(image)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        cells, few = found.cells, found.count < 2**16
        pictures = {
            f"{stem}-mask.png": Image.fromarray(found.mask.astype(np.uint8) * 255),
            f"{stem}-cells.{'png' if few else 'tif'}": Image.fromarray(cells.astype(np.uint16) if few else cells),
            f"{stem}-overlay.png": Image.fromarray(overlay(image, cells)),
        }
        said = f"{path}: {found.count} cells on {100 * found.mask.mean():.1f} % of the picture"
        if truth is not None:
            pictures[f"{stem}-compared.png"] = compared(image, truth, cells, found.mask)
            pixels, single = overlap(found.mask, truth), objects(cells, truth)
            said += (
                f"; intersection over union {pixels.iou:.3f}, Dice {pixels.dice:.3f}, right pixels "
                f"{100 * pixels.accuracy:.1f} %, F1 of the cells {single.f1:.3f}"
            )
        out.mkdir(parents=True, exist_ok=True)  # only now: bad input leaves nothing
        with ExitStack() as stack:  # all of them or none
            for name, picture in pictures.items():
                beside = stack.enter_context(written_whole(out / name))
                picture.save(beside, format="TIFF" if name.endswith(".tif") else "PNG")
        say(f"{said}; {', '.join(pictures)} in {out}")
