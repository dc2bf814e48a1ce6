"""What a network sees: maps by their names, and fields of view that are as large as the arithmetic says."""

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.errors import InputError
from tinydiff.models.unet2015 import UNet2015, UNet2015Config
from tinydiff.nn.layers import Conv2d
from tinydiff.viz.features import activations, extent, feature_maps, field_of_view, strongest, u_shape

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    return UNet2015(UNet2015Config(in_channels=1, block_out_channels=(3, 4, 5)), np.random.default_rng(0))


def test_activations_are_what_the_modules_gave(model):
    x = RNG.standard_normal((1, 8, 8, 1)).astype(np.float32)
    found = activations(model, x)
    np.testing.assert_array_equal(found[""], model(Tensor(x)).data)
    np.testing.assert_array_equal(found["down.0"], model.down[0](Tensor(x)).data)
    assert found["up.1"].shape == (1, 8, 8, 3) and found["down.2.conv1"].shape == (1, 2, 2, 5)


def test_the_strongest_channels_vary_most():
    maps = np.zeros((4, 4, 3))
    maps[::2, :, 1], maps[::2, :, 2] = 1, 5
    np.testing.assert_array_equal(strongest(maps, 2), [maps[..., 2], maps[..., 1]])
    figure = feature_maps(maps, title="t")
    assert len([axes for axes in figure.axes if axes.images]) == 3 and figure.get_suptitle() == "t  4×4×3"
    with pytest.raises(InputError, match="4 of maps"):
        strongest(maps, 4)


@pytest.mark.parametrize("layers, pool, side", [(1, False, 3), (3, False, 7), (2, True, 8)])
def test_the_field_of_view_is_as_large_as_the_arithmetic_says(layers, pool, side):
    convolutions = [Conv2d(RNG, 2, 2) for _ in range(layers)]

    def network(x):
        for i, convolution in enumerate(convolutions):
            x = convolution(x)
            if pool and i == 0:
                x = ops.conv2d(x, np.full((2, 2, 2, 2), 0.25, np.float32), stride=2)  # a mean over 2×2
        return x

    assert extent(field_of_view(network, (1, 24, 24, 2))) == (side, side)
    with pytest.raises(InputError, match=r"expected \(1, H, W, C\)"):
        field_of_view(network, (2, 8, 8, 2))


def test_the_u_has_every_level_on_both_sides(model):
    figure = u_shape(model, RNG.standard_normal((8, 8, 1)))
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["down.0: 8×8×3", "up.1: 8×8×3", "down.1: 4×4×4", "up.0: 4×4×4", "down.2: 2×2×5"]
