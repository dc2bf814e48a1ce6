"""Images and masks from files, with nothing lost in silence: a depth that cannot be read whole is refused."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from tinydiff.apps.data.image_pages import as_array, count_pages, open_page
from tinydiff.errors import InputError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
PIECES = 4  # a label is one cell: in one piece, or in a few where something lies across it
SMALLEST = 4  # pixels of a piece, on average

Pair = tuple[np.ndarray, np.ndarray]  # an image (H, W) or (H, W, 3), and its mask (H, W), each cell with its number


def read_image(path: str | Path, page: int | None = None) -> np.ndarray:
    """An image as it lies in the file, upright: (H, W) or (H, W, 3); uint8, uint16, int32 or float32.

    page: 1, 2, 3 … of a TIFF that holds several images.  Raises InputError, which names the file, where it cannot be
    read whole, holds several images, transparent pixels or values that are not finite, or is in colour with more than
    8 bits.
    """
    return as_array(open_page(path, page), path)


def read_mask(path: str | Path, page: int | None = None) -> np.ndarray:
    """A mask (H, W), int32: 0 is the background, and each cell has a number of its own.

    A file with two values, 0 and 1 or 0 and 255, says only where cells are: each piece of them becomes one.  In a file
    with more, each value is one cell's number.  page: as in `read_image`.  Raises InputError, which names the file, for
    anything else.
    """
    image = open_page(path, page)
    array = np.asarray(image) if image.mode == "P" else as_array(image, path)
    if array.ndim == 3:
        if (array != array[:, :, :1]).any():
            raise InputError(f"{path}: a mask in colour; expected one number for each pixel")
        array = array[:, :, 0]
    if (
        (array != np.round(array)).any()
        or array.min() < 0
        or array.max() >= (2**24 if array.dtype.kind == "f" else 2**31)
    ):
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


def read_pair(image: str | Path, mask: str | Path, page: int | None = None) -> Pair:
    """An image and its mask, of two stacks the same page; InputError where their sizes differ."""
    pixels, labels = read_image(image, page), read_mask(mask, page_of(mask, page))
    if pixels.shape[:2] != labels.shape:
        raise InputError(f"{mask}: the mask is {labels.shape}, but the image {image} is {pixels.shape[:2]}")
    return pixels, labels


def page_of(path: str | Path, page: int | None) -> int | None:
    """The page that belongs to one of another file: the same, or None where the file holds one image only."""
    return None if page is None or count_pages(path) == 1 else page


def read_pairs(images: str | Path, masks: str | Path, least: int = 1) -> list[Pair]:
    """All images of a folder with the masks of the same name in another (or `name_mask`), in the names' order.

    The pages of a TIFF stack go with those of its masks' stack.  Raises InputError, which names the file, where one
    has no partner or a side shorter than `least` pixels, and more.
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
        pages, of_mask = count_pages(path), count_pages(of_masks[stem])
        if pages != of_mask:
            raise InputError(f"{of_masks[stem]}: {of_mask} pages, but the image {path} has {pages}")
        for page in range(1, pages + 1):
            pairs.append(read_pair(path, of_masks[stem], page))
            height, width = pairs[-1][1].shape
            if min(height, width) < least:
                raise InputError(f"{path}: {height}×{width} pixels; the network needs {least} in each direction")
    return pairs


def read_8_bits(path: str | Path, page: int | None = None) -> np.ndarray:
    """An image as uint8 (H, W), or (H, W, 3) in colour.  InputError for more than 8 bits."""
    array = read_image(path, page)
    if array.dtype != np.uint8:
        raise InputError(f"{path}: an image of {array.dtype}, expected 8 bits; scale it first")
    return array


def in_colour(image: np.ndarray) -> np.ndarray:
    """(H, W, 3), grey in each channel where the image is (H, W)."""
    return np.repeat(image[:, :, None], 3, 2) if image.ndim == 2 else image


def read_square(path: str | Path, size: int, page: int | None = None) -> np.ndarray:
    """An image's middle square at another size: uint8 (size, size, 3).  InputError for more than 8 bits."""
    return _middle(read_8_bits(path, page), size)


def read_white(path: str | Path, size: int, page: int | None = None) -> np.ndarray:
    """Where the middle square of a mask is white, bool (size, size): above half of the most that its file can hold.

    Of a file that holds nothing above 1, 1 is white.  Raises InputError where nothing is.
    """
    array = read_image(path, page)
    largest = array.max()
    most = 1 if largest <= 1 else np.iinfo(array.dtype).max if array.dtype.kind == "u" else largest
    white = _middle(np.rint(array.clip(0) * (255 / most)).astype(np.uint8), size).max(-1) > 127
    if not white.any():
        raise InputError(f"{path}: no white in the mask's middle square, up to {largest}; expected above {most / 2:g}")
    return white


def _middle(array: np.ndarray, size: int) -> np.ndarray:
    """The middle square of uint8 (H, W) or (H, W, 3) at another size: (size, size, 3)."""
    image = Image.fromarray(in_colour(array))
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
