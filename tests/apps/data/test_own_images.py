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
        ('red.png,"red\nblue.jpg,blue\nred.png,rot\n', "captions.csv, line 1: a quote that is not closed on its line"),
        ('red.png,red\n\nblue.jpg,"blue\nred.png,"rot"\n', "captions.csv, line 3: a quote that is not closed"),
        ('red.png,red\nblue.jpg,"blue\nred.png,rot"\n', "captions.csv, line 2: a quote that is not closed"),
        ("file;caption\nred.png;red\n", "line 1: semicolons between the columns, expected a comma: file name,caption"),
        ("red.png;red, quite plain\n", "line 1: semicolons between the columns"),
        ("red.png\tred\n", "line 1: tabs between the columns"),
        ("../grey.png,grey\n", r"line 1: '../grey.png' is not the name of a file inside"),
        ("red.png,red\nsub/../../grey.png,grey\n", "line 2: 'sub/../../grey.png' is not the name"),
        ("/etc/passwd,words\n", "line 1: '/etc/passwd' is not the name of a file inside"),
        (",red\n", "line 1: '' is not the name of a file inside"),
        (".,red\n", "line 1: there is no file . in"),
        (f"{'x' * 999}.png,red\n", "line 1: there is no file xxx"),
        ("red.png,白色背景上的红色连衣裙\n", "line 1: '白色背景上的红色连衣裙' would be one word, expected spaces"),
        ("red.png,red\nred.png,白い背景に赤いドレス。\n", "line 2: .* would be one word"),
        ("red.png,ชุดเดรสสีแดงบนพื้นหลังสีขาว\n", "line 1: .* would be one word"),
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


def test_words_with_spaces_are_words_in_any_script(folder):
    captions = ["红色 连衣裙", "鞋", "スニーカー", "красное платье", "uncharacteristically", 'a 5" heel']
    own = load_own_images(folder, table(folder, "".join(f"red.png,{caption}\n" for caption in captions)))
    assert own.captions == captions and {"红色", "платье"} < set(own.vocabulary.words)


def test_composed_and_decomposed_letters_meet(folder):
    composed, apart = "caf\u00e9", "cafe\u0301"
    for name, other in ((composed, apart), (apart, composed)):
        Image.new("RGB", (9, 9), (0, 255, 0)).save(folder / f"{name}.png")
        own = load_own_images(folder, table(folder, f"{other}.png,a {other}\nred.png,the {name}\n"))
        assert (own.images[0] == [0, 255, 0]).all() and own.vocabulary.words == ["a", composed, "the"]
        assert np.array_equal(*own.vocabulary.encode([f"the {name}", f"the {other.upper()}"]))
        (folder / f"{name}.png").unlink()


def test_files_may_lie_in_folders_below(folder):
    (folder / "sub").mkdir()
    Image.new("RGB", (9, 9), (0, 255, 0)).save(folder / "sub" / "green.png")
    own = load_own_images(folder, table(folder, "sub/green.png,green\n./red.png,red\n"))
    assert own.images[0].max() == own.images[1].max() == 255


def test_a_photo_that_lies_on_its_side_is_turned(folder):
    photo = Image.new("RGB", (40, 40), (255, 0, 0))
    photo.paste((0, 0, 255), (0, 0, 20, 40))
    exif = photo.getexif()
    exif[0x112] = 6
    photo.save(folder / "photo.jpg", exif=exif, quality=100)
    image = load_own_images(folder, table(folder, "photo.jpg,red and blue\n")).images[0]
    assert (image[2].argmax(-1) == 2).all() and (image[-2].argmax(-1) == 0).all()


def test_one_bit_is_black_and_white(folder):
    Image.new("1", (32, 32), 1).save(folder / "white.png")
    assert (load_own_images(folder, table(folder, "white.png,white\n")).images == 255).all()
