"""The commands that change images, from the command line."""

import numpy as np
import pytest
from PIL import Image

from tinydiff.cli import main

PROMPT = "a red sneaker on a white background"


@pytest.fixture
def shoe(tmp_path):
    path = tmp_path / "shoe.png"
    assert main(["generate", PROMPT, "-n", "1", "--steps", "5", "--each", "-o", str(path)]) == 0
    return tmp_path / "shoe-1.png"


def test_an_image_is_changed_where_the_mask_is_white(shoe, tmp_path):
    mask = np.zeros((50, 50), np.uint8)
    mask[:, 25:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "out.png"
    asked = [
        "generate",
        "a blue sneaker on a white background",
        "--init",
        str(shoe),
        "--mask",
        str(tmp_path / "mask.png"),
    ]
    assert main([*asked, "-n", "1", "--steps", "5", "--each", "-o", str(out)]) == 0
    before, after = (
        np.asarray(Image.open(p).resize((32, 32), Image.Resampling.BOX), int) for p in (shoe, tmp_path / "out-1.png")
    )
    change = abs(before - after).mean((0, 2))
    assert change[:14].max() < 8 < change[18:].mean()


@pytest.mark.parametrize("white", [True, np.uint8(1), np.uint8(255)], ids=["1 bit", "0 and 1", "8 bits"])
def test_a_mask_is_white_at_the_most_that_its_file_can_hold(shoe, tmp_path, white, capsys):
    mask = np.zeros((32, 32), type(white))
    Image.fromarray(mask).save(tmp_path / "black.png")
    mask[:, 16:] = white
    Image.fromarray(mask).save(tmp_path / "white.png")
    asked = ["generate", "a blue sneaker on a white background", "--init", str(shoe)]
    asked += ["-n", "1", "--steps", "5", "--each"]
    asked += ["-o", str(tmp_path / "out.png"), "--mask"]
    assert main([*asked, str(tmp_path / "white.png")]) == 0
    before, after = (
        np.asarray(Image.open(p).resize((32, 32), Image.Resampling.BOX), int) for p in (shoe, tmp_path / "out-1.png")
    )
    change = abs(before - after).mean((0, 2))
    assert change[:14].max() < 8 < change[18:].mean()
    capsys.readouterr()
    assert main([*asked, str(tmp_path / "black.png")]) == 2
    assert capsys.readouterr().err.startswith(f"tinydiff: {tmp_path / 'black.png'}: no white in the mask")


def test_a_page_of_a_stack_is_changed(shoe, tmp_path, capsys):
    page, other = Image.open(shoe), Image.new("RGB", (32, 32))
    stack, out = tmp_path / "stack.tif", tmp_path / "out.png"
    other.save(stack, save_all=True, append_images=[page])
    asked = [PROMPT, "--steps", "1"]
    assert main(["invert", str(stack), *asked, "-o", str(out)]) == 2
    assert f"{stack}: holds 2 images, expected one, or the number of a page" in capsys.readouterr().err
    assert main(["invert", str(stack), *asked, "--page", "2", "-o", str(out)]) == 0
    assert main(["invert", str(shoe), *asked, "-o", str(tmp_path / "same.png")]) == 0
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(tmp_path / "same.png")))
    init = ["generate", *asked, "-n", "1", "--init", str(stack), "-o", str(out)]
    assert main([*init, "--page", "2"]) == 0
    assert main([*init, "--page", "3"]) == 2
    assert main(["generate", *asked, "-n", "1", "--page", "2", "-o", str(out)]) == 2
    assert "name it with --init" in capsys.readouterr().err


def test_strength_and_mask_need_an_image(tmp_path, capsys):
    for option in (["--strength", "0.5"], ["--mask", __file__]):
        assert main(["generate", PROMPT, *option, "-o", str(tmp_path / "x.png")]) == 2
        assert "name it with --init" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["generate", PROMPT, "--init", __file__, "--strength", "1.5"])
    assert "got 1.5, expected a number above 0, at most 1" in capsys.readouterr().err
    assert main(["generate", PROMPT, "--init", __file__, "-o", str(tmp_path / "x.png")]) == 2
    assert "not an image that can be read" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_between_prompts_and_seeds(tmp_path, capsys):
    for other in (["a blue bag on a black background"], []):
        out = tmp_path / f"{len(other)}.png"
        assert main(["interpolate", PROMPT, *other, "-n", "3", "--steps", "2", "-o", str(out)]) == 0
        assert Image.open(out).width > 3 * 128
    assert "3 images" in capsys.readouterr().out
    assert main(["interpolate", PROMPT, "a red zebra", "-o", str(tmp_path / "x.png")]) == 2
    assert "zebra" in capsys.readouterr().err


def test_inversion_says_its_error_for_each_number_of_steps(shoe, tmp_path, capsys):
    assert main(["invert", str(shoe), PROMPT, "--steps", "4", "40", "-o", str(tmp_path / "i.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split(": ")[1].removesuffix(" dB")) for line in lines if "steps and back" in line]
    assert len(errors) == 2 and errors[1] > errors[0] + 3
    assert main(["invert", str(shoe), PROMPT, "--steps", "2000", "-o", str(tmp_path / "j.png")]) == 2
    assert (
        "steps must be a whole number from 1 to 1000" in capsys.readouterr().err and not (tmp_path / "j.png").exists()
    )


def test_images_of_more_than_8_bits_are_refused(tmp_path, capsys):
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "deep.png")
    assert main(["invert", str(tmp_path / "deep.png"), PROMPT, "-o", str(tmp_path / "i.png")]) == 2
    assert "expected 8 bits" in capsys.readouterr().err
