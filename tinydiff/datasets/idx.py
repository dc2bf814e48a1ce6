"""IDX files, plain or gzipped: the format of MNIST, Fashion-MNIST and KMNIST (yann.lecun.com/exdb/mnist).

Two zero bytes, one byte for the type (8: unsigned byte), one for the number of dimensions, each dimension as a
big-endian 32-bit integer, then the values in C order.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from tinydiff.errors import InputError

UNSIGNED_BYTE = 8
LARGEST = 2**30  # bytes of an array: twice the largest set of the family
NAMES = {"train": "train", "test": "t10k"}  # how the MNIST family's file names begin


def read_idx(path: str | Path, dimensions: int) -> np.ndarray:
    """The uint8 array in an IDX file of `dimensions` dimensions, gzipped if its name ends in .gz.

    Raises InputError where the file is missing, corrupt, truncated or larger than LARGEST, or has another magic number.
    """
    path, header, magic = Path(path), 4 + 4 * dimensions, bytes([0, 0, UNSIGNED_BYTE, dimensions])
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            start = file.read(header)
            if start[:4] != magic:
                expected = f"0x{magic.hex()} (IDX, unsigned bytes, {dimensions} dimensions)"
                raise InputError(f"{path}: magic number 0x{start[:4].hex()}, expected {expected}")
            if len(start) < header:
                raise InputError(f"{path}: truncated, {len(start)} bytes, expected a header of {header}")
            shape = struct.unpack(f">{dimensions}I", start[4:])
            if math.prod(side or 1 for side in shape) > LARGEST:
                raise InputError(f"{path}: an array of shape {shape}, expected at most {LARGEST:,} bytes")
            size = math.prod(shape)
            most = path.stat().st_size * (1032 if path.suffix == ".gz" else 1)  # deflate packs no better
            content = file.read(min(size, most) + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: corrupt or truncated ({error}), expected a gzipped IDX file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected an IDX file") from None
    if len(content) != size:
        fault = "truncated," if len(content) < size else "too long, at least"
        raise InputError(f"{path}: {fault} {header + len(content)} bytes, expected {header + size} for shape {shape}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_labelled(folder: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, H, W) and labels uint8 (N,) of the "train" or "test" part of a folder of the MNIST family.

    Raises InputError where a file is missing or bad, or where the two counts differ.
    """
    if split not in NAMES:
        raise InputError(f'split {split!r}, expected "train" or "test"')
    images = read_idx(find(Path(folder), f"{NAMES[split]}-images-idx3-ubyte"), 3)
    labels_file = find(Path(folder), f"{NAMES[split]}-labels-idx1-ubyte")
    labels = read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise InputError(f"{labels_file}: {len(labels)} labels, expected {len(images)}, one for each image")
    return images, labels


def find(folder: Path, name: str) -> Path:
    """The file of that name in the folder, plain or with .gz."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"{folder}: no {name} in it, expected that IDX file, plain or as .gz")
