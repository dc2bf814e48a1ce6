"""Images and masks from files, with nothing lost in silence: a depth that cannot be read whole is refused."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from tinydiff.errors import InputError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
PIECES = 4  # a label is one cell: in one piece, or in a few where something lies across it
SMALLEST = 4  # pixels of a piece, on average
Image.MAX_IMAGE_PIXELS = None  # whole slides are large; what a file holds is read only when it is asked for

Pair = tuple[np.ndarray, np.ndarray]  # an image (H, W) or (H, W, 3), and its mask (H, W), each cell with its number


def read_image(path: str | Path) -> np.ndarray:
    """An image as it lies in the file: (H, W) or (H, W, 3); uint8, uint16, int32 or float32.

    Raises InputError, which names the file, where it cannot be read, has several pages, transparent pixels or values
    that are not finite, or is in colour with more than 8 bits (Pillow would drop the lower ones in silence).
    """
    image = _opened(path)
    array = np.asarray(image) if image.mode in GREY_MODES else _colours(image, path)
    if not np.isfinite(array).all():
        raise InputError(f"{path}: has values that are not finite")
    return array.astype(np.uint8) if array.dtype == bool else array


def read_mask(path: str | Path) -> np.ndarray:
    """A mask (H, W), int32: 0 is the background, and each cell has a number of its own.

    A file with two values, 0 and 1 or 0 and 255, says only where cells are: each piece of them becomes one.  In a file
    with more, each value is one cell's number.  Raises InputError, which names the file, for anything else.
    """
    image = _opened(path)
    array = np.asarray(image) if image.mode in (*GREY_MODES, "P") else _colours(image, path)
    if array.ndim == 3:
        if (array != array[:, :, :1]).any():
            raise InputError(f"{path}: a mask in colour; expected one number for each pixel")
        array = array[:, :, 0]
    if not np.isfinite(array).all() or (array != np.round(array)).any() or array.min() < 0 or array.max() >= 2**31:
        raise InputError(f"{path}: a mask's values must be whole numbers, 0 or more")
    values = np.unique(array)
    if len(values) <= 2:
        if len(values) == 2 and values[0] != 0:
            raise InputError(f"{path}: a mask of {values[0]} and {values[1]}; expected 0 for the background")
        return ndimage.label(array > 0)[0].astype(np.int32)
    pieces = count_pieces(array)
    most = min(PIECES * np.count_nonzero(values), np.count_nonzero(array) / SMALLEST)
    if values[0] != 0 or pieces > most:
        expected = "neither binary (0 and one more value) nor labels (0, and a number for each cell)"
        found = f"{len(values)} values from {values[0]:g} to {values[-1]:g} in {pieces} pieces"
        raise InputError(f"{path}: {expected}: {found}")
    return array.astype(np.int32)


def count_pieces(labels: np.ndarray) -> int:
    """How many connected pieces of one value the labels (H, W) other than 0 form."""
    compact = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)  # 0 stays 0, 1 2 3 … for the others
    boxes = enumerate(ndimage.find_objects(compact), start=1)
    return sum(ndimage.label(compact[box] == number)[1] for number, box in boxes)


def read_pair(image: str | Path, mask: str | Path) -> Pair:
    """An image and its mask; InputError where their sizes differ."""
    pixels, labels = read_image(image), read_mask(mask)
    if pixels.shape[:2] != labels.shape:
        raise InputError(f"{mask}: the mask is {labels.shape}, but the image {image} is {pixels.shape[:2]}")
    return pixels, labels


def read_pairs(images: str | Path, masks: str | Path, least: int = 1) -> list[Pair]:
    """All images of a folder with the masks of the same name in another (or `name_mask`), in the names' order.

    Raises InputError, which names the file, where one has no partner or a side shorter than `least` pixels, and more.
    """
    of_images = _files(images)
    of_masks = {stem.removesuffix("_mask").removesuffix("-mask"): path for stem, path in _files(masks).items()}
    for stem in (*of_images, *of_masks):
        if stem not in of_masks:
            raise InputError(f"{of_images[stem]}: there is no mask of that name in {masks}")
        if stem not in of_images:
            raise InputError(f"{of_masks[stem]}: there is no image of that name in {images}")
    pairs = []
    for stem, path in of_images.items():
        pairs.append(read_pair(path, of_masks[stem]))
        height, width = pairs[-1][1].shape
        if min(height, width) < least:
            raise InputError(f"{path}: {height}×{width} pixels; the network needs {least} in each direction")
    return pairs


def read_8_bits(path: str | Path) -> np.ndarray:
    """An image in colour, uint8 (H, W, 3), grey in each channel where it is grey.  InputError for more than 8 bits."""
    array = read_image(path)
    if array.dtype != np.uint8:
        raise InputError(f"{path}: an image of {array.dtype}, expected 8 bits; scale it first")
    return np.repeat(array[:, :, None], 3, 2) if array.ndim == 2 else array


def read_square(path: str | Path, size: int) -> np.ndarray:
    """An image's middle square at another size: uint8 (size, size, 3).  InputError for more than 8 bits."""
    image = Image.fromarray(read_8_bits(path))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box))


def _files(folder: str | Path) -> dict[str, Path]:
    """The folder's images by their names without suffix, sorted."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(f"{path}: {found[path.stem].name} lies beside it; which one counts?")
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder}: no images in this folder ({', '.join(SUFFIXES)})")
    return found


def _opened(path: str | Path) -> Image.Image:
    """The file's one image, read whole, in a mode of which nothing was lost."""
    try:
        image = Image.open(path)
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise InputError(f"{path}: holds {frames} images, expected one")
        bits = _bits(image, path)
        image.load()
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that can be read (PNG, TIFF, JPEG, BMP)") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: corrupt ({error})") from None
    if bits > 8 and image.mode not in GREY_MODES:
        wrong = f"a colour image of {bits} bits, of which only 8 could be read"
        raise InputError(f"{path}: {wrong}; save it as 16-bit grey, or as 8-bit colour")
    return image


def _bits(image: Image.Image, path: str | Path) -> int:
    """Bits of each number in the file, which Pillow's mode does not tell."""
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        return max(np.atleast_1d(image.tag_v2.get(258, 1)))  # type: ignore[attr-defined]
    return 8


def _colours(image: Image.Image, path: str | Path) -> np.ndarray:
    """(H, W, 3); palettes are looked up."""
    array = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    if (array[:, :, 3:] != 255).any():
        raise InputError(f"{path}: has transparent pixels; flatten it first")
    return array[:, :, :3]
