"""Latents as pictures: what is drawn is what was given."""

import numpy as np
import pytest

from tinydiff.errors import InputError
from tinydiff.viz.latents import channels, noised, shown, sizes, walk


def test_channels_are_scaled_by_the_limit_and_the_picture_is_last():
    latent = np.arange(12.0).reshape(2, 3, 2) - 4
    figure = channels(latent, np.zeros((4, 4, 3)), limit=4)
    first, second, picture = figure.axes
    np.testing.assert_allclose(first.images[0].get_array(), np.clip(latent[..., 0] / 4, -1, 1))
    np.testing.assert_allclose(second.images[0].get_array(), np.clip(latent[..., 1] / 4, -1, 1))
    assert first.images[0].get_clim() == (-1, 1) and picture.images[0].get_array().shape == (4, 4, 3)
    assert [axes.get_title() for axes in figure.axes] == ["channel 0", "channel 1", "picture"]
    assert len(channels(latent).axes) == 2
    with pytest.raises(InputError, match=r"the latent is \(2, 3\), expected"):
        channels(latent[..., 0])


def test_a_walk_is_straight_and_has_both_ends():
    one, other = np.zeros((2, 2), np.float32), np.full((2, 2), 4, np.float32)
    passed = walk(one, other, 5)
    assert passed.dtype == np.float32 and [step[0, 0] for step in passed] == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="expected one shape and two or more"):
        walk(one, other[:1])
    with pytest.raises(InputError, match="two or more"):
        walk(one, other, 1)


def test_noised_mixes_by_alpha_bar():
    class Identity:
        def decode(self, latents):
            return latents[..., :3]

    latent, noise = np.full((2, 2, 4), 2.0), np.full((2, 2, 4), -1.0)
    figure = noised(Identity(), latent, noise, [1.0, 0.36], 1)
    mixed = 0.6 * 2 - 0.8
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), mixed / 3, rtol=1e-6)
    np.testing.assert_allclose(figure.axes[4].images[0].get_array(), mixed / 2 + 0.5, rtol=1e-6)
    assert "0.360" in figure.get_suptitle()


def test_shown_clips():
    np.testing.assert_array_equal(shown(np.array([-2.0, -1, 0, 1, 3])), [0, 0, 0.5, 1, 1])


def test_curves_and_single_points():
    figure = sizes({"a": ([16, 64], [20, 25]), "b": ([256], [28])}, "t")
    line, star = figure.axes[0].lines
    assert list(line.get_xdata()) == [16, 64] and line.get_marker() == "o"
    assert list(star.get_ydata()) == [28] and star.get_marker() == "*"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["a", "b"]
