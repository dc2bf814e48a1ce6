"""Files of images and masks: what is read is what is in the file, or one line says why not."""

import numpy as np
import pytest
from PIL import Image

from tinydiff.apps.data.image_files import count_pieces, read_image, read_mask, read_pair, read_pairs
from tinydiff.errors import InputError

RNG = np.random.default_rng(0)
CELLS = np.zeros((40, 50), np.int32)
for number, (top, left) in enumerate([(2, 3), (2, 20), (20, 5), (22, 30)], start=1):
    CELLS[top : top + 9, left : left + 11] = number


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def png_16_bit_colour(path):
    """Pillow cannot write one: two pixels of three times 16 bits, by hand."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"\0" + struct.pack(">6H", 1000, 2000, 3000, 4000, 5000, 6000)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    "array",
    [
        RNG.integers(0, 2**8, (7, 9), np.uint8),
        RNG.integers(0, 2**16, (7, 9), np.uint16),
        RNG.integers(0, 2**8, (7, 9, 3), np.uint8),
    ],
    ids=["grey", "16 bits", "colour"],
)
def test_an_image_is_read_as_it_was_written(tmp_path, suffix, array):
    read = read_image(saved(tmp_path / f"x.{suffix}", array))
    assert read.dtype == array.dtype and np.array_equal(read, array)


def test_float_and_long_tiffs_keep_their_values(tmp_path):
    for array in (RNG.standard_normal((5, 6)).astype(np.float32), RNG.integers(0, 2**30, (5, 6), np.int32)):
        assert np.array_equal(read_image(saved(tmp_path / "x.tif", array)), array)


def test_alpha_is_dropped_only_where_it_hides_nothing(tmp_path):
    array = RNG.integers(0, 256, (4, 5, 4), np.uint8)
    array[:, :, 3] = 255
    assert np.array_equal(read_image(saved(tmp_path / "x.png", array)), array[:, :, :3])
    array[1, 2, 3] = 254
    with pytest.raises(InputError, match="x.png: has transparent pixels"):
        read_image(saved(tmp_path / "x.png", array))


def test_16_bit_colour_is_refused(tmp_path):
    path = png_16_bit_colour(tmp_path / "deep.png")
    assert np.asarray(Image.open(path)).dtype == np.uint8  # what Pillow would give in silence
    with pytest.raises(InputError, match="deep.png: a colour image of 16 bits, of which only 8"):
        read_image(path)


def test_corrupt_missing_and_foreign_files_are_named(tmp_path):
    whole = saved(tmp_path / "whole.png", RNG.integers(0, 256, (64, 64), np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.tif").write_bytes(b"")
    for name, message in (("cut", "corrupt"), ("text", "not an image"), ("missing", "cannot be read")):
        with pytest.raises(InputError, match=f"{name}.png: {message}"):
            read_image(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match=r"empty.tif: "):
        read_image(tmp_path / "empty.tif")


def test_several_pages_are_refused(tmp_path):
    pages = [Image.fromarray(RNG.integers(0, 256, (4, 5), np.uint8)) for _ in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="stack.tif: holds 3 images"):
        read_image(tmp_path / "stack.tif")


def test_values_that_are_not_finite_are_refused(tmp_path):
    array = np.ones((3, 3), np.float32)
    array[1, 1] = np.nan
    with pytest.raises(InputError, match="x.tif: has values that are not finite"):
        read_image(saved(tmp_path / "x.tif", array))


@pytest.mark.parametrize(
    "array",
    [CELLS > 0, ((CELLS > 0) * 1).astype(np.uint8), ((CELLS > 0) * 255).astype(np.uint8)],
    ids=["1 bit", "0 and 1", "0 and 255"],
)
def test_binary_masks_become_one_number_for_each_piece(tmp_path, array):
    assert np.array_equal(read_mask(saved(tmp_path / "m.png", array)), CELLS)


def test_instance_masks_keep_their_numbers(tmp_path):
    for array in (CELLS.astype(np.uint8), (CELLS * 300).astype(np.uint16)):
        read = read_mask(saved(tmp_path / "m.png", array))
        assert read.dtype == np.int32 and np.array_equal(read, array)
    grey_as_colour = np.repeat(CELLS.astype(np.uint8)[:, :, None], 3, 2)
    assert np.array_equal(read_mask(saved(tmp_path / "m.png", grey_as_colour)), CELLS)


def test_a_palette_s_numbers_are_the_labels(tmp_path):
    image = Image.fromarray(CELLS.astype(np.uint8))
    image.putpalette([7, 7, 7, 200, 0, 0, 0, 200, 0, 0, 0, 200, 90, 90, 0])
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), CELLS)


@pytest.mark.parametrize(
    "array, message",
    [
        (RNG.integers(0, 256, (20, 20), np.uint8), "neither binary .* nor labels"),
        (RNG.integers(1, 3, (20, 20), np.uint8), "a mask of 1 and 2; expected 0"),
        (RNG.integers(0, 256, (20, 20, 3), np.uint8), "a mask in colour"),
        (RNG.standard_normal((20, 20)).astype(np.float32), "whole numbers"),
        (CELLS - 1, "whole numbers, 0 or more"),
        ((CELLS + 1).astype(np.uint8), "neither binary .* nor labels"),
    ],
    ids=["noise", "no background", "colour", "float", "negative", "labels without background"],
)
def test_what_is_no_mask_is_refused(tmp_path, array, message):
    with pytest.raises(InputError, match=f"m.tif: .*{message}"):
        read_mask(saved(tmp_path / "m.tif", array))


def test_a_mask_that_jpeg_has_blurred_is_refused(tmp_path):
    Image.fromarray(((CELLS > 0) * 255).astype(np.uint8)).save(tmp_path / "m.jpg", quality=40)
    with pytest.raises(InputError, match="m.jpg: neither binary"):
        read_mask(tmp_path / "m.jpg")


def test_pieces_are_counted_label_by_label():
    assert count_pieces(CELLS) == 4
    split = CELLS.copy()
    split[5, 3:14] = 0
    assert count_pieces(split) == 5
    split[5, 3:14] = 4
    assert count_pieces(split) == 6


def test_folders_are_paired_by_name(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir(), masks.mkdir()
    for name in "ba":
        saved(images / f"{name}.png", RNG.integers(0, 256, CELLS.shape, np.uint8))
    saved(masks / "a.tif", CELLS)
    saved(masks / "b_mask.png", CELLS.astype(np.uint8))
    (images / "notes.txt").write_text("not an image, not looked at")
    pairs = read_pairs(images, masks)
    assert len(pairs) == 2 and all(np.array_equal(mask, CELLS) for _, mask in pairs)
    assert np.array_equal(pairs[0][0], read_image(images / "a.png"))

    saved(images / "c.png", RNG.integers(0, 256, CELLS.shape, np.uint8))
    with pytest.raises(InputError, match=r"images/c.png: there is no mask of that name"):
        read_pairs(images, masks)
    saved(masks / "c.png", CELLS[:20].astype(np.uint8))
    with pytest.raises(InputError, match=r"masks/c.png: the mask is \(20, 50\), but the image .* is \(40, 50\)"):
        read_pairs(images, masks)
    saved(masks / "c.png", CELLS.astype(np.uint8))
    saved(masks / "d.png", CELLS.astype(np.uint8))
    with pytest.raises(InputError, match=r"masks/d.png: there is no image of that name"):
        read_pairs(images, masks)
    saved(images / "a.tif", CELLS)
    with pytest.raises(InputError, match=r"a.tif: a.png lies beside it|a.png: a.tif lies beside it"):
        read_pairs(images, masks)


def test_empty_and_missing_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="no images in this folder"):
        read_pairs(tmp_path, tmp_path)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read_pairs(tmp_path / "nowhere", tmp_path)


def test_a_pair_is_the_image_and_its_mask(tmp_path):
    image = saved(tmp_path / "i.png", RNG.integers(0, 2**16, CELLS.shape, np.uint16))
    image, labels = read_pair(image, saved(tmp_path / "m.png", CELLS.astype(np.uint8)))
    assert image.dtype == np.uint16 and np.array_equal(labels, CELLS)
