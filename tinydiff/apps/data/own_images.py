"""Your own images with your own captions, from a folder and a CSV file."""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinydiff.apps.data.image_files import read_square
from tinydiff.datasets.captions import LENGTH, Vocabulary, split_words
from tinydiff.errors import InputError

SIZES = (32, 64)
HEADINGS = ("file", "filename", "file name", "file_name", "image", "picture", "name")


class OwnImages:
    """Images uint8 (N, size, size, 3) with a caption each, read from `files`; the same in every epoch."""

    def __init__(self, images: np.ndarray, captions: list[str], source: str, files: Sequence[Path] = ()) -> None:
        self.images, self.captions, self.files = images, captions, files
        self.digest = hashlib.sha256(images.tobytes() + "\n".join(captions).encode()).hexdigest()[:12]
        self.source = f"{source} ({len(captions)} images, {self.digest})"
        longest = max(len(split_words(caption)) for caption in captions)
        self.vocabulary = Vocabulary(split_words(" ".join(captions)), max(LENGTH, longest + 2))

    def __len__(self) -> int:
        return len(self.captions)

    def epoch(self, number: int) -> "OwnImages":
        return self


def load_own_images(folder: str | Path, table: str | Path, size: int = 32) -> OwnImages:
    """The images that the CSV file `table` names, two columns: file name in `folder`, caption.

    Each is cut to its middle square and brought to size×size pixels.  A first line of headings is left out; an image
    may have several lines, a caption in each.
    Raises InputError, which names the line or the file, where something is missing, empty or cannot be read.
    """
    if size not in SIZES:
        raise InputError(f"images can be {' or '.join(map(str, SIZES))} pixels wide, not {size}")
    folder, table = Path(folder), Path(table)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            lines = [(number, line) for number, line in enumerate(csv.reader(file), start=1) if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as CSV in UTF-8 ({error})") from None
    if lines and lines[0][1][0].strip().lower() in HEADINGS:
        lines = lines[1:]
    if not lines:
        raise InputError(f"{table}: names no images")
    read: dict[str, np.ndarray] = {}
    images, captions = [], []
    for number, line in lines:
        if len(line) != 2:
            raise InputError(f"{table}, line {number}: {len(line)} columns, expected a file name and a caption")
        name, caption = line[0].strip(), line[1].strip()
        if not split_words(caption):
            raise InputError(f"{table}, line {number}: the caption of {name} is empty")
        if name not in read:
            if not (folder / name).is_file():
                raise InputError(f"{table}, line {number}: there is no file {name} in {folder}")
            read[name] = read_square(folder / name, size)
        images.append(read[name])
        captions.append(caption)
    return OwnImages(np.stack(images), captions, str(folder), [table, *(folder / name for name in read)])
