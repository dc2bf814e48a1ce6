"""Damaged files of each kind that is read: an array, or one line that says what is wrong; nothing else.

200 mutations of each kind in the default run, 5,000 with `pytest -m campaign`.
"""

import gzip
import io
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tinydiff import checkpoint, weights
from tinydiff.apps.data.fashion_subset import write_idx
from tinydiff.apps.data.image_files import read_image, read_mask, read_square
from tinydiff.apps.data.image_pages import count_pages
from tinydiff.apps.data.own_images import load_own_images
from tinydiff.datasets.idx import read_idx
from tinydiff.errors import InputError

RNG = np.random.default_rng(0)
GREY, DEEP = RNG.integers(0, 256, (20, 30), np.uint8), RNG.integers(0, 2**16, (20, 30), np.uint16)
COLOUR = np.kron(RNG.integers(0, 256, (5, 7, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
TEXT = 'file,caption\np0.png,"a red dress, plain"\np1.png,a blue dress\n\np1.png,"the ""best"" café"\n'
EXTREMES = [b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80", b'"', b"\n", b";", b"../"]
SECONDS = 20  # of one file, on a busy machine; a limit that is missing takes minutes


def encoded(array, format, more=(), **options):
    file = io.BytesIO()
    pages = [Image.fromarray(page) for page in more]
    Image.fromarray(array).save(file, format, **(dict(save_all=True, append_images=pages) if pages else {}), **options)
    return file.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def pngs(folder):
    palette = Image.fromarray(GREY).quantize(7)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=3)
    arrays = [GREY, DEEP, COLOUR, GREY > 127, np.dstack([COLOUR, COLOUR[:, :, 0]])]
    still = [encoded(array, "PNG", exif=turned()) for array in arrays]
    return [*still, file.getvalue(), encoded(GREY, "PNG", [GREY[::-1]] * 3)]


def jpegs(folder):
    exif = turned()
    return [
        encoded(COLOUR, "JPEG", exif=exif),
        encoded(GREY, "JPEG", progressive=True),
        encoded(COLOUR, "MPO", [COLOUR[:8]]),
    ]


def tiffs(folder):
    kinds = [GREY, DEEP, COLOUR, GREY > 127, GREY.astype(np.float32), GREY.astype(np.int32)]
    packed = [encoded(DEEP, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
    described = encoded(GREY, "TIFF", description="ImageJ=1.53\nimages=2\n")
    return [
        *(encoded(array, "TIFF", exif=turned()) for array in kinds),
        *packed,
        described,
        encoded(GREY, "TIFF", [DEEP, GREY], compression="tiff_lzw"),
        encoded(GREY, "TIFF", [GREY, GREY], big_tiff=True),
    ]


def tables(folder):
    for name in ("p0.png", "p1.png"):
        Image.fromarray(COLOUR).save(folder / name)
    return [TEXT.encode(), TEXT.encode("utf-16"), TEXT.replace(",", ";").encode(), TEXT.replace("\n", "\r\n").encode()]


def idx_files(folder):
    write_idx(folder / "x", np.stack([GREY] * 3))
    return [(folder / "x").read_bytes()]


def checkpoints(folder):
    weights.save_weights(folder, "words", {"vectors": DEEP.astype(np.float32)}, {"words": [f"w{i}" for i in range(20)]})
    return [(folder / "words.safetensors").read_bytes()]


def read_picture(path):
    """Every way in which a file of an image is read."""
    for read in (count_pages, read_image, read_mask, lambda path: read_square(path, 8)):
        try:
            read(path)
        except InputError as error:
            told(error, path)
    read_image(path, 2)


def read_packed(path):
    """An IDX file, and the same bytes in a gzip file that is whole."""
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    try:
        read_idx(packed, 3)
    except InputError as error:
        told(error, packed)
    read_idx(path, 3)


def read_gzip(path):
    read_idx(path, 3)


KINDS = {
    "png": (".png", pngs, read_picture),
    "jpeg": (".jpg", jpegs, read_picture),
    "tiff": (".tif", tiffs, read_picture),
    "csv": (".csv", tables, lambda path: load_own_images(path.parent, path)),
    "idx": ("", idx_files, read_packed),
    "idx.gz": (".gz", lambda folder: [gzip.compress(content) for content in idx_files(folder)], read_gzip),
    "safetensors": (".safetensors", checkpoints, checkpoint.load),
    "words": (".safetensors", checkpoints, lambda path: weights.load_words(path.parent)),
}


def mutated(content, rng):
    """The content with one to four pieces overwritten, cut out, doubled or cut off; those at the start most often."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        start = int(len(content) * rng.random() ** rng.choice([1, 3]))
        piece = slice(start, start + int(rng.integers(1, 9)))
        extreme = EXTREMES[rng.integers(len(EXTREMES))]
        what = rng.integers(6)
        if what == 0:
            content[piece] = rng.bytes(len(content[piece]))
        elif what == 1:
            content[start : start + len(extreme)] = extreme
        elif what == 2:
            del content[piece]
        elif what == 3:
            content[piece] = content[piece] * 2
        elif what == 4 and start < len(content):
            content[start] ^= 1 << int(rng.integers(8))
        elif what == 5:
            del content[start + len(content) // 2 :]
    return bytes(content)


def with_checksums(content):
    """A PNG whose chunks have the right checksum for what they hold, so that it is looked at."""
    at, content = 8, bytearray(content)
    while at + 12 <= len(content):
        end = at + 8 + struct.unpack(">I", content[at : at + 4])[0]
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return bytes(content)


def told(error, path):
    """One line, which begins with the file."""
    assert str(error).startswith(str(path)) or f"{path.parent}" in str(error), error
    assert "\n" not in str(error), error


def peak():
    """The most bytes of memory that this process has had, and 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_named(tmp_path, kind, count):
    suffix, make, read = KINDS[kind]
    originals = make(tmp_path)
    path = tmp_path / f"words{suffix}"
    refused, before = 0, peak()
    for seed in range(count):
        rng = np.random.default_rng([seed, len(suffix)])
        content = mutated(originals[seed % len(originals)], rng)
        path.write_bytes(with_checksums(content) if kind == "png" and seed % 2 else content)
        start = time.monotonic()
        try:
            read(path)
        except InputError as error:
            told(error, path)
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - start < SECONDS, f"seed {seed}"
    assert refused > count / 10  # so the mutations do damage
    assert peak() - before < 500e6
