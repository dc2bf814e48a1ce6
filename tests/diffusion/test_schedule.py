"""Schedules against their formulas, and the timesteps that a sampler visits."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydiff.diffusion import SCHEDULES, Schedule, ddim_step, make_schedule, sample, zero_terminal_snr
from tinydiff.errors import InputError


def quiet(name, T):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_schedule(name, T)


def products(betas):
    out, alpha_bar = [], 1.0
    for beta in betas:
        alpha_bar *= 1 - beta
        out.append(alpha_bar)
    return out


@pytest.mark.parametrize("T", [10, 100, 1000])
def test_linear_is_the_formula(T):
    betas = [min(0.999, (1e-4 + (0.02 - 1e-4) * t / (T - 1)) * 1000 / T) for t in range(T)]
    np.testing.assert_allclose(quiet("linear", T).alpha_bar, products(betas), rtol=1e-12)


def test_scaled_linear_is_stable_diffusions():
    betas = [(0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / 999) ** 2 for t in range(1000)]
    np.testing.assert_allclose(quiet("scaled_linear", 1000).alpha_bar, products(betas), rtol=1e-12)


@pytest.mark.parametrize("T", [2, 30, 1000])
def test_cosine_is_the_formula_until_beta_is_clipped(T):
    schedule = make_schedule("squaredcos_cap_v2", T) if T > 2 else quiet("squaredcos_cap_v2", T)
    f = [np.cos((t / T + 0.008) / 1.008 * np.pi / 2) ** 2 for t in range(T + 1)]
    np.testing.assert_allclose(schedule.alpha_bar[:-1], np.array(f[1:-1]) / f[0], rtol=1e-9)
    # The formula's last β is 1 and its last ᾱ 0: clipped at .999, a thousandth of the ᾱ before is left.
    assert schedule.alpha_bar[-1] == pytest.approx(0.001 * schedule.alpha_bar[-2], rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 7, 1000, 4000])
def test_alpha_bar_falls_inside_0_and_1_and_is_read_only(name, T):
    schedule = quiet(name, T)
    assert schedule.name == name and schedule.num_train_timesteps == T
    assert schedule.alpha_bar.shape == (T,) and schedule.alpha_bar.dtype == np.float64
    assert 0 < schedule.alpha_bar[-1] <= schedule.alpha_bar[0] < 1 and np.all(np.diff(schedule.alpha_bar) < 0)
    with pytest.raises(ValueError, match="read-only"):
        schedule.alpha_bar[0] = 0.5


@pytest.mark.parametrize("name, left", [("linear", 0.00635), ("squaredcos_cap_v2", 4.93e-5), ("scaled_linear", 0.0683)])
def test_warns_where_signal_is_left_at_the_last_step(name, left):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        schedule = make_schedule(name)
    assert np.sqrt(schedule.alpha_bar[-1]) == pytest.approx(left, rel=1e-3)
    messages = [str(w.message) for w in caught]
    assert len(messages) == (left > 0.01)
    assert all("'scaled_linear' keeps √ᾱ = 0.068" in message for message in messages)


@given(T=st.integers(1, 1000), data=st.data())
def test_timesteps_fall_from_the_last_in_even_strides(T, data):
    n = data.draw(st.integers(1, T))
    timesteps = quiet("squaredcos_cap_v2", T).timesteps(n)
    assert len(timesteps) == n and all(type(t) is int for t in timesteps)
    assert timesteps[0] == T - 1 and timesteps[-1] >= 0
    strides = -np.diff(timesteps)
    assert np.all(np.abs(strides - T / n) <= 1) and np.all(strides >= 1)


def test_timesteps_at_the_ends():
    schedule = make_schedule("squaredcos_cap_v2")
    assert schedule.timesteps(1) == [999]
    assert schedule.timesteps(2) == [999, 499]
    assert schedule.timesteps(3) == [999, 666, 332]  # thirds are rounded: 666.7 and 333.3, less one
    assert schedule.timesteps(np.int64(4)) == [999, 749, 499, 249]
    assert schedule.timesteps(1000) == list(range(999, -1, -1))


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.0, True, "25", None])
def test_bad_step_counts_name_the_limits(steps):
    with pytest.raises(InputError, match=r"from 1 to 1000, .*squaredcos_cap_v2 schedule; got " + repr(steps)):
        make_schedule("squaredcos_cap_v2").timesteps(steps)


@pytest.mark.parametrize("T", [0, -5, 10.0, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_bad_lengths_are_refused(name, T):
    with pytest.raises(InputError, match="T must be a whole number from 1 up"):
        make_schedule(name, T)


def test_unknown_name_offers_those_there_are():
    with pytest.raises(InputError, match="'square'.*linear, scaled_linear, squaredcos_cap_v2"):
        make_schedule("square")


@pytest.mark.parametrize(
    "alpha_bar", [[], 0.5, [[0.5]], [0.5, 0.5], [0.2, 0.5], [1.0, 0.5], [0.5, -0.1], [0.5, np.nan]]
)
def test_impossible_alpha_bars_are_refused(alpha_bar):
    with pytest.raises(InputError, match="fall strictly and stay inside"):
        Schedule("mine", np.array(alpha_bar))


@pytest.mark.parametrize("left, warns", [(0.009, False), (0.011, True)])
def test_more_than_a_hundredth_of_the_image_at_the_last_step_is_said(left, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Schedule("mine", np.array([0.5, left**2]))
    assert [str(w.message).startswith("schedule 'mine' keeps √ᾱ = 0.011") for w in caught] == [True] * warns


def test_a_schedule_may_end_in_noise_alone():
    with pytest.warns(UserWarning):
        before = make_schedule("scaled_linear")
    after = zero_terminal_snr(before)
    assert after.alpha_bar[-1] == 0 and after.alpha_bar[0] == pytest.approx(before.alpha_bar[0], rel=1e-12)
    root, shifted = np.sqrt(before.alpha_bar), np.sqrt(after.alpha_bar)
    np.testing.assert_allclose(np.diff(shifted) / np.diff(root), root[0] / (root[0] - root[-1]), rtol=1e-9)
    with pytest.raises(InputError, match="predict v there"):
        sample(ddim_step, lambda x, t: x, np.ones((1, 2)), after, 5, None, "epsilon")


def test_stable_diffusions_timesteps():
    with pytest.warns(UserWarning):
        schedule = replace(make_schedule("scaled_linear"), timestep_spacing="leading", steps_offset=1)
        short = replace(schedule, set_alpha_to_one=False)
    assert schedule.timesteps(50)[:2] == [981, 961] and schedule.timesteps(50)[-1] == 1
    assert schedule.timesteps(999)[0] == 999 and schedule.timesteps(500)[0] == 999 and schedule.final_alpha_bar == 1
    assert schedule.timesteps(50, "trailing") == make_schedule("squaredcos_cap_v2").timesteps(50)
    with pytest.raises(InputError, match="1000 steps from steps_offset 1 reach timestep 1000; the last is 999"):
        schedule.timesteps(1000)
    assert short.final_alpha_bar == schedule.alpha_bar[0]


@pytest.mark.parametrize(
    "field, value", [("timestep_spacing", "linspace"), ("steps_offset", -1), ("steps_offset", "1")]
)
def test_settings_of_a_schedule_are_looked_at_when_it_is_made(field, value):
    with pytest.raises(InputError, match=field):
        replace(make_schedule("squaredcos_cap_v2"), **{field: value})


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_has_a_thousand_steps_where_nothing_is_said(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert SCHEDULES[name]().num_train_timesteps == 1000  # type: ignore[call-arg]
