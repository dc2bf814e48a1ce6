"""Image files in, image files out: what `generate --init`, `invert`, `denoise` and `segment` do.

Results are named by their source, IMAGE-cells.png of IMAGE.tif; of one source all are written or none.  What is wrong
with an image, or two that would write the same files, is an InputError that names them.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tinydiff.apps.data.image_files import (
    count_pages,
    in_colour,
    page_of,
    read_8_bits,
    read_image,
    read_pair,
    read_square,
    read_white,
)
from tinydiff.apps.denoising import ImageDenoiser, estimated_sigma
from tinydiff.apps.grid import grid
from tinydiff.datasets.pixels import as_floats
from tinydiff.errors import InputError
from tinydiff.evaluation.metrics import psnr
from tinydiff.files import written_whole
from tinydiff.kernels import constant_weights
from tinydiff.pipelines.editing import reconstruct
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.segmentation.images import compared, overlay
from tinydiff.segmentation.metrics import objects, overlap
from tinydiff.segmentation.segmenter import is_bright_and_coloured, load_segmenter

DENOISED = ("-denoised.png", "-small-steps.png", "-compared.png")
SEGMENTED = ("-mask.png", "-cells.png", "-cells.tif", "-overlay.png", "-compared.png")
UNKNOWN = "bright and in colour, as stained tissue or a photograph is; the shipped weights know only glowing nuclei"


def named_after(paths: Sequence[Path], out: Path, endings: Sequence[str], page: int | None = None) -> list[Path]:
    """What is written for these images: their names with each ending, in the folder `out`."""
    return [out / f"{name}{ending}" for name in sources(paths, page) for ending in endings]


def stems(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by their names without suffix, by which results are named; InputError where two have the same."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path} would write the same files; take turns")
        found[path.stem] = path
    return found


def sources(paths: Sequence[Path], page: int | None = None) -> dict[str, tuple[Path, int | None]]:
    """What is worked on, by the names of its results: the files, and of a TIFF stack each page, or the one named."""
    found: dict[str, tuple[Path, int | None]] = {}
    for stem, path in stems(paths).items():
        count = 1 if page is not None else count_pages(path)
        for number in range(1, count + 1):
            name = stem if count == 1 else f"{stem}-{number:0{len(str(count))}}"
            if name in found:
                raise InputError(f"{found[name][0]} and {path} would write the same files; take turns")
            found[name] = path, page if count == 1 else number
    return found


def save_all(images: Mapping[Path, Image.Image]) -> None:
    """Write images to their paths, all of them or none, as PNG or, where the name says so, as TIFF."""
    with ExitStack() as stack:
        for path, image in images.items():
            path.parent.mkdir(parents=True, exist_ok=True)  # only now: bad input leaves nothing
            format = "TIFF" if path.suffix == ".tif" else "PNG"
            image.save(stack.enter_context(written_whole(path)), format=format)


def edit_file(
    pipe: TextToImage,
    path: Path,
    prompts: Sequence[str],
    strength: float | None,
    mask: Path | None,
    page: int | None = None,
    **options: Any,
) -> np.ndarray:
    """`edit` of a file's middle square, once for each prompt, only where the mask's is white if there is one.

    strength: without it 0.6, and with a mask 1, so that what was there is forgotten.  page: of stacks.
    """
    image = read_square(path, pipe.size, page)
    white = None if mask is None else read_white(mask, pipe.size, page_of(mask, page))
    return pipe.edit(image, prompts, strength or (0.6 if mask is None else 1.0), white, **options)


def invert_file(
    pipe: TextToImage, path: Path, prompt: str, steps: Sequence[int], page: int | None = None
) -> tuple[np.ndarray, list[str]]:
    """A file's middle square, what the autoencoder alone makes of it, and what DDIM generates from its noise.

    Images, uint8 (2 + len(steps), H, W, 3), and captions with their errors in dB: the autoencoder's to the image, the
    others' to the autoencoder's, so that it is inversion's alone.
    """
    image = read_square(path, pipe.size, page)[None]
    pipe.check([prompt], max(steps))
    reconstructed = pipe.decode(pipe.autoencoder.encode(pipe.denoiser.place(as_floats(image))))
    images = [image, reconstructed]
    captions = ["the image", f"autoencoder alone: {psnr(reconstructed, image):.1f} dB"]
    for count in steps:
        images.append(reconstruct(pipe, pipe.invert(image, [prompt], count), [prompt], count))
        captions.append(f"{count} steps and back: {psnr(images[-1], reconstructed):.1f} dB")
    return np.concatenate(images), captions


def denoise_files(
    denoiser: ImageDenoiser,
    images: Sequence[Path],
    out: Path,
    sigma: float | None,
    steps: int,
    seed: int = 0,
    page: int | None = None,
) -> None:
    """For each IMAGE write IMAGE-denoised.png, the expected one, IMAGE-small-steps.png, and both beside it.

    Grey comes out grey.  sigma: the noise's standard deviation in grey levels; None estimates it.  Raises InputError
    for a bad image.
    """
    for stem, (path, number) in sources(images, page).items():
        image = read_8_bits(path, number)
        noisy = in_colour(image)
        level = sigma or estimated_sigma(noisy)
        one, many = (denoiser.denoise(noisy, level, count, seed) for count in (None, steps))
        if image.ndim == 2:
            one, many = (np.rint(found.mean(-1)).astype(np.uint8) for found in (one, many))
        captions = [path.name, "one step: the expected image", f"{steps} small steps: one possible image"]
        scale = max(1, 128 // max(noisy.shape[:2]))
        beside = np.stack([noisy, in_colour(one), in_colour(many)])
        pages = {
            f"{stem}-denoised.png": Image.fromarray(one),
            f"{stem}-small-steps.png": Image.fromarray(many),
            f"{stem}-compared.png": grid(beside, captions, columns=3, scale=scale),
        }
        save_all({out / name: page for name, page in pages.items()})
        how = "" if sigma else ", estimated"
        print(f"{_said(path, number)}: noise of {level:.1f} grey levels{how}; {', '.join(pages)} in {out}")


def segment_files(
    images: Sequence[Path],
    out: Path,
    mask: Path | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    page: int | None = None,
) -> None:
    """For each IMAGE write IMAGE-mask.png (0 and 255), IMAGE-cells.png (16 bits, each cell its number) and
    IMAGE-overlay.png to `out`; with its true `mask` say how right that is, and write IMAGE-compared.png.

    More than 65,535 cells do not fit into a PNG: they go to IMAGE-cells.tif.  Raises InputError for a bad image.
    """
    by_stem = sources(images, page)
    if mask is not None and len(by_stem) > 1:
        raise InputError(f"segment: --mask belongs to one image, not to {len(by_stem)}; --page takes one of a stack")
    segmenter = load_segmenter(weights).to(device)
    for stem, (path, number) in by_stem.items():
        image, truth = read_pair(path, mask, number) if mask is not None else (read_image(path, number), None)
        if weights is None and is_bright_and_coloured(image):
            print(f"tinydiff: {path}: {UNKNOWN}", file=sys.stderr)
        try:
            with constant_weights():
                found = segmenter.segment(image)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        cells, few = found.cells, found.count < 2**16
        pages = {
            f"{stem}-mask.png": Image.fromarray(found.mask.astype(np.uint8) * 255),
            f"{stem}-cells.{'png' if few else 'tif'}": Image.fromarray(cells.astype(np.uint16) if few else cells),
            f"{stem}-overlay.png": Image.fromarray(overlay(image, cells)),
        }
        said = f"{_said(path, number)}: {found.count} cells on {100 * found.mask.mean():.1f} % of the image"
        if truth is not None:
            pages[f"{stem}-compared.png"] = compared(image, truth, cells, found.mask)
            pixels, single = overlap(found.mask, truth), objects(cells, truth)
            said += f"; intersection over union {pixels.iou:.3f}, Dice {pixels.dice:.3f}, "
            said += f"right pixels {100 * pixels.accuracy:.1f} %, F1 of the cells {single.f1:.3f}"
        save_all({out / name: page for name, page in pages.items()})
        print(f"{said}; {', '.join(pages)} in {out}")


def _said(path: Path, page: int | None) -> str:
    return str(path) if page is None else f"{path}, page {page}"
