"""Your own images: what a CSV file may hold, and what is said of what it may not."""

import numpy as np
import pytest
from PIL import Image

from tinydiff.apps.data.own_images import load_own_images
from tinydiff.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """A wide red image, a tall blue one, and a grey one that no caption names."""
    Image.new("RGB", (60, 40), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGB", (20, 90), (0, 0, 255)).save(tmp_path / "blue.jpg", quality=100)
    Image.new("L", (32, 32), 100).save(tmp_path / "grey.png")
    return tmp_path


def table(folder, text, name="captions.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("size", [32, 64])
def test_images_captions_and_words(folder, size):
    text = 'file,caption\nred.png,"a red field, quite plain"\nblue.jpg,a BLUE field.\n\nred.png,nothing but red\n'
    own = load_own_images(folder, table(folder, text), size)
    assert own.images.shape == (3, size, size, 3) and own.images.dtype == np.uint8 and len(own) == 3
    assert (own.images[0] == [255, 0, 0]).all() and own.images[1, 5, 5].argmax() == 2
    assert own.captions == ["a red field, quite plain", "a BLUE field.", "nothing but red"]
    assert own.vocabulary.words == ["a", "blue", "but", "field", "nothing", "plain", "quite", "red"]
    assert own.epoch(7).images is own.images and "3 images" in own.source


def test_a_long_caption_has_room(folder):
    own = load_own_images(folder, table(folder, "red.png," + " ".join(f"w{i}" for i in range(30))))
    assert own.vocabulary.encode(own.captions).shape == (1, 32)


def test_other_captions_are_other_data(folder):
    one, other = (load_own_images(folder, table(folder, f"red.png,{word}\n")).source for word in ("red", "rot"))
    assert one != other


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "names no images"),
        ("file,caption\n", "names no images"),
        ("red.png,red\nnone.png,nothing\n", "line 2: there is no file none.png"),
        ("red.png,red,more\n", "line 1: 3 columns, expected a file name and a caption"),
        ("red.png\n", "line 1: 1 columns"),
        ("red.png, . \n", "line 1: the caption of red.png is empty"),
        ("captions.csv,text\n", "captions.csv: not an image"),
    ],
)
def test_what_is_wrong_is_named(folder, text, message):
    with pytest.raises(InputError, match=message):
        load_own_images(folder, table(folder, text))


def test_files_and_sizes_that_cannot_be(folder):
    good = table(folder, "red.png,red\n")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_own_images(folder / "nowhere", good)
    with pytest.raises(InputError, match="missing.csv: cannot be read as CSV"):
        load_own_images(folder, folder / "missing.csv")
    with pytest.raises(InputError, match="32 or 64 pixels wide, not 48"):
        load_own_images(folder, good, 48)
    (folder / "latin.csv").write_bytes(b"red.png,\xe4\n")
    with pytest.raises(InputError, match="latin.csv: cannot be read as CSV in UTF-8"):
        load_own_images(folder, folder / "latin.csv")
