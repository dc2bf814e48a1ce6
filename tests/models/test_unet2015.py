"""The U-Net of 2015: the paper's sizes level by level, its parameters, and its gradient."""

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor, no_grad
from tinydiff.errors import InputError
from tinydiff.gradcheck import module_errors
from tinydiff.models.unet2015 import UNet2015, UNet2015Config

RNG = np.random.default_rng(0)


def test_the_papers_number_of_parameters():
    model = UNet2015(UNet2015Config(), rng=None)
    assert sum(p.data.size for p in model.parameters()) == 31_031_810


def watched(config, size):
    """(height, channels) of what each convolution block puts out, in their order."""
    model, seen = UNet2015(config, RNG), []
    for block in [*model.down, *(up.double_conv for up in model.up)]:
        block.forward = lambda x, forward=block.forward: (y := forward(x), seen.append(y.shape[1::2]))[0]
    with no_grad():
        out = model(Tensor(np.zeros((1, size, size, config.in_channels), np.float32)))
    return seen, out.shape


def test_figure_1_of_the_paper_level_by_level():
    """Unpadded, 572 → 388; the widths are a 64th of the paper's, which changes no size."""
    config = UNet2015Config(in_channels=1, block_out_channels=(1, 2, 4, 8, 16), padded=False)
    seen, out = watched(config, 572)
    heights = [568, 280, 136, 64, 28, 52, 100, 196, 388]
    assert seen == list(zip(heights, [1, 2, 4, 8, 16, 8, 4, 2, 1], strict=True))
    assert out == (1, 388, 388, 2)


def test_padded_keeps_the_size():
    seen, out = watched(UNet2015Config(block_out_channels=(2, 4, 8)), 16)
    assert seen == [(16, 2), (8, 4), (4, 8), (8, 4), (16, 2)] and out == (1, 16, 16, 2)


@pytest.mark.parametrize("padded, size", [(True, 4), (False, 20)])
def test_gradient_of_the_whole(awake, padded, size):
    model = awake(UNet2015(UNet2015Config(in_channels=1, block_out_channels=(1, 2), padded=padded), RNG))
    x = Tensor(np.random.default_rng(3).standard_normal((1, size, size, 1)), requires_grad=True)
    errors = module_errors(model, lambda: model(x), {"x": x})
    assert max(errors.values()) < 1e-5, errors


def test_dropout_is_drawn_from_the_generator_and_keeps_the_mean():
    model = UNet2015(UNet2015Config(block_out_channels=(4, 64)), RNG)
    x = Tensor(RNG.standard_normal((1, 16, 16, 3)).astype(np.float32))
    one, same, other = (model(x, np.random.default_rng(seed)).data for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert not np.array_equal(one, model(x).data)
    seen = []
    model.up[0].forward = lambda x, saved: (seen.append(x.data), saved)[1]
    model(x), model(x, np.random.default_rng(1))
    without, dropped = seen
    kept = dropped != 0
    assert np.allclose(dropped[kept], 2 * without[kept]) and 0.4 < kept[without != 0].mean() < 0.6


def test_weights_begin_as_relu_wants_them():
    model = UNet2015(UNet2015Config(block_out_channels=(64, 128)), RNG)
    weight = model.down[1].conv2.weight.data
    assert weight.std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02) and not model.down[1].conv2.bias.data.any()


@pytest.mark.parametrize(
    "config, size, message",
    [
        (UNet2015Config(block_out_channels=(1, 2, 4)), 10, "multiples of 4"),
        (UNet2015Config(block_out_channels=(1, 2, 4), padded=False), 22, "even before each max-pool"),
        (UNet2015Config(block_out_channels=(1, 2), padded=False), 12, "too small for 2 levels"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(config, size, message):
    with pytest.raises(InputError, match=message):
        UNet2015(config, RNG)(Tensor(np.zeros((1, size, size, 3), np.float32)))


def test_the_smallest_image_is_one_that_two_max_pools_leave_a_pixel_of():
    model = UNet2015(UNet2015Config(block_out_channels=(2, 4, 4)), np.random.default_rng(0))
    assert model(Tensor(np.zeros((1, 4, 4, 3), np.float32))).shape == (1, 4, 4, 2)
    with pytest.raises(InputError, match="multiples of 4"):
        model(Tensor(np.zeros((1, 2, 4, 3), np.float32)))


def test_crop_takes_the_middle():
    x = np.arange(25.0).reshape(1, 5, 5, 1)
    y, backward = ops.center_crop.forward(x, size=(3, 2))
    assert np.array_equal(y[0, :, :, 0], x[0, 1:4, 1:3, 0])
    (dx,) = backward(np.ones_like(y))
    assert dx.sum() == 6 and dx[0, 1:4, 1:3].all()
