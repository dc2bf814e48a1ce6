"""IADB: the plain form, and that it is DDIM in other coordinates."""

import numpy as np
import pytest

from tinydiff.diffusion import Options, ddim_step, make_schedule, sample
from tinydiff.diffusion.iadb import blend, deblend
from tinydiff.errors import InputError
from tinydiff.viz.process import exact_direction


def test_blend_is_a_straight_line():
    rng = np.random.default_rng(0)
    x0, x1 = rng.standard_normal((2, 3, 4, 4, 2)).astype(np.float32)
    assert np.array_equal(blend(x0, x1, 0), x0) and np.array_equal(blend(x0, x1, 1.0), x1)
    each = blend(x0, x1, np.array([0.0, 0.25, 1.0]))
    assert each.dtype == np.float32 and np.array_equal(each[0], x0[0]) and np.array_equal(each[2], x1[2])
    np.testing.assert_allclose(each[1], 0.75 * x0[1] + 0.25 * x1[1], rtol=1e-6)


def exact(v0, v1):
    """E[x1 − x0 | x_α] for x0 ~ N(0, v0) and x1 ~ N(2, v1), independent."""

    def direction(x, alpha):
        variance = (1 - alpha) ** 2 * v0 + alpha**2 * v1
        return 2 + (alpha * v1 - (1 - alpha) * v0) / variance * (x - alpha * 2)

    return direction


@pytest.mark.parametrize("v0, v1", [(1.0, 0.25), (4.0, 0.01)])
def test_gaussians_are_carried_onto_each_other(v0, v1):
    """The exact map keeps each sample's number of standard deviations; Euler's error falls with the steps."""
    x = np.linspace(-3, 3, 13) * np.sqrt(v0)
    errors = [abs(deblend(exact(v0, v1), x, n) - (2 + x * np.sqrt(v1 / v0))).max() for n in (50, 100, 200)]
    assert errors[2] < 0.02 * np.sqrt(v0)
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.3) and errors[1] / errors[2] == pytest.approx(2, abs=0.3)


def test_a_constant_direction_is_followed_exactly_in_any_number_of_steps():
    x = np.arange(6.0).reshape(2, 3)
    for n in (1, 3, 7):
        np.testing.assert_allclose(deblend(lambda x, a: x * 0 + 5, x, n), x + 5)
    seen = []
    deblend(lambda x, a: x * 0 + a, x, 4, callback=lambda done, x: seen.append((done, x[0, 0])))
    assert [done for done, _ in seen] == [1, 2, 3, 4] and seen[-1][1] == pytest.approx((0 + 0.25 + 0.5 + 0.75) / 4)


def test_in_the_plane_every_sample_ends_at_a_point():
    angle = np.arange(5) * 2 * np.pi / 5
    points = 3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    x = np.random.default_rng(0).standard_normal((2000, 2))
    ends = deblend(exact_direction(points), x, 200)
    distances = np.linalg.norm(ends[:, None] - points, axis=-1)
    assert np.quantile(distances.min(1), 0.99) < 0.05
    np.testing.assert_allclose(np.bincount(distances.argmin(1)) / 2000, 0.2, atol=0.03)


def test_the_exact_direction_is_the_mean_over_all_that_could_have_been_blended():
    """By brute force: x0 and x1 drawn, and those kept whose blend comes near to x."""
    points = np.array([[-1.0, 0.0], [1.5, 0.5]])
    rng, alpha = np.random.default_rng(0), 0.4
    x0, x1 = rng.standard_normal((400_000, 2)), points[rng.integers(0, 2, 400_000)]
    for x in ([0.3, 0.1], [-0.8, -0.5]):
        near = np.linalg.norm(blend(x0, x1, alpha) - x, axis=1) < 0.08
        expected = (x1 - x0)[near].mean(0)
        assert near.sum() > 500
        np.testing.assert_allclose(exact_direction(points)(np.array([x]), alpha)[0], expected, atol=0.1)


def test_one_step_of_it_is_ddim_s():
    """The same network, asked in the coordinates of either, is led to the same points."""
    schedule, steps = make_schedule("iadb", 1000), 10
    timesteps = schedule.timesteps(steps)
    alphas = [1 - (t + 0.5) / 1000 for t in timesteps]
    scale = [np.hypot(a, 1 - a) for a in alphas]

    def network(x, alpha):  # any function of the blended image
        return np.tanh(x) - 0.3 * alpha

    passed = []
    x = np.random.default_rng(0).standard_normal((4, 3))
    sample(
        ddim_step,
        lambda x, t: network(x * scale[timesteps.index(t)], alphas[timesteps.index(t)]),
        x / scale[0],
        schedule,
        steps,
        None,
        "iadb",
        Options(callback=lambda done, x, x0: passed.append(x)),
    )
    for i, (here, there) in enumerate(zip(alphas, [*alphas[1:], 1.0], strict=True)):
        x = x + (there - here) * network(x, here)
        np.testing.assert_allclose(passed[i] * ([*scale[1:], 1.0][i]), x, rtol=1e-10)


def test_bad_input():
    x = np.zeros((2, 3))
    with pytest.raises(InputError, match=r"x0 is \(2, 3\) but x1 \(3,\)"):
        blend(x, x[0], 0.5)
    with pytest.raises(InputError, match=r"alpha is \(3,\), but x \(2, 3\) needs a number or one each"):
        blend(x, x, np.zeros(3))
    with pytest.raises(InputError, match=r"alpha must lie in \[0, 1\]"):
        blend(x, x, 1.5)
    with pytest.raises(InputError, match=r"points are \(3,\), expected"):
        exact_direction(np.zeros(3))
    with pytest.raises(InputError, match="steps must be 1 or more; got 0"):
        deblend(lambda x, a: x, x, 0)
