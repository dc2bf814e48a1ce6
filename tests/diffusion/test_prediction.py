"""Noising, the targets, and the way back from a prediction to image and noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydiff.diffusion import PREDICTION_TYPES, add_noise, noise_from_x0, target, to_x0_and_noise
from tinydiff.errors import InputError


def images(seed=0, shape=(5, 4, 4, 3), dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)


def test_formulas_with_one_alpha_bar_each():
    x0, noise = images()
    alpha_bar = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    x_t, v = add_noise(x0, noise, alpha_bar), target(x0, noise, alpha_bar, "v_prediction")
    for n, a in enumerate(alpha_bar):
        np.testing.assert_allclose(x_t[n], a**0.5 * x0[n] + (1 - a) ** 0.5 * noise[n])
        np.testing.assert_allclose(v[n], a**0.5 * noise[n] - (1 - a) ** 0.5 * x0[n])
        np.testing.assert_array_equal(add_noise(x0[n], noise[n], float(a)), x_t[n])
    np.testing.assert_array_equal(target(x0, noise, alpha_bar, "epsilon"), noise)


@given(alpha_bar=st.floats(0, 1))
def test_v_round_trip_is_exact_at_any_alpha_bar(alpha_bar):
    x0, noise = images()
    back = to_x0_and_noise(
        target(x0, noise, alpha_bar, "v_prediction"), add_noise(x0, noise, alpha_bar), alpha_bar, "v_prediction"
    )
    np.testing.assert_allclose(back[0], x0, atol=1e-14)
    np.testing.assert_allclose(back[1], noise, atol=1e-14)


@given(alpha_bar=st.floats(0, 1))
def test_iadb_round_trip_is_exact_at_any_alpha_bar(alpha_bar):
    x0, noise = images()
    d = target(x0, noise, alpha_bar, "iadb")
    np.testing.assert_array_equal(d, x0 - noise)
    back = to_x0_and_noise(d, add_noise(x0, noise, alpha_bar), alpha_bar, "iadb")
    np.testing.assert_allclose(back[0], x0, atol=1e-14)
    np.testing.assert_allclose(back[1], noise, atol=1e-14)


@given(alpha_bar=st.floats(1e-12, 1 - 1e-9))
def test_epsilon_round_trip_loses_what_the_division_costs(alpha_bar):
    x0, noise = images()
    x_t = add_noise(x0, noise, alpha_bar)
    back, same = to_x0_and_noise(noise, x_t, alpha_bar, "epsilon")
    np.testing.assert_array_equal(same, noise)
    np.testing.assert_allclose(back, x0, atol=1e-14 / alpha_bar**0.5)
    np.testing.assert_allclose(noise_from_x0(x0, x_t, alpha_bar), noise, atol=1e-14 / (1 - alpha_bar) ** 0.5)


def test_float32_near_pure_noise_v_keeps_the_image_and_epsilon_does_not():
    x0, noise = images(dtype=np.float32)
    a = 2.43e-9  # the cosine schedule's last
    x_t = add_noise(x0, noise, a)
    v_error = np.abs(to_x0_and_noise(target(x0, noise, a, "v_prediction"), x_t, a, "v_prediction")[0] - x0).max()
    epsilon_error = np.abs(to_x0_and_noise(noise, x_t, a, "epsilon")[0] - x0).max()
    assert v_error < 1e-6 and epsilon_error > 1e-4


def test_pure_noise_has_no_epsilon_answer():
    x0, noise = images()
    with pytest.raises(InputError, match="predict v"):
        to_x0_and_noise(noise, noise, np.array([0.5, 0.5, 0.0, 0.5, 0.5]), "epsilon")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha_bar", [0.3, np.float64(0.3), np.full(5, 0.3)])
def test_type_is_kept_and_inputs_are_untouched(dtype, alpha_bar):
    x0, noise = images(dtype=dtype)
    before = x0.copy(), noise.copy()
    x_t = add_noise(x0, noise, alpha_bar)
    made = [x_t, noise_from_x0(x0, x_t, alpha_bar)]
    for each in PREDICTION_TYPES:
        made += [
            target(x0, noise, alpha_bar, each),
            *to_x0_and_noise(noise, x_t, alpha_bar, each),
        ]
    assert {array.dtype for array in made} == {np.dtype(dtype)}
    np.testing.assert_array_equal(x0, before[0])
    np.testing.assert_array_equal(noise, before[1])


def test_bad_input_is_refused():
    x0, noise = images()
    with pytest.raises(InputError, match="epsilon, sample, v_prediction, iadb; got 'x0'"):
        target(x0, noise, 0.5, "x0")
    with pytest.raises(InputError, match="epsilon, sample, v_prediction, iadb; got 'eps'"):
        to_x0_and_noise(noise, x0, 0.5, "eps")
    with pytest.raises(InputError, match=r"add_noise: .*float64 \(5, 4, 4, 3\) and float64 \(1, 4, 4, 3\)"):
        add_noise(x0, noise[:1], 0.5)
    with pytest.raises(InputError, match="uint8"):
        add_noise(x0.astype(np.uint8), noise.astype(np.uint8), 0.5)
    with pytest.raises(InputError, match="float64.*float32"):
        add_noise(x0, noise.astype(np.float32), 0.5)
    with pytest.raises(InputError, match=r"alpha_bar is \(4,\)"):
        add_noise(x0, noise, np.full(4, 0.5))
    for alpha_bar in [-0.1, 1.1, np.nan]:
        with pytest.raises(InputError, match=r"in \[0, 1\]"):
            add_noise(x0, noise, alpha_bar)
