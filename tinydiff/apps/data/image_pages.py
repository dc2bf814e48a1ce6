"""Image files opened with Pillow: upright, whole, of one kind.  What is wrong with one is said in a line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tinydiff.errors import InputError

FORMATS = ("PNG", "TIFF", "JPEG", "BMP", "GIF", "WEBP", "PPM")
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
MOST_PIXELS = 2**28  # phones' largest photos have 200 million
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit lies below

# Tags of TIFF, and what those numbers mean that Pillow's mode does not tell.
BITS, WHITE_IS_ZERO, DESCRIPTION, CHANNELS, SAMPLE_FORMAT = 258, 262, 270, 277, 339
SAMPLE_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats"}


def count_pages(path: str | Path) -> int:
    """How many images a file holds: the pages of a TIFF stack, otherwise 1.

    Raises InputError, which names the file, where it cannot be read, holds an animation, or channels as pages.
    """
    with _opened(path) as image:
        return _pages(image, path)


def open_page(path: str | Path, page: int | None = None) -> Image.Image:
    """The one image of a file, or a page (1, 2, 3 …) of a TIFF stack: read whole, and turned as its camera was held.

    Raises InputError, which names the file, where it cannot be read, holds more than was asked for, is larger than
    MOST_PIXELS, or where Pillow would read a part of its bits or channels in silence.
    """
    with _opened(path) as image:
        pages = _pages(image, path, page)
        if page is None and pages > 1:
            raise InputError(f"{path}: holds {pages} images, expected one, or the number of a page")
        if not 1 <= (page or 1) <= pages:
            raise InputError(f"{path}: has no page {page}; it holds {pages} image{'s' if pages > 1 else ''}")
        if pages > 1:
            image.seek((page or 1) - 1)
        if image.width * image.height > MOST_PIXELS:
            raise InputError(f"{path}: {image.width} × {image.height} pixels; the limit is {MOST_PIXELS:,}")
        if image.format == "TIFF":
            _check_tiff(image, path)
        bits, size = _bits(image, path), Path(path).stat().st_size
        if image.format == "PNG" and image.width * image.height * bits / 8 > 1032 * size:  # deflate packs no better
            raise InputError(f"{path}: truncated, {size:,} bytes for {image.width} × {image.height} pixels")
        if bits > 8 and image.mode not in GREY_MODES:
            wrong = f"a colour image of {bits} bits, of which only 8 could be read"
            raise InputError(f"{path}: {wrong}; save it as 16-bit grey, or as 8-bit colour")
        ImageOps.exif_transpose(image, in_place=True)  # which loads it
    return image


def as_array(image: Image.Image, path: str | Path) -> np.ndarray:
    """The pixels of an opened image: (H, W) where it is grey, else (H, W, 3), palettes looked up.

    uint8 (one bit becomes 0 and 255), uint16, int32 or float32.  Raises InputError for values that are not finite or
    do not fit, and for transparent pixels.
    """
    if image.mode not in GREY_MODES:
        array = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
        if (array[:, :, 3:] != 255).any():
            raise InputError(f"{path}: has transparent pixels; flatten it first")
        return array[:, :, 0] if image.mode in ("LA", "La") else array[:, :, :3]
    array = np.asarray(image)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if not np.isfinite(array).all():
        raise InputError(f"{path}: has values that are not finite")
    if array.dtype == np.int32 and _tag(image, SAMPLE_FORMAT, 1) == 1 and array.min(initial=0) < 0:
        raise InputError(f"{path}: has values of 2³¹ or more, expected less")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    white_is_zero = array.dtype == np.uint16 and _tag(image, WHITE_IS_ZERO, 1) == 0
    return np.invert(array) if white_is_zero else array


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The file as Pillow opens it; whatever goes wrong with it is an InputError."""
    try:
        # Not by its name: Pillow would map the file into memory, and scramble a TIFF that lies on its side.
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except InputError:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: {_unidentified(path)}") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into this machine's memory") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file runs them into
        raise InputError(f"{path}: corrupt ({' '.join(str(error).split()) or type(error).__name__})") from None


def _pages(image: Image.Image, path: str | Path, page: int | None = None) -> int:
    """How many images there are; where pages are channels of one image, only a page that was named can be taken."""
    if image.format == "MPO":
        return 1  # a phone's photo; what follows it is a preview or the depth
    frames = getattr(image, "n_frames", 1)
    if image.format != "TIFF":
        if frames > 1:
            raise InputError(f"{path}: an animation of {frames} images, expected a single one")
        return 1
    described = str(image.tag_v2.get(DESCRIPTION, ""))  # type: ignore[attr-defined]
    imagej = dict(re.findall(r"^(\w+)=(\d+)\s*$", described, re.MULTILINE)) if described.startswith("ImageJ=") else {}
    said = int(imagej.get("images", 1))
    if said > frames or '"truncated": true' in described:
        more = f"{said} images by ImageJ's" if imagej else "several images by tifffile's"
        raise InputError(f"{path}: {more} description, but {frames} in its directory; save it with all of them there")
    channels = re.search(r'\bSizeC="(\d+)"', described)  # OME's
    count = int(channels[1] if channels else imagej.get("channels", 1))
    if page is None and frames > 1 and count > _tag(image, CHANNELS, 1):
        raise InputError(f"{path}: {count} channels on {frames} pages, expected one channel, or the number of a page")
    return frames


def _check_tiff(image: Image.Image, path: str | Path) -> None:
    """Refuse what Pillow would take for something else without a word."""
    channels, read = _tag(image, CHANNELS, 1), len(image.getbands())
    if channels > read:
        raise InputError(f"{path}: {channels} channels, of which only {read} could be read; save the one that counts")
    bits, inverted = _tag(image, BITS, 1), _tag(image, WHITE_IS_ZERO, 1) == 0
    signed = bits <= 8 and _tag(image, SAMPLE_FORMAT, 1) == 2
    if signed or (inverted and bits > 16):
        wrong = "signed bytes" if signed else f"{bits}-bit values of which 0 is white"
        raise InputError(f"{path}: {wrong} cannot be read; save it with 8 or 16 bits, unsigned, 0 being black")


def _unidentified(path: str | Path) -> str:
    """Why Pillow knows no reader for a file: a TIFF's directory says what is in it."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            directory = ImageFileDirectory_v2(start if start[2:4] in (b"+\0", b"\0+") else start[:8])
            file.seek(directory.next)
            directory.load(file)
        bits, channels = max(directory[BITS]), directory.get(CHANNELS, 1)
        kind = SAMPLE_FORMATS.get(max(directory.get(SAMPLE_FORMAT, (1,))), "values of an unknown type")
        kind += " of which 0 is white" if directory.get(WHITE_IS_ZERO) == 0 else ""
    except Exception:  # not a TIFF, or a damaged one
        return "not an image that can be read (PNG, TIFF, JPEG, BMP)"
    several = f"{channels} channels of " if channels > 1 else ""
    return f"{several}{bits}-bit {kind} cannot be read; save one channel as uint8, uint16, int32 or float32"


def _bits(image: Image.Image, path: str | Path) -> int:
    """Bits of each number in the file, which Pillow's mode does not tell."""
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24]
    return _tag(image, BITS, 1) if image.format == "TIFF" else 8


def _tag(image: Image.Image, number: int, default: int) -> int:
    """A number from a TIFF's directory, the largest where it says one for each channel; else the default."""
    value = image.tag_v2.get(number, default) if image.format == "TIFF" else default  # type: ignore[attr-defined]
    return max(value) if isinstance(value, tuple) else value
