"""Garments led to other garments: the way, how it is measured, and the whole script with a training of two steps."""

import sys

import numpy as np
import pytest
from PIL import Image

from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.weights import load_autoencoder, shipped_weights


@pytest.fixture(scope="module")
def autoencoder():
    return load_autoencoder(shipped_weights())


def test_a_perfect_direction_ends_at_the_other_garment(study, autoencoder):
    rng = np.random.default_rng(0)
    colours = study.drawn_colours(4, rng)
    sneakers, boots = (
        study.coloured(study.grey_garments(name, "test"), colours, rng) for name in (study.FROM, study.TO)
    )
    x0, x1 = (autoencoder.encode(as_floats(images)) for images in (sneakers, boots))
    passed = study.carry(autoencoder, lambda x, alpha: x1 - x0, sneakers, 8)
    assert len(passed) == len(study.ALPHAS)
    for alpha, images in zip(study.ALPHAS, passed, strict=True):
        expected = as_pixels(autoencoder.decode(x0 + np.float32(alpha) * (x1 - x0)))
        assert abs(images.astype(int) - expected).max() <= 1


def test_shares_are_of_garments_and_of_colours(study):
    rng = np.random.default_rng(1)
    colours = study.drawn_colours(40, rng)
    boots, sneakers = (
        study.coloured(study.grey_garments(name, "test"), colours, rng) for name in (study.TO, study.FROM)
    )
    assert study.shares(boots, colours)[0] > 0.85 and study.shares(sneakers, colours)[0] < 0.15
    assert study.shares(boots, colours)[1] == 1.0
    other = (colours[0] + 1) % 8, colours[1]
    assert study.shares(boots, other)[1] == 0.0


def test_the_whole_script(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["deblending", "--train", "2", "-n", "8", "--steps", "4", "-o", str(tmp_path)])
    study.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line[:8] for line in lines[:5]] == ["α = 0.00", "α = 0.25", "α = 0.50", "α = 0.75", "α = 1.00"]
    for name in ("plane.png", "garments.png"):
        with Image.open(tmp_path / name) as page:
            page.load()
