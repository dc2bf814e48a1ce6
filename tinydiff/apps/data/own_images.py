"""Your own images with your own captions, from a folder and a CSV file."""

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from unicodedata import normalize

import numpy as np

from tinydiff.apps.data.image_files import read_square
from tinydiff.datasets.captions import LENGTH, Vocabulary, split_words
from tinydiff.errors import InputError

SIZES = (32, 64)
HEADINGS = ("file", "filename", "file name", "file_name", "image", "picture", "name")
# Five letters or more of a script that is written without spaces: Han, Hiragana, Thai, Lao, Myanmar, Khmer.
UNSPACED = re.compile("[\u3040-\u309f\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]{5,}")


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
    read: dict[str, np.ndarray] = {}
    images: list[np.ndarray] = []
    captions: list[str] = []
    files: list[Path] = []
    for number, line in _lines(table):
        where = f"{table}, line {number}"
        if not captions and line[0].strip().lower() in HEADINGS:
            continue
        path = _file(folder, line[0].strip(), where)
        if len(line) != 2:
            raise InputError(f"{where}: {len(line)} columns, expected a file name and a caption")
        name, caption = line[0].strip(), line[1].strip()
        if not split_words(caption):
            raise InputError(f"{where}: the caption of {name} is empty")
        if len(split_words(caption)) == 1 and UNSPACED.search(caption):
            raise InputError(f"{where}: {caption!r} would be one word, expected spaces between a caption's words")
        if name not in read:
            read[name] = read_square(path, size)
            files.append(path)
        images.append(read[name])
        captions.append(caption)
    if not captions:
        raise InputError(f"{table}: names no images")
    return OwnImages(np.stack(images), captions, str(folder), [table, *files])


def _lines(table: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file that are not empty, each with its number; a quote is closed on the line it begins on."""
    number = 0
    try:
        with open(table, encoding="utf-8-sig") as file:
            for number, text in enumerate(file, start=1):
                line = next(csv.reader([text], strict=True))
                if any(line):
                    yield number, line
    except csv.Error as error:
        odd = text.count('"') % 2
        raise InputError(
            f"{table}, line {number}: {'a quote that is not closed on its line' if odd else error}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table}: cannot be read as CSV in UTF-8 ({error})") from None


def _file(folder: Path, name: str, where: str) -> Path:
    """The file of that name in the folder, whether é is one character in it or two."""
    if not name or PurePath(name).anchor or ".." in PurePath(name).parts:
        raise InputError(f"{where}: {name!r} is not the name of a file inside {folder}")
    path = folder
    for part in PurePath(name).parts:
        if not os.path.exists(path / part):
            beside = os.listdir(path) if path.is_dir() else []
            part = next((other for other in beside if normalize("NFC", other) == normalize("NFC", part)), part)
        path = path / part
    if os.path.isfile(path):
        return path
    for separator, meaning in ((";", "semicolons"), ("\t", "tabs")):
        if separator in name:
            raise InputError(f"{where}: {meaning} between the columns, expected a comma: file name,caption")
    raise InputError(f"{where}: there is no file {name} in {folder}")
