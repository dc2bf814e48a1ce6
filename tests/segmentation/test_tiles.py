"""Tile by tile is the same as at once."""

import numpy as np
import pytest

from tinydiff import kernels
from tinydiff.autograd import Tensor, no_grad
from tinydiff.errors import InputError
from tinydiff.models.unet2015 import UNet2015, UNet2015Config
from tinydiff.segmentation import predict
from tinydiff.segmentation.tiles import Geometry, mirrored

RNG = np.random.default_rng(0)


def model_of(padded, widths=(8, 8, 16), channels=1):
    return UNet2015(
        UNet2015Config(in_channels=channels, block_out_channels=widths, padded=padded), np.random.default_rng(1)
    )


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("tile", [4, 16, 40, 64])
def test_tiled_equals_untiled(padded, tile):
    image = RNG.standard_normal((61, 70, 1)).astype(np.float32)
    model = model_of(padded)
    at_once = predict(model, image, 1000)
    assert at_once.shape == (61, 70, 2) and np.allclose(at_once.sum(-1), 1, atol=1e-5)
    assert abs(predict(model, image, tile) - at_once).max() < 1e-4
    assert at_once[..., 1].std() > 0.05  # there is something to see


@pytest.mark.parametrize("padded", [True, False])
def test_away_from_the_border_it_is_the_network_s_own_answer(padded):
    model = model_of(padded)
    size = 96 if padded else 4 * 24 + 12
    image = RNG.standard_normal((size, size, 1)).astype(np.float32)
    with no_grad():
        logits = model(Tensor(image[None])).data[0]
    own = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    rim = (size - len(own)) // 2
    whole = predict(model, image, 32)[rim : size - rim, rim : size - rim]
    # Unpadded, max-pool's grid begins elsewhere unless the border is a multiple of it.
    margin = Geometry(model.config).margin
    inner = slice(margin, -margin) if padded else slice(None)
    assert abs(whole[inner, inner] - own[inner, inner]).max() < 1e-4


@pytest.mark.parametrize("margin", [0, 3, 11])
def test_the_image_goes_on_as_numpy_s_reflection(margin):
    image = RNG.standard_normal((6, 9))
    assert np.array_equal(
        mirrored(image, 0, 0, 6 + 2 * margin, 9 + 2 * margin, margin), np.pad(image, margin, "reflect")
    )
    assert np.array_equal(mirrored(image, 2, 4, 3, 4, 1), image[1:4, 3:7])


def test_nothing_beyond_the_radius_matters():
    """And what `receptive_radius` says is not much too large."""
    model = model_of(True)
    image = RNG.standard_normal((128, 128, 1)).astype(np.float32)
    moved = []
    with kernels.use("numpy"):  # Winograd's rounding reaches further
        for at in range(60, 64):  # each place in max-pool's grid
            other = image.copy()
            other[at, at] += 1000
            moved.append(np.argwhere(abs(predict(model, image) - predict(model, other)).max(-1) > 1e-6) - at)
    furthest = max(abs(m).max() for m in moved)
    geometry = Geometry(model.config)
    assert geometry.receptive_radius - geometry.total_stride < furthest <= geometry.receptive_radius


def test_five_levels_reach_what_the_paper_s_unpadded_network_loses():
    geometry = Geometry(UNet2015Config(padded=False))
    assert geometry.valid_margin == (572 - 388) // 2 and geometry.seen(388) == 572 and geometry.seen(380) == 572
    assert geometry.seen(389) == 588 and geometry.total_stride == 16


def test_pieces_are_prepared_one_by_one():
    model, shapes = model_of(True, channels=3), []

    def prepare(piece):
        shapes.append(piece.shape)
        return np.repeat(piece[:, :, None].astype(np.float32) / 255, 3, 2)

    image = RNG.integers(0, 256, (70, 50), np.uint8)
    assert predict(model, image, 32, prepare).shape == (70, 50, 2)
    assert len(shapes) == 6 and max(shapes) <= (32 + 2 * Geometry(model.config).margin,) * 2


def test_an_image_smaller_than_the_receptive_radius_is_refused():
    model = model_of(True)
    reach = Geometry(model.config).receptive_radius
    predict(model, np.zeros((reach + 1, reach + 1, 1), np.float32))
    with pytest.raises(
        InputError, match=rf"{reach}×99 pixels, smaller than the receptive radius: expected {reach + 1}"
    ):
        predict(model, np.zeros((reach, 99, 1), np.float32))


def test_an_image_of_one_row_is_mirrored_into_itself():
    from tinydiff.segmentation.tiles import _mirror

    np.testing.assert_array_equal(_mirror(-2, 5, 1), [0] * 5)
    np.testing.assert_array_equal(_mirror(-2, 7, 3), [2, 1, 0, 1, 2, 1, 0])
