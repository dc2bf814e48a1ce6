"""Latents as images: what is drawn is what was given."""

import numpy as np
import pytest

from tinydiff.errors import InputError
from tinydiff.viz.latents import channels, denoising_step, noised, shown, signal_to_noise, sizes, walk


def test_channels_are_scaled_by_the_limit_and_the_image_is_last():
    latent = np.arange(12.0).reshape(2, 3, 2) - 4
    figure = channels(latent, np.zeros((4, 4, 3)), limit=4)
    first, second, image = figure.axes
    np.testing.assert_allclose(first.images[0].get_array(), np.clip(latent[..., 0] / 4, -1, 1))
    np.testing.assert_allclose(second.images[0].get_array(), np.clip(latent[..., 1] / 4, -1, 1))
    assert first.images[0].get_clim() == (-1, 1) and image.images[0].get_array().shape == (4, 4, 3)
    assert [axes.get_title() for axes in figure.axes] == ["channel 0", "channel 1", "image"]
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


class Identity:
    def decode(self, latents):
        return latents[..., :3]


def test_noised_mixes_by_alpha_bar():
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


def test_drawing_has_the_latent_of_its_step_and_both_decoded():
    x, x0 = np.full((2, 2, 4), 1.5), np.full((2, 2, 4), -0.5)
    figure = denoising_step(Identity(), [(x * 0, x0 * 0), (x, x0)], 1)
    assert [axes.get_title() for axes in figure.axes[4:]] == ["x, decoded", "x̂0, decoded"]
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), 0.5)  # 1.5 of a limit of 3
    np.testing.assert_allclose(figure.axes[4].images[0].get_array(), 1)  # clipped
    np.testing.assert_allclose(figure.axes[5].images[0].get_array(), 0.25)


def test_signal_to_noise_grows_with_the_variance():
    alpha_bar = np.array([0.9, 0.5, 0.2])
    figure = signal_to_noise({"one": (alpha_bar, {"with": 1, "without": 4.0}), "other": (alpha_bar, {"with": 1})})
    first, other = figure.axes
    np.testing.assert_allclose(first.lines[0].get_ydata(), [9, 1, 0.25])
    np.testing.assert_allclose(first.lines[1].get_ydata(), [36, 4, 1])
    assert first.get_title() == "one" and first.get_yscale() == "log" and len(other.lines) == 2  # a curve and 1
    assert [t.get_text() for t in first.get_legend().get_texts()] == ["with: variance 1", "without: variance 4"]
    with pytest.raises(InputError, match="variances above 0"):
        signal_to_noise({"one": (alpha_bar, {"with": 0})})
    with pytest.raises(InputError, match="one schedule or more"):
        signal_to_noise({})
