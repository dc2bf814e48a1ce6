"""Grids: the right image in the right place, its caption under it, and no half-written file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

import tinydiff
from tinydiff import viz
from tinydiff.errors import InputError


@pytest.fixture
def images() -> np.ndarray:
    """Five images of one colour each."""
    colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [0, 0, 0], [250, 200, 100]], np.uint8)
    return np.broadcast_to(colours[:, None, None], (5, 8, 8, 3)).copy()


def test_images_stand_row_by_row(images: np.ndarray) -> None:
    page = viz.grid(images, columns=2, scale=4)
    step = 8 * 4 + viz.GAP
    assert page.size == (2 * viz.MARGIN + 2 * step - viz.GAP, 2 * viz.MARGIN + 3 * step - viz.GAP)
    for i, image in enumerate(images):
        centre = (viz.MARGIN + 16 + i % 2 * step, viz.MARGIN + 16 + i // 2 * step)
        assert page.getpixel(centre) == tuple(image[0, 0])
    assert page.getpixel((viz.MARGIN + 16 + step, viz.MARGIN + 16 + 2 * step)) == viz.WHITE


def test_a_caption_is_written_under_its_image(images: np.ndarray) -> None:
    page = np.asarray(viz.grid(images[:2], ["a red dress", ""], columns=2, scale=12))
    below = page[viz.MARGIN + 8 * 12 + 2 : -viz.MARGIN]
    left, right = np.split(below, [page.shape[1] // 2], axis=1)
    assert (left < 128).any() and (right == 255).all()


def test_letters_beyond_english_are_no_boxes(images: np.ndarray) -> None:
    pages = [np.asarray(viz.grid(images[:1], [letter])) for letter in ("\uffff", "é", "ł", "ж", "λ", "é", "e")]
    assert not any(np.array_equal(pages[0], page) for page in pages[1:])
    assert np.array_equal(pages[1], pages[5]) and not np.array_equal(pages[1], pages[6])


def test_a_long_caption_is_broken_between_words() -> None:
    font = ImageFont.load_default(viz.TEXT)
    lines = viz.wrapped("a red dress on a white background", 128, font)
    assert " ".join(lines) == "a red dress on a white background"
    assert 1 < len(lines) <= 3 and all(font.getlength(line) <= 128 for line in lines)
    assert viz.wrapped("", 128, font) == []


def test_sixteen_images_make_a_square(images: np.ndarray) -> None:
    page = viz.grid(np.repeat(images[:1], 16, axis=0), scale=4)
    assert page.width == page.height == 2 * viz.MARGIN + 4 * (32 + viz.GAP) - viz.GAP


def test_the_file_appears_whole_or_not_at_all(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "picture.png"
    viz.save_grid(images, file, ["caption"] * 5)
    assert Image.open(file).size == viz.grid(images, ["caption"] * 5).size
    before = file.read_bytes()

    def full_disk(page: Image.Image, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(InputError, match="not saved, No space left on device"):
        viz.save_grid(images, file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda images: {"images": images.astype(np.float32)}, "float32"),
        (lambda images: {"images": images[0]}, r"\(8, 8, 3\)"),
        (lambda images: {"images": images[:0]}, r"\(0, 8, 8, 3\)"),
        (lambda images: {"images": images[..., :1]}, r"\(5, 8, 8, 1\)"),
        (lambda images: {"images": images, "captions": ["one"]}, "1 captions for 5 images"),
        (lambda images: {"images": images, "columns": 0}, "columns 0"),
        (lambda images: {"images": images, "scale": 0}, "scale 0"),
    ],
)
def test_bad_input_is_told(images: np.ndarray, change, expected: str) -> None:
    with pytest.raises(tinydiff.InputError, match=expected):
        viz.grid(**change(images))
