"""Fashion-MNIST's real garments, coloured and set before a background, with a caption for each image."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tinydiff.datasets.captions import BACKGROUNDS, COLOURS, GARMENTS, UNSEEN, Vocabulary, captions
from tinydiff.datasets.idx import read_labelled
from tinydiff.errors import InputError
from tinydiff.files import shipped

Array = np.ndarray
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts all 70,000
SIZE, GREY_SIZE = 32, 28
MARGIN = (SIZE - GREY_SIZE) // 2
CHUNK = 1024  # images rendered at once: what bounds the memory beside the result


@dataclass(frozen=True)
class CaptionedImages:
    """Images with what they show: in words, and as indices into `names`."""

    images: Array  # uint8 (N, 32, 32, 3)
    captions: list[str]
    garment: Array  # int64 (N,), as are the next two
    colour: Array
    background: Array
    names: dict[str, list[str]]  # "garment", "colour", "background": the name of each index
    source: str  # one line that says which data was used

    def __len__(self) -> int:
        return len(self.images)


def captioned_fashion(split: str, data: str | Path | None = None, seed: int = 0) -> CaptionedImages:
    """The "train" part, colours and backgrounds drawn with `seed`, or the "test" part, whose one draw is fixed.

    The test part has all 80 pairs of garment and colour, evenly.  Raises InputError where the data is missing or bad.
    """
    grey, labels, source = load_fashion(split, data)
    if split == "train":
        return draw_training(grey, labels, np.random.default_rng(seed), source)
    # Nothing to draw: each garment's images go through the 32 combinations, round and round, so that they are even.
    # Each garment begins elsewhere, and the background moves with the colour, so that a few images show many.
    turn = np.empty(len(labels), np.int64)
    for label in range(len(GARMENTS)):
        rows = np.flatnonzero(labels == label)
        turn[rows] = 3 * label + np.arange(len(rows))
    background = (turn + turn // len(COLOURS)) % len(BACKGROUNDS)
    return captioned(grey, labels, turn % len(COLOURS), background, np.random.default_rng(0), source)


def draw_training(
    grey: Array, labels: Array, rng: np.random.Generator, source: str, every_pair: bool = False
) -> CaptionedImages:
    """Colours, backgrounds and captions drawn anew for grey uint8 (N, 28, 28) and labels (N,): once an epoch.

    No pair of UNSEEN is ever drawn, unless `every_pair` is asked for: the evaluation classifier must know those pairs.
    """
    colour = np.empty(len(labels), np.int64)
    for label in range(len(GARMENTS)):
        rows = np.flatnonzero(labels == label)
        colours = [i for i in range(len(COLOURS)) if every_pair or (label, i) not in UNSEEN]
        colour[rows] = rng.choice(colours, len(rows))
    background = rng.integers(0, len(BACKGROUNDS), len(labels))
    return captioned(grey, labels, colour, background, rng, source)


class Fashion:
    """The training garments, with colours, backgrounds and captions that are sampled anew in each epoch."""

    def __init__(self, grey: Array, labels: Array, source: str, seed: int, every_pair: bool = False) -> None:
        self.grey, self.labels, self.source, self.seed = grey, labels, source, seed
        self.every_pair, self.vocabulary = every_pair, Vocabulary()
        self._epoch = -1
        self._images: CaptionedImages | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(self, number: int) -> CaptionedImages:
        """The garments of an epoch; they depend on the seed and the number alone."""
        if number != self._epoch or self._images is None:
            self._images = None  # the old images' memory is free before the new ones are made
            rng = np.random.default_rng([self.seed, 1, number])
            self._images = draw_training(self.grey, self.labels, rng, self.source, self.every_pair)
            self._epoch = number
        return self._images


def captioned(
    grey: Array, labels: Array, colour: Array, background: Array, rng: np.random.Generator, source: str
) -> CaptionedImages:
    garment, images = labels.astype(np.int64), render(grey, colour, background)
    names = {"garment": list(GARMENTS), "colour": list(COLOURS), "background": list(BACKGROUNDS)}
    sentences = captions(garment, colour, background, rng)
    return CaptionedImages(images, sentences, garment, colour, background, names, source)


def render(grey: Array, colour: Array, background: Array) -> Array:
    """Images uint8 (N, 32, 32, 3) of garments uint8 (N, 28, 28), in colours (N,) on backgrounds (N,), both indices.

    With g the grey value in [0, 1], zero-padded to 32x32, and m = min(1, 5g):
    pixel = m (.25 + .75 g) colour + (1 - m) background, rounded to the nearest of 0..255.
    Raises InputError where a type, shape or index is not so.
    """
    if grey.dtype != np.uint8 or grey.shape[1:] != (GREY_SIZE, GREY_SIZE):
        raise InputError(f"render: grey {grey.dtype} {grey.shape}, expected uint8 (N, {GREY_SIZE}, {GREY_SIZE})")
    for name, indices, count in (("colour", colour, len(COLOURS)), ("background", background, len(BACKGROUNDS))):
        if indices.shape != (len(grey),) or not np.all((indices >= 0) & (indices < count)):
            raise InputError(f"render: {name} {indices.shape}, expected ({len(grey)},) indices from 0 to {count - 1}")
    images = np.empty((len(grey), SIZE, SIZE, 3), np.uint8)
    for start in range(0, len(grey), CHUNK):
        part = slice(start, start + CHUNK)
        padded = np.pad(grey[part], ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
        first = 256 * (colour[part] * len(BACKGROUNDS) + background[part])  # of the table's rows for an image
        rows = padded + first[:, None, None]
        np.take(pixel_table(), rows, axis=0, out=images[part], mode="clip")  # "raise" would copy out
    return images


@cache
def pixel_table() -> Array:
    """Each pixel that there can be, uint8 (colours * backgrounds * 256, 3): a grey value has only 256 levels."""
    g = np.arange(256)[:, None] / 255
    m = np.minimum(1, 5 * g)
    colour = np.array(list(COLOURS.values()))[:, None, None]  # (colours, 1, 1, 3)
    background = np.array(list(BACKGROUNDS.values()))[:, None]  # (backgrounds, 1, 3)
    pixel = m * (0.25 + 0.75 * g) * colour + (1 - m) * background  # (colours, backgrounds, 256, 3)
    return np.rint(255 * pixel).astype(np.uint8).reshape(-1, 3)


def load_fashion(split: str, data: str | Path | None = None) -> tuple[Array, Array, str]:
    """Garments in grey, uint8 (N, 28, 28), their labels, uint8 (N,), and one line that says which data this is.

    Looked up in the folder `data`, $TINYDIFF_DATA, the folder of Debian's dataset-fashion-mnist, and last the subset
    that tinydiff ships.  Raises InputError where a folder that was named is missing, or a file in it is bad.
    """
    named = data or os.environ.get("TINYDIFF_DATA")
    if named and not Path(named).is_dir():
        raise InputError(f"{named}: no such folder, expected one with Fashion-MNIST's IDX files")
    folder = Path(named) if named else DEBIAN if DEBIAN.is_dir() else shipped_fashion()
    grey, labels = read_labelled(folder, split)
    if grey.shape[1:] != (GREY_SIZE, GREY_SIZE):
        raise InputError(f"{folder}: images of shape {grey.shape[1:]}, expected ({GREY_SIZE}, {GREY_SIZE})")
    if labels.max(initial=0) >= len(GARMENTS):
        raise InputError(f"{folder}: label {labels.max()}, expected 0 to {len(GARMENTS) - 1}")
    origin = named or (folder if folder == DEBIAN else "the subset that tinydiff ships")
    return grey, labels, f"Fashion-MNIST {split}, {len(grey):,} images from {origin}"


def shipped_fashion() -> Path:
    """The folder of the subset that comes with tinydiff: 13,000 training and 3,000 test images, the same everywhere."""
    return shipped("fashion-mnist")
