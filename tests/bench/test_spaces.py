"""Pixels against latents: multiply-adds counted by hand, and the whole comparison."""

import json
import sys

import numpy as np

from tinydiff.autograd import Tensor
from tinydiff.bench import spaces
from tinydiff.nn.blocks import Attention
from tinydiff.nn.layers import Conv2d, Linear

RNG = np.random.default_rng(0)


def zeros(*shape):
    return Tensor(np.zeros(shape, np.float32))


def test_multiply_adds_by_hand():
    assert spaces.multiply_adds(Conv2d(RNG, 3, 5, size=3), zeros(2, 6, 4, 3)) == 2 * 6 * 4 * 5 * 9 * 3
    assert spaces.multiply_adds(Linear(RNG, 7, 3), zeros(2, 5, 7)) == 2 * 5 * 7 * 3
    layer = Attention(RNG, 8, heads=2, context_width=6)
    projections = 5 * 8 * 8 + 2 * (3 * 6 * 8) + 5 * 8 * 8
    assert spaces.multiply_adds(layer, zeros(1, 5, 8), zeros(1, 3, 6)) == projections + 2 * 5 * 3 * 8


def test_the_whole_comparison(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(spaces, "PICTURES", 2)
    monkeypatch.setattr(sys, "argv", ["spaces", "-n", "4", "--json", str(tmp_path / "s.json")])
    assert spaces.main() == 0
    latents, pixels = json.loads((tmp_path / "s.json").read_text())
    assert latents["numbers"] == 256 and pixels["numbers"] == 3072
    assert pixels["gmac_step"] > latents["gmac_step"] > 0 and pixels["megabytes"] > 0
    assert "12.00 ×" in capsys.readouterr().out
