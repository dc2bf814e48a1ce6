"""Garments led to other garments: the way, how it is measured, and the whole script with a training of two steps."""

import sys

import numpy as np
import pytest
from PIL import Image

from tinydiff.bench import iadb
from tinydiff.bench.iadb import FROM, TO, carry, coloured, drawn_colours, grey_garments, shares
from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.weights import load_autoencoder, shipped


@pytest.fixture(scope="module")
def autoencoder():
    return load_autoencoder(shipped())


def test_a_perfect_direction_ends_at_the_other_garment(autoencoder):
    rng = np.random.default_rng(0)
    colours = drawn_colours(4, rng)
    sneakers, boots = (coloured(grey_garments(name, "test"), colours, rng) for name in (FROM, TO))
    x0, x1 = (autoencoder.encode(as_floats(images)) for images in (sneakers, boots))
    passed = carry(autoencoder, lambda x, alpha: x1 - x0, sneakers, 8)
    assert len(passed) == len(iadb.ALPHAS)
    for alpha, images in zip(iadb.ALPHAS, passed, strict=True):
        expected = as_pixels(autoencoder.decode(x0 + np.float32(alpha) * (x1 - x0)))
        assert abs(images.astype(int) - expected).max() <= 1


def test_shares_are_of_garments_and_of_colours():
    rng = np.random.default_rng(1)
    colours = drawn_colours(40, rng)
    boots, sneakers = (coloured(grey_garments(name, "test"), colours, rng) for name in (TO, FROM))
    assert shares(boots, colours)[0] > 0.85 and shares(sneakers, colours)[0] < 0.15
    assert shares(boots, colours)[1] == 1.0
    other = (colours[0] + 1) % 8, colours[1]
    assert shares(boots, other)[1] == 0.0


def test_the_whole_script(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["deblending", "--train", "2", "-n", "8", "--steps", "4", "-o", str(tmp_path)])
    iadb.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line[:8] for line in lines[:5]] == ["α = 0.00", "α = 0.25", "α = 0.50", "α = 0.75", "α = 1.00"]
    for name in ("plane.png", "garments.png"):
        with Image.open(tmp_path / name) as page:
            page.load()
