"""What the evaluation classifier says of generated images: neighbours, classifiers, and the comparison of samplers."""

import json

import numpy as np
import pytest

from tinydiff.cli import main
from tinydiff.datasets import UNSEEN, captioned_fashion
from tinydiff.evaluation import evaluate
from tinydiff.evaluation.evaluate import classifiers, drawn_prompts, neighbours
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.training.optim import OptimConfig


def test_prompts_are_of_seen_pairs_or_of_unseen_ones():
    for unseen in (False, True):
        prompts, asked = drawn_prompts(200, unseen, np.random.default_rng(0))
        assert len(prompts) == 200 and asked.shape == (3, 200)
        assert {(pair in UNSEEN) for pair in zip(*asked[:2].tolist(), strict=True)} == {unseen}


def test_a_copy_is_found(monkeypatch):
    """Where the model "generates" training images, their neighbours are they themselves."""
    train = captioned_fashion("train")
    chosen = np.arange(3)
    asked = np.stack([train.garment, train.colour, train.background])[:, chosen]
    generated = train.images[chosen], asked, [train.captions[i] for i in chosen]
    monkeypatch.setattr(evaluate, "_generate", lambda *args: generated)
    images, found, prompts, decibels = neighbours(count=3)
    assert np.array_equal(images, found) and np.isinf(decibels).all() and len(prompts) == 3


def test_generated_images_are_no_copies():
    images, found, _, decibels = neighbours(count=2, steps=10)
    assert images.shape == found.shape == (2, 32, 32, 3) and (decibels < 26).all()


def test_a_classifier_learns_from_generated_images_alone(monkeypatch):
    tiny = OptimConfig(steps=30, batch=32, lr=2e-3, warmup=5, ema=0.8)
    monkeypatch.setattr(
        TextToImage, "generate", lambda self, prompts, **_: np.zeros((len(prompts), 32, 32, 3), np.uint8)
    )
    figures = classifiers(count=96, training=tiny)
    blind, sighted = (figures[f"classifier that learnt from {name} images"] for name in ("generated", "real"))
    assert blind["background"] < 0.45 < sighted["background"]  # nothing can be learnt from black images


@pytest.mark.slow
def test_the_command_says_it_all(tmp_path, capsys):
    asked = [
        "evaluate",
        "-n",
        "64",
        "--steps",
        "5",
        "--neighbours",
        str(tmp_path / "n.png"),
        "--json",
        str(tmp_path / "e.json"),
    ]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "precision and recall: generated" in said and "generated images above" in said
    figures = json.loads((tmp_path / "e.json").read_text())
    for name in ("real to real", "generated"):
        assert set(figures[f"precision and recall: {name}"]) == {"precision", "recall"}
