"""Every command refuses, before any work, to write over what it reads."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff.cli import main
from tinydiff.cli.parser import build_parser
from tinydiff.files import shipped

PROMPT = "a red dress on a white background"
# What each command reads, and an argument for it to write there.  Results of denoise and segment are named by its own.
REPLACES = {
    "generate's image": ("generate", PROMPT, "--init", "in.png", "-o", "in.png"),
    "generate's image, by default": ("generate", PROMPT, "--init", "picture.png"),
    "generate's mask": ("generate", PROMPT, "--init", "in.png", "--mask", "mask.png", "-o", "mask.png"),
    "one of many": ("generate", PROMPT, "--init", "picture-3.png", "--each", "-n", "4"),
    "generate's weights": ("generate", PROMPT, "--weights", "weights", "-o", "weights.png"),
    "interpolate's weights": ("interpolate", PROMPT, "--weights", "weights", "-o", "weights.png"),
    "attention's weights": ("attention", PROMPT, "--weights", "weights", "-o", "weights.png"),
    "invert's image": ("invert", "in.png", PROMPT, "-o", "in.png"),
    "invert's image, by default": ("invert", "picture.png", PROMPT),
    "through a link": ("invert", "link.png", PROMPT, "-o", "in.png"),
    "to a link": ("invert", "in.png", PROMPT, "-o", "link.png"),
    "by another spelling": ("invert", "in.png", PROMPT, "-o", "weights/../in.png"),
    "in other letters": ("invert", "in.png", PROMPT, "-o", "IN.png"),
    "denoise's image": ("denoise", "in.png", "in-denoised.png"),
    "denoise's image, to a folder": ("denoise", "in.png", "in-denoised.png", "-o", "weights/.."),
    "segment's mask": ("segment", "in.png", "--mask", "in-mask.png"),
    "segment's image": ("segment", "in.png", "in-mask.png"),
    "evaluate's weights": ("evaluate", "--weights", "weights", "--json", "weights/denoiser.safetensors"),
    "evaluate's data": ("evaluate", "--data", "data", "--json", "data/t10k-images-idx3-ubyte.gz"),
    "evaluate's own table": ("evaluate", "--json", "out.png", "--neighbours", "out.png"),
    "bench's own table": ("bench", "conv", "--json", "out.png", "-o", "out.png"),
}
IMAGES = ("in.png", "picture.png", "picture-3.png", "mask.png", "in-mask.png", "in-denoised.png")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder of images, weights and data; whoever begins to work fails."""
    monkeypatch.chdir(tmp_path)
    for name in IMAGES:
        Image.fromarray(np.full((48, 48, 3), 200, np.uint8)).save(name)
    Path("link.png").symlink_to("in.png")
    shutil.copytree(shipped("weights"), "weights")
    Path("weights.png").symlink_to(Path("weights", "denoiser.safetensors"))
    shutil.copytree(shipped("fashion-mnist"), "data")
    for name in ("load", "load_denoiser", "evaluate"):
        monkeypatch.setitem(vars(tinydiff), name, lambda *_, **__: pytest.fail("the work has begun"))
    monkeypatch.setattr("tinydiff.cli.files.load_segmenter", lambda *_: pytest.fail("the work has begun"))
    monkeypatch.setattr("tinydiff.bench.conditions", lambda *_: pytest.fail("the work has begun"))
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("argv", REPLACES.values(), ids=REPLACES.keys())
def test_an_output_over_an_input_is_refused_before_any_work(files, argv, capsys):
    before = contents(files)
    assert main(list(argv)) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and "would replace the" in error
    assert contents(files) == before and (files / "link.png").is_symlink()


def test_every_command_that_writes_is_among_them():
    (commands,) = (action.choices for action in build_parser()._actions if action.choices)
    writes = {
        name
        for name, command in commands.items()
        if {action.dest for action in command._actions} & {"output", "json", "neighbours"}
    }
    assert writes == {argv[0] for argv in REPLACES.values()}
    assert commands.keys() - writes == {"train", "convert", "doctor"}  # train: tests/apps/train; convert works in place


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "there.png")
    assert main(["generate", PROMPT, "-n", "1", "--steps", "1", "-o", str(tmp_path / "link.png")]) == 0
    assert (tmp_path / "link.png").is_symlink() and Image.open(tmp_path / "there.png").format == "PNG"


def test_a_name_of_252_characters_is_written(tmp_path):
    name = "a" * 248 + ".png"
    assert main(["generate", PROMPT, "-n", "1", "--steps", "1", "-o", str(tmp_path / name)]) == 0
    assert os.listdir(tmp_path) == [name]


def test_results_whose_names_would_be_too_long_are_refused_before_any_work(files, capsys):
    Path("in.png").rename("a" * 248 + ".png")
    assert main(["segment", "a" * 248 + ".png"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "too long" in error


def test_a_device_is_no_file_to_write(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--json", os.devnull])
    assert stop.value.code == 2 and "is a device, expected the name of a file" in capsys.readouterr().err
