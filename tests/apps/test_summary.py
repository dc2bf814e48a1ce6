"""Multiply-adds counted by hand, parameters, shapes, and the table."""

import numpy as np
import pytest

import tinydiff
from tinydiff.apps.summary import multiply_adds
from tinydiff.autograd import Tensor
from tinydiff.models.unet2015 import UNet2015, UNet2015Config
from tinydiff.nn.blocks import Attention
from tinydiff.nn.layers import Conv2d, Linear

RNG = np.random.default_rng(0)


def zeros(*shape):
    return Tensor(np.zeros(shape, np.float32))


def test_multiply_adds_by_hand():
    assert multiply_adds(Conv2d(RNG, 3, 5, size=3), zeros(2, 6, 4, 3)) == 2 * 6 * 4 * 5 * 9 * 3
    assert multiply_adds(Linear(RNG, 7, 3), zeros(2, 5, 7)) == 2 * 5 * 7 * 3
    layer = Attention(RNG, 8, heads=2, context_width=6)
    projections = 5 * 8 * 8 + 2 * (3 * 6 * 8) + 5 * 8 * 8
    assert multiply_adds(layer, zeros(1, 5, 8), zeros(1, 3, 6)) == projections + 2 * 5 * 3 * 8


@pytest.mark.parametrize("padded, size", [(True, 8), (False, 20)])
def test_those_of_the_u_net_of_2015(padded, size):
    model = UNet2015(UNet2015Config(in_channels=2, block_out_channels=(3, 4), padded=padded), RNG)
    a = size if padded else size - 2  # sides of the five 3×3 convolutions' outputs, one after the other
    b = size if padded else size - 4
    c, d = (b // 2, b // 2) if padded else (b // 2 - 2, b // 2 - 4)
    e, f = (2 * d, 2 * d) if padded else (2 * d - 2, 2 * d - 4)
    by_hand = 9 * (a * a * 2 * 3 + b * b * 3 * 3 + c * c * 3 * 4 + d * d * 4 * 4 + e * e * 6 * 3 + f * f * 3 * 3)
    by_hand += (2 * d) ** 2 * 4 * 3 + f * f * 3 * 2  # the up-convolution, the 1×1 at the end
    assert multiply_adds(model, zeros(1, size, size, 2)) == by_hand


def test_the_table_goes_from_the_whole_to_its_parts():
    model = UNet2015(UNet2015Config(in_channels=2, block_out_channels=(3, 4, 8)), RNG)
    found = tinydiff.summary(model, np.zeros((1, 8, 8, 2), np.float32))
    names = [row.name for row in found.rows]
    assert names[0] == "" and "down.0.conv1" in names and len(names) == len(set(names)) == 1 + 3 * 3 + 2 * 4 + 1
    assert found.total.parameters == sum(p.data.size for p in model.parameters())
    leaves = [row for row in found.rows if row.layer_type in ("Convolution", "UpBlock")]
    inside = sum(
        row.multiply_adds for row in leaves if row.layer_type == "Convolution" and not row.name.startswith("up")
    )
    inside += sum(row.multiply_adds for row in leaves if row.layer_type == "UpBlock")
    assert found.total.multiply_adds == inside
    assert found.total.shape == (1, 8, 8, 2) and found.total.milliseconds > 0
    assert all(row.milliseconds <= found.total.milliseconds for row in found.rows)
    assert "forward" not in vars(model)  # nothing of the watching is left

    short = tinydiff.summary(model, np.zeros((1, 8, 8, 2), np.float32), depth=1)
    assert [row.name for row in short.rows] == ["", "down.0", "down.1", "down.2", "up.0", "up.1", "classify"]
    text = str(short).splitlines()
    assert text[0].split() == ["layer", "type", "output", "parameters", "multiply-adds", "ms"]
    assert "(all)" in text[2] and "1×8×8×2" in text[2] and f"{found.total.multiply_adds:,}" in text[2]
    assert short._repr_html_().count("<tr>") == 8


def test_a_whole_denoiser_counts_what_ran():
    pipe = tinydiff.load()
    tokens = pipe.vocabulary.encode(["a red dress"])
    found = tinydiff.summary(pipe.denoiser, np.zeros((1, 8, 8, 4), np.float32), np.zeros(1), tokens, depth=1)
    by_name = {row.name: row for row in found.rows}
    assert by_name["unet"].shape == (1, 8, 8, 4) and by_name["text_encoder"].shape == (1, 16, 96)
    assert found.total.multiply_adds == by_name["unet"].multiply_adds + by_name["text_encoder"].multiply_adds
    assert found.total.parameters == by_name["unet"].parameters + by_name["text_encoder"].parameters
