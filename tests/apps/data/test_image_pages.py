"""Image files as cameras, phones, microscopes and damage leave them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tinydiff.apps.data.image_files import read_image, read_mask, read_pairs, read_square, read_white
from tinydiff.apps.data.image_pages import MOST_PIXELS, count_pages, open_page
from tinydiff.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 9), np.uint8)
DEEP = RNG.integers(0, 2**16, (7, 9), np.uint16)
# What EXIF's orientations mean: where row 0 and column 0 of the file lie.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.T,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].T,
    8: lambda x: np.rot90(x),
}


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def turned(path, array, orientation, **options):
    image = Image.fromarray(array)
    exif = image.getexif()
    exif[0x112] = orientation
    image.save(path, exif=exif, **options)
    return path


def stack(path, arrays, **options):
    pages = [Image.fromarray(array) for array in arrays]
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    return path


def tiff(path, samples, bits, sample_format, photometric=1, channels=1, extra=None):
    """A TIFF of kinds that Pillow does not write: `samples` as bytes, of one strip of 9×7 pixels, little-endian."""
    short, long = 3, 4
    entries = [(256, long, 9), (257, long, 7), (258, short, bits), (259, short, 1), (262, short, photometric)]
    entries += [(273, long, 256), (277, short, channels), (278, long, 7), (279, long, len(samples))]
    entries += [(338, short, extra)] if extra is not None else []
    entries += [(339, short, sample_format)]
    packed = b"".join(
        # Two shorts fit into the entry's four bytes.
        struct.pack("<HHI", number, kind, channels if number in (258, 339) else 1)
        + (struct.pack("<HH", value, value) if kind == short else struct.pack("<I", value))
        for number, kind, value in entries
    )
    directory = struct.pack("<H", len(entries)) + packed + struct.pack("<I", 0)
    path.write_bytes((b"II*\0" + struct.pack("<I", 8) + directory).ljust(256, b"\0") + samples)
    return path


def png(path, width, height, bits, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    "name, array, options",
    [
        ("x.png", GREY, {}),
        ("x.png", DEEP, {}),
        ("x.tif", GREY, {}),
        ("x.tif", DEEP, {}),
        ("x.tif", DEEP, {"compression": "tiff_lzw"}),
        ("x.jpg", np.kron(GREY, np.ones((8, 8), np.uint8)), {"quality": 100}),
    ],
    ids=["png", "png 16", "tif", "tif 16", "tif lzw", "jpg"],
)
def test_an_image_is_turned_as_its_camera_was_held(tmp_path, name, array, options, orientation):
    read = read_image(turned(tmp_path / name, array, orientation, **options))
    expected = UPRIGHT[orientation](array)
    assert read.shape == expected.shape
    assert abs(read.astype(int) - expected).max() <= (2 if name == "x.jpg" else 0)


def test_a_mask_is_turned_too(tmp_path):
    labels = np.zeros((7, 9), np.uint8)
    labels[1:4, 1:3] = 255
    assert np.array_equal(read_mask(turned(tmp_path / "m.png", labels, 6)), np.rot90(labels, -1) > 0)


def test_the_photo_of_an_mpo_is_read(tmp_path):
    photo = RNG.integers(0, 256, (16, 24, 3), np.uint8)
    path = stack(tmp_path / "phone.jpg", [photo, photo[:8, :8]], format="MPO")
    assert Image.open(path).format == "MPO" and Image.open(path).n_frames == 2
    assert read_image(path).shape == (16, 24, 3) and count_pages(path) == 1


@pytest.mark.parametrize("array", [GREY, DEEP], ids=["8 bits", "16 bits"])
def test_a_page_of_a_stack_is_read(tmp_path, array):
    path = stack(tmp_path / "stack.tif", [array, array[::-1], array[:, ::-1]])
    assert count_pages(path) == 3
    for page, expected in enumerate([array, array[::-1], array[:, ::-1]], start=1):
        assert np.array_equal(read_image(path, page), expected)
    with pytest.raises(InputError, match=r"stack.tif: holds 3 images, expected one, or the number of a page$"):
        read_image(path)  # which was called corrupt
    with pytest.raises(InputError, match="has no page 4; it holds 3 images"):
        read_image(path, 4)
    with pytest.raises(InputError, match="has no page 2; it holds 1 image$"):
        read_image(saved(tmp_path / "one.png", array), 2)


def test_pages_are_paired_with_the_pages_of_their_masks(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir(), masks.mkdir()
    labels = np.zeros((7, 9), np.uint8)
    labels[:3, :3] = 255
    stack(images / "volume.tif", [GREY, GREY[::-1]])
    stack(masks / "volume.tif", [labels, labels[::-1]])
    pairs = read_pairs(images, masks)
    assert [np.array_equal(image, GREY[:: 1 - 2 * i]) for i, (image, _) in enumerate(pairs)] == [True, True]
    assert [np.array_equal(mask, labels[:: 1 - 2 * i] > 0) for i, (_, mask) in enumerate(pairs)] == [True, True]
    stack(masks / "volume.tif", [labels] * 3)
    with pytest.raises(InputError, match="masks/volume.tif: 3 pages, but the image .*images/volume.tif has 2"):
        read_pairs(images, masks)


def test_more_than_pillow_would_read_is_refused_by_name(tmp_path):
    path = tmp_path / "x.tif"
    saved(path, GREY, description="ImageJ=1.53\nimages=3\nslices=3\n")
    with pytest.raises(InputError, match="x.tif: 3 images by ImageJ's description, but 1 in its directory"):
        read_image(path)
    saved(path, GREY, description='{"shape": [3, 7, 9], "truncated": true}')
    with pytest.raises(InputError, match="x.tif: several images by tifffile's description, but 1 in its directory"):
        read_image(path)
    for description in ("ImageJ=1.53\nimages=2\nchannels=2\n", '<OME><Pixels SizeC="2" SizeZ="1"/></OME>'):
        stack(path, [GREY, GREY[::-1]], description=description)
        with pytest.raises(InputError, match="x.tif: 2 channels on 2 pages, expected one channel, or the number"):
            count_pages(path)
        assert np.array_equal(read_image(path, 2), GREY[::-1])
    for extra in (0, None):
        tiff(path, np.repeat(GREY, 2).tobytes(), 8, 1, channels=2, extra=extra)
        with pytest.raises(InputError, match="x.tif: 2 channels"):
            read_image(path)


def test_where_0_is_white_it_is_inverted(tmp_path):
    for bits, array in ((8, GREY), (16, DEEP)):
        path = tiff(tmp_path / "x.tif", array.tobytes(), bits, 1, photometric=0)
        assert np.array_equal(read_image(path), np.iinfo(array.dtype).max - array)
    with pytest.raises(InputError, match="32-bit values of which 0 is white cannot be read"):
        read_image(tiff(tmp_path / "x.tif", GREY.astype("<f4").tobytes(), 32, 3, photometric=0))


@pytest.mark.parametrize("kind, sample_format", [("<i2", 2), ("<u4", 1), ("<i4", 2), ("<f4", 3)])
def test_labels_are_read_where_they_are_exact(tmp_path, kind, sample_format):
    labels = np.zeros((7, 9), np.int32)
    labels[:3, :4], labels[4:, 5:], labels[4:, :3] = 1, 2, 300
    array = labels.astype(kind)
    path = tiff(tmp_path / "m.tif", array.tobytes(), array.dtype.itemsize * 8, sample_format)
    assert np.array_equal(read_mask(path), labels)


@pytest.mark.parametrize(
    "kind, sample_format, message",
    [
        ("<i8", 2, "64-bit signed integers cannot be read; save one channel as uint8, uint16, int32 or float32"),
        ("<f8", 3, "64-bit floats cannot be read; save"),
        ("<i1", 2, "signed bytes cannot be read"),
    ],
)
def test_other_numbers_are_refused_with_what_to_do(tmp_path, kind, sample_format, message):
    path = tiff(tmp_path / "x.tif", GREY.astype(kind).tobytes(), np.dtype(kind).itemsize * 8, sample_format)
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match=f"x.tif: {message}"):
            read(path)


def test_numbers_that_would_be_others_are_refused(tmp_path):
    array = GREY.astype("<u4") + 2**31
    with pytest.raises(InputError, match="x.tif: has values of 2³¹ or more"):
        read_image(tiff(tmp_path / "x.tif", array.tobytes(), 32, 1))
    with pytest.raises(InputError, match="whole numbers"):  # above 2²⁴ floats leave some out
        read_mask(tiff(tmp_path / "x.tif", np.full((7, 9), 2**24, "<f4").tobytes(), 32, 3))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_one_bit_is_black_and_white(tmp_path, suffix):
    bits = GREY > 127
    assert np.array_equal(read_image(saved(tmp_path / f"x.{suffix}", bits)).reshape(7, 9, -1)[:, :, 0], bits * 255)
    assert read_square(tmp_path / f"x.{suffix}", 7).max() > 200


@pytest.mark.parametrize("most, kind", [(255, np.uint8), (1, bool), (1, np.uint8), (2**16 - 1, np.uint16), (1, "f4")])
def test_white_is_above_half_of_what_a_file_can_hold(tmp_path, most, kind):
    right = np.zeros((8, 8))
    right[:, 4:] = most
    name = "m.tif" if kind == "f4" else "m.png"
    white = read_white(saved(tmp_path / name, right.astype(kind)), 8)
    assert white.dtype == bool and np.array_equal(white, right > 0)


def test_a_mask_without_white_is_refused(tmp_path):
    for array in (np.zeros((8, 8), bool), np.zeros((8, 8), np.uint8), np.full((8, 8), 100, np.uint8)):
        with pytest.raises(InputError, match="m.png: no white in the mask's middle square, up to"):
            read_white(saved(tmp_path / "m.png", array), 8)
    beside = np.zeros((8, 24), np.uint8)
    beside[:, 20:] = 255
    with pytest.raises(InputError, match="m.png: no white in the mask's middle square, up to 255"):
        read_white(saved(tmp_path / "m.png", beside), 8)


def test_grey_with_alpha_is_grey(tmp_path):
    opaque = np.stack([GREY, np.full_like(GREY, 255)], -1)
    assert np.array_equal(read_image(saved(tmp_path / "x.png", opaque)), GREY)


@pytest.mark.parametrize("side, bits", [(2**31 - 1, 8), (50_000, 1)])
def test_an_image_beyond_the_limit_is_refused_before_it_is_read(tmp_path, side, bits):
    rows = zlib.compress(bytes(1000))
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match=f"x.png: {side} × {side} pixels; the limit is 268,435,456"):
            read(png(tmp_path / "x.png", side, side, bits, rows))
    assert MOST_PIXELS > 200e6  # a phone's photo


def test_pixels_that_a_file_cannot_hold_are_refused(tmp_path):
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY))
    assert np.array_equal(read_image(png(tmp_path / "x.png", 9, 7, 8, rows)), GREY)
    with pytest.raises(InputError, match=r"x.png: truncated, 1\d\d bytes for 9 × 1000000 pixels"):
        read_image(png(tmp_path / "x.png", 9, 10**6, 8, rows))  # Pillow fills up with black
    blank = np.zeros((1000, 4000), np.uint8)  # which deflate packs best
    assert np.array_equal(read_image(saved(tmp_path / "x.png", blank, compress_level=9)), blank)
    assert np.array_equal(read_image(saved(tmp_path / "x.png", blank > 0, compress_level=9)), blank)


@pytest.mark.parametrize("format", ["gif", "png", "webp"])
def test_animations_whole_and_cut_are_one_line(tmp_path, format):
    path = stack(tmp_path / f"x.{format}", [RNG.integers(0, 256, (40, 30), np.uint8) for _ in range(4)])
    with pytest.raises(InputError, match=f"x.{format}: an animation of 4 images, expected a single one"):
        read_image(path)
    whole = path.read_bytes()
    for share in (0.2, 0.4, 0.6, 0.8, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=rf"x.{format}: (an animation of \d images|corrupt|not an image)"):
            read_image(path)


@pytest.mark.parametrize("place", [8, 12, 18, 20, 60, 100])
def test_a_damaged_directory_is_one_line(tmp_path, place):
    path = stack(tmp_path / "x.tif", [GREY, DEEP])
    content = bytearray(path.read_bytes())
    content[place : place + 2] = b"\xff\xff"
    path.write_bytes(content)
    try:
        open_page(path, 1)
    except InputError as error:
        assert "\n" not in str(error) and str(error).startswith(f"{path}: ")
