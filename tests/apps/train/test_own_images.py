"""From a folder of images and their captions to a model that generates them by their words."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff.cli import main
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.models.unet import UNetConfig
from tinydiff.training.optim import OptimConfig
from tinydiff.training.presets import PRESETS

AUTOENCODER = AutoencoderConfig(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4)
COLOURS = {"karminrot": (200, 0, 40), "türkis": (0, 200, 200), "ocker": (200, 150, 30)}
UNET = UNetConfig(
    block_out_channels=(8, 16),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    num_attention_heads=2,
    norm_num_groups=4,
    cross_attention_dim=96,
)


@pytest.fixture
def tiny(monkeypatch):
    """`quick` and `pixels` in seconds."""
    optim = OptimConfig(steps=3, batch=64, warmup=1)
    small = {"autoencoder_optim": optim, "denoiser_optim": optim}
    monkeypatch.setitem(PRESETS, "quick", replace(PRESETS["quick"], autoencoder=AUTOENCODER, unet=UNET, **small))
    pixels = replace(UNET, in_channels=3, out_channels=3)
    for name in ("pixels", "pixels-iadb"):
        monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], unet=pixels, **small))


@pytest.fixture
def fields(tmp_path):
    """Six plain fields of colour, fewer than a batch."""
    folder = tmp_path / "fields"
    folder.mkdir()
    lines = []
    for i, (word, colour) in enumerate(
        {"karminrot": (200, 0, 40), "türkis": (0, 200, 200), "ocker": (200, 150, 30)}.items()
    ):
        for j in range(2):
            Image.new("RGB", (48, 40), colour).save(folder / f"{i}{j}.png")
            lines.append(f"{i}{j}.png,ein Feld in {word}")
    (tmp_path / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder, tmp_path / "captions.csv"


@pytest.mark.parametrize("preset, size", [("quick", 32), ("quick", 64), ("pixels", 32), ("pixels-iadb", 32)])
def test_a_run_draws_in_the_words_of_the_captions(tiny, fields, tmp_path, preset, size):
    images, captions = fields
    out = tinydiff.train("all", preset=preset, out=tmp_path / "run", images=images, captions=captions, size=size)
    pipe = tinydiff.load(out)
    drawn = pipe.generate(["ein Feld in türkis", "Feld, ocker"], steps=2)
    assert drawn.shape == (2, size, size, 3) and drawn.dtype == np.uint8
    with pytest.raises(InputError, match="unknown word 'dress', nearest known words"):
        pipe.generate(["ein Feld", "ein dress"])


def test_from_the_command_line(tiny, fields, tmp_path, capsys):
    images, captions = map(str, fields)
    asked = ["train", "--images", images, "--captions", captions, "--out", str(tmp_path / "run")]
    assert main(asked) == 0
    assert "6 images" in capsys.readouterr().out
    image = str(tmp_path / "field.png")
    assert main(["generate", "ein Feld in ocker", "-n", "1", "--weights", str(tmp_path / "run"), "-o", image]) == 0
    asked[2] = str(tmp_path / "run" / ".." / "fields")  # the same folder, spelt otherwise
    for name in ("denoiser.safetensors", "autoencoder.safetensors"):
        assert main([*asked, "--resume"]) == 0
        (tmp_path / "run" / name).unlink()
    with open(captions, "a", encoding="utf-8") as file:
        file.write("\n00.png,noch ein Feld")
    assert main([*asked, "--resume"]) == 2
    assert "from another run" in capsys.readouterr().err


def test_what_does_not_belong_together(tiny, fields, tmp_path):
    images, captions = fields
    with pytest.raises(InputError, match="images and captions belong together"):
        tinydiff.train(out=tmp_path / "run", images=images)
    with pytest.raises(InputError, match="the classifier knows garments only"):
        tinydiff.train("classifier", out=tmp_path / "run", images=images, captions=captions)
    assert main(["train", "segmentation", "--captions", str(captions), "--out", str(tmp_path / "run")]) == 2


@pytest.mark.slow
def test_colours_are_learnt(fields, tmp_path):
    """With a little training the word decides the colour."""
    images, captions = fields
    optim = OptimConfig(steps=400, batch=6, lr=2e-3, warmup=20, ema=0.97)
    settings = replace(PRESETS["quick"], autoencoder_optim=optim, denoiser_optim=optim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", settings)
        out = tinydiff.train("all", out=tmp_path / "run", images=images, captions=captions)
    drawn = tinydiff.load(out).generate([f"ein Feld in {word}" for word in COLOURS], steps=10)
    for image, colour in zip(drawn, COLOURS.values(), strict=True):
        assert abs(image.mean((0, 1)) - colour).max() < 50
