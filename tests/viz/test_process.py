"""Diffusion drawn: the numbers in the figures are those of schedules, images and samples."""

import numpy as np
import pytest

import tinydiff
from tinydiff.diffusion import make_schedule
from tinydiff.errors import InputError
from tinydiff.viz.process import plane, reverse_process, schedules


def test_schedules_are_shown_as_they_are():
    cosine, linear = make_schedule("squaredcos_cap_v2"), make_schedule("linear")
    left, right = schedules(cosine, linear).axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), cosine.alpha_bar)
    np.testing.assert_allclose(right.lines[1].get_ydata(), linear.alpha_bar / (1 - linear.alpha_bar))
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["squaredcos_cap_v2", "linear"]


def test_the_reverse_process_ends_at_the_image():
    pipe = tinydiff.load()
    found = reverse_process(pipe, "a red dress", steps=4, guidance_scale=2.0, seed=3)
    image = pipe.generate(["a red dress"], steps=4, guidance_scale=2.0, seed=3)[0]
    assert found.states.shape == found.guesses.shape == (4, 32, 32, 3) and found.timesteps == pipe.schedule.timesteps(4)
    np.testing.assert_allclose(np.rint(255 * found.states[-1]), image, atol=1)
    np.testing.assert_allclose(found.states[-1], found.guesses[-1], atol=1e-4)
    state, guess = found.draw(1).axes
    np.testing.assert_array_equal(state.images[0].get_array(), found.states[1])
    np.testing.assert_array_equal(guess.images[0].get_array(), found.guesses[1])
    with pytest.raises(InputError, match="no sampler 'nonsense'"):
        reverse_process(pipe, "a red dress", sampler="nonsense")


def test_samples_in_the_plane_have_the_colour_of_their_end():
    targets = np.array([[0.0, 0], [5, 0]])
    paths = [np.array([[0.1, 1], [4.0, 1], [6, 1]]), np.array([[0.0, 0], [5, 0], [5, 0.5]])]
    figure = plane(paths, {"one": paths[1]}, targets, followed=2)
    first, one = figure.axes
    assert len(first.lines) == 2 and one.get_title() == "one"
    circles, dots = one.collections
    np.testing.assert_array_equal(circles.get_offsets(), targets)
    np.testing.assert_array_equal(dots.get_offsets(), paths[1])
    a, b, c = dots.get_facecolors()
    assert not np.allclose(a, b) and np.allclose(b, c)
    grouped = plane(paths, {"one": paths[1]}, targets, groups=np.array([0, 1, 0])).axes[1].collections[1]
    a, b, c = grouped.get_facecolors()
    assert not np.allclose(a, b) and np.allclose(a, c)
    with pytest.raises(InputError, match=r"must be \(N, 2\)"):
        plane([np.zeros((3, 3))], {}, targets)
