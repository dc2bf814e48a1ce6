"""IDX files: what is written is read, and each fault is one clear line that names the file."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from tinydiff.apps.data.fashion_subset import write_idx
from tinydiff.datasets import read_idx, read_labelled
from tinydiff.errors import InputError

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([2, 0, 1], np.uint8)


def family(folder, prefix="train", suffix=".gz", images=IMAGES, labels=LABELS):
    write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)


def test_known_bytes(tmp_path):
    """The format is pinned to bytes written by hand, so that reader and writer cannot be wrong together."""
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">III", 1, 2, 3) + bytes([1, 2, 3, 4, 5, 6]))
    np.testing.assert_array_equal(read_idx(path, 3), [[[1, 2, 3], [4, 5, 6]]])


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("array", [IMAGES, LABELS, IMAGES[:0], IMAGES.T])
def test_round_trip(tmp_path, suffix, array):
    path = tmp_path / f"x{suffix}"
    write_idx(path, array)
    read = read_idx(path, array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


def test_gzipped_bytes_do_not_depend_on_name_or_time(tmp_path, monkeypatch):
    write_idx(tmp_path / "a.gz", IMAGES)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_idx(tmp_path / "b.gz", IMAGES)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_labelled_parts_are_kept_apart(tmp_path, suffix):
    family(tmp_path, "train", suffix)
    family(tmp_path, "t10k", suffix, IMAGES[:2], LABELS[:2])
    assert [len(part) for part in read_labelled(tmp_path, "train")] == [3, 3]
    assert [len(part) for part in read_labelled(tmp_path, "test")] == [2, 2]


def test_only_uint8_is_written(tmp_path):
    with pytest.raises(InputError, match="float64, expected uint8"):
        write_idx(tmp_path / "x", IMAGES.astype(float))


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no train-images-idx3-ubyte in it"):
        read_labelled(tmp_path, "train")
    with pytest.raises(InputError, match="nowhere: cannot be read .*expected an IDX file"):
        read_idx(tmp_path / "nowhere", 3)


def test_unknown_split(tmp_path):
    with pytest.raises(InputError, match='split \'valid\', expected "train" or "test"'):
        read_labelled(tmp_path, "valid")


def test_wrong_magic_number(tmp_path):
    write_idx(tmp_path / "labels", LABELS)
    with pytest.raises(InputError, match="labels: magic number 0x00000801, expected 0x00000803"):
        read_idx(tmp_path / "labels", 3)


@pytest.mark.parametrize(
    "bytes_left, message",
    [
        (0, "magic number 0x, expected 0x00000803"),
        (10, "truncated, 10 bytes, expected a header of 16"),
        (75, r"truncated, 75 bytes, expected 76 for shape \(3, 4, 5\)"),
    ],
)
def test_truncated(tmp_path, bytes_left, message):
    path = tmp_path / "images"
    write_idx(path, IMAGES)
    path.write_bytes(path.read_bytes()[:bytes_left])
    with pytest.raises(InputError, match=f"images: {message}"):
        read_idx(path, 3)


def test_too_long(tmp_path):
    path = tmp_path / "images"
    write_idx(path, IMAGES)
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(InputError, match="too long, at least 77 bytes, expected 76"):
        read_idx(path, 3)


def cut(content):
    return content[:-9]


def flip(content):
    return content[:20] + bytes([content[20] ^ 0xFF]) + content[21:]


def unpack(content):
    return gzip.decompress(content)


@pytest.mark.parametrize("harm", [cut, flip, unpack])
def test_corrupt_gzip(tmp_path, harm):
    path = tmp_path / "images.gz"
    write_idx(path, IMAGES)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(InputError, match="images.gz: corrupt or truncated .*expected a gzipped IDX file"):
        read_idx(path, 3)


def test_counts_differ(tmp_path):
    family(tmp_path, labels=LABELS[:2])
    with pytest.raises(InputError, match="train-labels-idx1-ubyte.gz: 2 labels, expected 3"):
        read_labelled(tmp_path, "train")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**11, 2**11, 2**9), (0, 2**32 - 1, 2**32 - 1)])
def test_sizes_beyond_the_limit(tmp_path, suffix, shape):
    content = bytes([0, 0, 8, 3]) + struct.pack(">III", *shape) + bytes(60)
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(InputError, match="images.*: an array of shape .*, expected at most 1,073,741,824 bytes"):
        read_idx(path, 3)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_sizes_beyond_the_file_allocate_nothing(tmp_path, suffix):
    content = bytes([0, 0, 8, 3]) + struct.pack(">III", 2**10, 2**10, 2**10) + bytes(60)
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    tracemalloc.start()
    with pytest.raises(InputError, match="truncated, 76 bytes, expected 1073741840"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    path = tmp_path / "images.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(bytes([0, 0, 8, 3]) + struct.pack(">III", 3, 4, 5))
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(InputError, match="images.gz: too long, at least 77 bytes, expected 76 for shape"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()
