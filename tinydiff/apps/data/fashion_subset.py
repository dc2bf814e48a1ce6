"""The subset of Fashion-MNIST that comes with tinydiff: `python -m tinydiff.apps.data.fashion_subset SOURCE TARGET`."""

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np

from tinydiff.apps.outputs import refuse_overwriting
from tinydiff.datasets.fashion import GARMENTS
from tinydiff.datasets.idx import NAMES, UNSIGNED_BYTE, read_labelled
from tinydiff.errors import InputError

EACH = {"train": 1300, "test": 300}  # images of each garment: 7.0 MB in all


def first_of_each(labels: np.ndarray, n: int) -> np.ndarray:
    """Indices of the first n images of each garment, in the order of the file."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:n] for label in range(len(GARMENTS))]))


def write_idx(path: str | Path, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file, gzipped if its name ends in .gz; the same array gives the same bytes."""
    path = Path(path)
    if array.dtype != np.uint8:
        raise InputError(f"write_idx: array of {array.dtype}, expected uint8")
    header = struct.pack(f">4B{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    content = header + array.tobytes()
    if path.suffix != ".gz":
        path.write_bytes(content)
        return
    # GzipFile, since gzip.compress writes another header in each version of Python; no name and no time in it
    with open(path, "wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        packed.write(content)


def make_subset(source: str | Path, target: str | Path) -> None:
    """Write the subset of the full set in `source` to the folder `target`, each split as two gzipped IDX files.

    Raises InputError where that would replace the full set.
    """
    kinds = ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")
    outputs = {split: [Path(target) / f"{NAMES[split]}-{kind}" for kind in kinds] for split in EACH}
    refuse_overwriting([path for paths in outputs.values() for path in paths], Path(source).glob("*ubyte*"))
    Path(target).mkdir(parents=True, exist_ok=True)
    for split, n in EACH.items():
        images, labels = read_labelled(source, split)
        chosen = first_of_each(labels, n)
        for path, array in zip(outputs[split], (images, labels), strict=True):
            write_idx(path, array[chosen])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the subset of Fashion-MNIST that tinydiff ships.")
    parser.add_argument("source", help="folder with the full set")
    parser.add_argument("target", help="folder to write to")
    arguments = parser.parse_args()
    make_subset(arguments.source, arguments.target)
