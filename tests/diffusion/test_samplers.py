"""Samplers against closed forms.

For data ~ N(m, v) the exact denoiser is E[x0 | x_t] = m + √a·v/(a·v + 1 − a)·(x_t − √a·m): linear in x_t.  A sampler
is then an affine map of its starting noise and of each step's fresh noise, so the mean and variance of what it draws
follow a recursion, with no randomness in the comparison: `Impulses` feeds one unit of each noise in turn.
"""

import warnings
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinydiff import diffusion
from tinydiff.diffusion import (
    SCHEDULES,
    Options,
    Schedule,
    add_noise,
    invert_ddim,
    make_schedule,
    zero_terminal_snr,
)
from tinydiff.diffusion.samplers import (
    State,
    ddim_step,
    ddpm_step,
    dpm_step,
    euler_ancestral_step,
    euler_step,
    heun_step,
    plms_step,
    sample,
)
from tinydiff.errors import InputError


def sampler(step):
    """The sampling loop with this step, told all its options by name."""

    def run(predict, x, schedule, steps, rng, prediction_type="v_prediction", eta=None, **options):
        chosen = step if eta is None else partial(step, eta=eta)
        return sample(chosen, predict, x, schedule, steps, rng, prediction_type, Options(**options))

    return run


sample_ddpm, sample_ddim, sample_dpm, sample_heun = map(sampler, (ddpm_step, ddim_step, dpm_step, heun_step))
sample_plms, sample_euler, sample_ancestral = map(sampler, (plms_step, euler_step, euler_ancestral_step))
SAMPLERS = {
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "dpm": sample_dpm,
    "heun": sample_heun,
    "plms": sample_plms,
    "euler": sample_euler,
    "euler-ancestral": sample_ancestral,
}
RANDOM = ("ddpm", "euler-ancestral")


def test_every_sampler_is_tried_here():
    assert list(diffusion.SAMPLERS) == list(SAMPLERS)
    steps = [ddim_step, ddpm_step, dpm_step, heun_step, plms_step, euler_step, euler_ancestral_step]
    assert list(diffusion.SAMPLERS.values()) == steps


def test_a_step_sees_the_one_before_it_and_no_more():
    seen = []

    def step(state: State):
        seen.append(state)
        return state.x, 0.0

    sampler(step)(crooked, start(), make_schedule("squaredcos_cap_v2"), 4, None)
    assert seen[0].before is None and all(two.before.x0 is one.x0 for one, two in pairwise(seen))
    assert all(state.before is None or state.before.before is None for state in seen)  # memory: two states, not all
    assert [[n is s.noise for n, s in zip(state.noises, seen[:i][::-1], strict=True)] for i, state in enumerate(seen)]
    assert [len(state.noises) for state in seen] == [0, 1, 2, 3]


def quiet(name, T):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_schedule(name, T)


def remade(schedule, **changed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return replace(schedule, **changed)


def exact(schedule, mean, variance, prediction_type):
    """The best possible network for data ~ N(mean, variance)."""

    def predict(x, t):
        a = schedule.alpha_bar[t]
        noise = np.sqrt(1 - a) * (x - np.sqrt(a) * mean) / (a * variance + 1 - a)  # E[ε | x_t]
        x0 = mean + np.sqrt(a) * variance * (x - np.sqrt(a) * mean) / (a * variance + 1 - a)  # E[x0 | x_t]
        return {
            "epsilon": noise,
            "sample": x0,
            "v_prediction": np.sqrt(a) * noise - np.sqrt(1 - a) * x0,
            "iadb": x0 - noise,
        }[prediction_type]

    return predict


class Impulses:
    """In place of a Generator: the j-th draw is 1 at place j and 0 elsewhere."""

    def __init__(self):
        self.drawn = 0

    def standard_normal(self, shape, dtype):
        self.drawn += 1
        return np.eye(1, shape[0], self.drawn, dtype=dtype)[0]


def mean_and_variance(sampler, schedule, steps, mean, variance, prediction_type="v_prediction", **options):
    """Of what the sampler draws, exactly: place 0 holds the start's share, j that of step j, the last one no noise."""
    x, rng = np.eye(1, steps + 1)[0], Impulses()
    out = sampler(exact(schedule, mean, variance, prediction_type), x, schedule, steps, rng, prediction_type, **options)
    return out[-1], np.sum((out[:-1] - out[-1]) ** 2), rng.drawn


def recursion(schedule, steps, m, v, eta):
    """Mean and variance, step by step: x → √p·m + c·(x − √a·m) + s·z, with c from the exact denoiser's gain.

    eta is None for DDPM, whose step is N(x_p | x_a, x̂0), written here as Gaussian conditioning of x_p on x_a.
    """
    mean, variance = 0.0, 1.0
    kept = [schedule.alpha_bar[t] for t in schedule.timesteps(steps)]
    for a, p in zip(kept, [*kept[1:], 1.0], strict=True):
        if eta is None:
            pull = np.sqrt(a / p) * (1 - p) / (1 - a)  # cov(x_p, x_a)/var(x_a), given x0
            s2 = (1 - p) * (1 - (a / p) * (1 - p) / (1 - a))  # what conditioning leaves of var(x_p) = 1 − p
        else:
            s2 = eta**2 * (1 - p) / (1 - a) * (1 - a / p)
            pull = np.sqrt(max(1 - p - s2, 0) / (1 - a))
        gain = np.sqrt(a) * v / (a * v + 1 - a)  # dx̂0/dx
        c = (np.sqrt(p) - pull * np.sqrt(a)) * gain + pull
        # x = √a·m is denoised to m, and goes to √p·m.
        mean, variance = np.sqrt(p) * m + c * (mean - np.sqrt(a) * m), c * c * variance + s2
    return mean, variance


STEPS = [(sample_ddpm, {}), (sample_ddim, {}), (sample_ddim, {"eta": 0.4}), (sample_ddim, {"eta": 1.0})]
IDS = ["ddpm", "ddim", "ddim .4", "ddim 1"]


def check(step, name, T, steps, prediction_type, m, v):
    run, options = STEPS[step]
    schedule = quiet(name, T)
    mean, variance, drawn = mean_and_variance(run, schedule, steps, m, v, prediction_type, **options)
    eta = None if run is sample_ddpm else options.get("eta", 0.0)
    expected_mean, expected_variance = recursion(schedule, steps, m, v, eta)
    assert mean == pytest.approx(expected_mean, rel=1e-7, abs=1e-9)
    assert variance == pytest.approx(expected_variance, rel=1e-7, abs=1e-12)
    assert drawn == (0 if eta == 0 else steps - 1)  # no noise at the last step


@pytest.mark.parametrize("step", range(len(STEPS)), ids=IDS)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 5, 25, 1000])
def test_recursion_is_met(step, name, steps):
    check(step, name, 1000, steps, "v_prediction", 0.3, 0.25)


@settings(max_examples=150, deadline=None)
@given(
    step=st.integers(0, len(STEPS) - 1),
    name=st.sampled_from(sorted(SCHEDULES)),
    T_steps=st.integers(1, 200).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))),
    prediction_type=st.sampled_from(diffusion.PREDICTION_TYPES),
    m=st.floats(-2, 2),
    v=st.floats(0.01, 4),
)
@example(step=0, name="squaredcos_cap_v2", T_steps=(1, 1), prediction_type="epsilon", m=1.0, v=1.0)
def test_recursion_is_met_anywhere(step, name, T_steps, prediction_type, m, v):
    check(step, name, *T_steps, prediction_type, m, v)


@pytest.mark.parametrize("step", range(len(STEPS)), ids=IDS)
def test_more_steps_come_closer_to_the_truth(step):
    run, options = STEPS[step]
    schedule = make_schedule("squaredcos_cap_v2")
    found = [mean_and_variance(run, schedule, n, 0.3, 0.25, **options)[:2] for n in (1, 5, 25, 125, 1000)]
    errors = [abs(variance - 0.25) for _, variance in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[-2] / 6  # both are of first order: 8 times the steps, about an eighth of the error
    assert errors[-1] < 0.0025
    assert found[-1][0] == pytest.approx(0.3, abs=1e-4)


def test_one_step_lands_on_the_mean_image():
    for sampler in (sample_ddpm, sample_ddim):
        mean, variance, drawn = mean_and_variance(sampler, make_schedule("squaredcos_cap_v2"), 1, 0.3, 0.25)
        assert mean == pytest.approx(0.3, abs=1e-8) and variance < 1e-9 and drawn == 0


def test_published_shrinkage_at_25_steps():
    """Few steps shrink the variance: .25 comes out as .196 or .220 under the cosine schedule, trailing steps."""
    schedule = make_schedule("squaredcos_cap_v2")
    assert mean_and_variance(sample_ddpm, schedule, 25, 0.0, 0.25)[1] == pytest.approx(0.1963, abs=5e-5)
    assert mean_and_variance(sample_ddim, schedule, 25, 0.0, 0.25)[1] == pytest.approx(0.2204, abs=5e-5)


@pytest.mark.parametrize("step", range(len(STEPS)), ids=IDS)
def test_real_draws_have_the_recursions_mean_and_variance(step):
    """The same with a Generator: fresh, independent noise for each image and step, within 4 standard errors."""
    run, options = STEPS[step]
    schedule, rng, n = make_schedule("squaredcos_cap_v2"), np.random.default_rng(0), 40_000
    out = run(exact(schedule, 0.3, 0.25, "v_prediction"), rng.standard_normal(n), schedule, 10, rng, **options)
    eta = None if run is sample_ddpm else options.get("eta", 0.0)
    mean, variance = recursion(schedule, 10, 0.3, 0.25, eta)
    assert abs(out.mean() - mean) < 4 * np.sqrt(variance / n)
    assert abs(out.var() - variance) < 4 * variance * np.sqrt(2 / n)


def start(dtype=np.float64):
    return np.random.default_rng(1).standard_normal((3, 4, 4, 2)).astype(dtype)


def crooked(x, t):
    return np.tanh(x) * (1 + t) / 1000  # any function that is not linear


@pytest.mark.parametrize("steps", [1, 2, 25, 1000])
def test_ddim_with_eta_1_is_ddpm(steps):
    schedule = make_schedule("squaredcos_cap_v2")
    ddpm = sample_ddpm(crooked, start(), schedule, steps, np.random.default_rng(2))
    ddim = sample_ddim(crooked, start(), schedule, steps, np.random.default_rng(2), eta=1.0)
    np.testing.assert_allclose(ddim, ddpm, rtol=1e-7, atol=1e-9)


def test_ddim_with_eta_1_survives_rounding_in_pure_noise():
    """With ᾱ next to 0 nothing of ε̂ is carried on, but 1 − p − σ² comes out as −1e-16, whose root is not real."""
    schedule = Schedule("steep", np.array([0.5, 1e-17]))
    out = sample_ddim(crooked, start(), schedule, 2, np.random.default_rng(0), eta=1.0)
    assert out.dtype == np.float64 and np.all(np.isfinite(out))


@pytest.mark.parametrize("steps", [1, 2, 7, 10])
def test_dpm_sees_the_listed_timesteps_and_heun_looks_ahead(steps):
    def asked(sampler, schedule):
        seen = []
        sampler(lambda x, t: seen.append(t) or crooked(x, t), start(), schedule, steps, None)
        return seen

    gentle, steep = quiet("scaled_linear", 1000), make_schedule("squaredcos_cap_v2")
    listed = gentle.timesteps(steps)
    assert asked(sample_dpm, gentle) == listed
    assert asked(sample_heun, gentle) == [t for pair in pairwise(listed) for t in pair] + listed[-1:]
    after_ddim_s_first_step = [t for pair in list(pairwise(listed))[1:] for t in pair] + listed[-1:]
    assert asked(sample_heun, steep) == (listed[:1] if steps > 1 else []) + after_ddim_s_first_step


@pytest.mark.parametrize("step", range(len(STEPS)), ids=IDS)
@pytest.mark.parametrize("steps", [1, 2, 7, 10])
def test_network_sees_the_listed_timesteps_and_the_last_step_gives_x0(step, steps):
    run, options = STEPS[step]
    schedule, asked, told = quiet("linear", 10), [], []

    def predict(x, t):
        asked.append(t)
        return crooked(x, t)

    def callback(done, x, x0):
        told.append((done, x.copy(), x0.copy()))

    out = run(predict, start(), schedule, steps, np.random.default_rng(0), callback=callback, **options)
    assert asked == schedule.timesteps(steps)
    assert [done for done, _, _ in told] == list(range(1, steps + 1))
    np.testing.assert_array_equal(out, told[-1][1])
    np.testing.assert_allclose(out, told[-1][2], rtol=1e-12)  # ᾱ = 1 after the last step: the image itself


def test_ddim_with_eta_0_leaves_the_generator_alone():
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    sample_ddim(crooked, start(), make_schedule("squaredcos_cap_v2"), 5, rng)
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("step", range(len(STEPS)), ids=IDS)
def test_same_seed_same_bits_in_the_type_of_x(step):
    run, options = STEPS[step]
    schedule, x = make_schedule("squaredcos_cap_v2"), start(np.float32)
    before = x.copy()
    options = {**options, "clip": np.float64(2.0)}
    one, two = (run(crooked, x, schedule, 6, np.random.default_rng(4), **options) for _ in range(2))
    wide = run(crooked, start(np.float32).astype(np.float64), schedule, 6, np.random.default_rng(4), **options)
    assert one.dtype == np.float32 and wide.dtype == np.float64
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, wide, atol=1e-4)  # the same noise, whatever the type
    np.testing.assert_array_equal(x, before)


def two_levels():
    """ᾱ = .8 and .3, so that each step's numbers can be written out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Schedule("two levels", np.array([0.8, 0.3]))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_ddim_goes_on_from_the_clipped_x0_and_its_noise(prediction_type):
    x = np.array([0.2, 3.0, -3.0])
    x0 = np.array([0.5, 2.5, -9.0])  # what the network says at ᾱ = .3; the last two are cut to ±1
    noise = (x - 0.3**0.5 * x0) / 0.7**0.5
    prediction = noise if prediction_type == "epsilon" else 0.3**0.5 * noise - 0.7**0.5 * x0
    seen = []

    def predict(x_t, t):
        seen.append(x_t)
        return prediction if t == 1 else np.zeros_like(x_t)

    sample_ddim(predict, x, two_levels(), 2, np.random.default_rng(0), prediction_type, clip=1.0)
    clipped = np.array([0.5, 1.0, -1.0])
    recomputed = (x - 0.3**0.5 * clipped) / 0.7**0.5
    np.testing.assert_allclose(seen[1], 0.8**0.5 * clipped + 0.2**0.5 * recomputed, rtol=1e-12)


def test_ddpm_goes_on_from_the_clipped_x0():
    x, x0 = np.array([0.2, 3.0]), np.array([0.5, 2.5])
    v = (0.3**0.5 * x - x0) / 0.7**0.5  # from x0 = √a·x − √(1 − a)·v
    seen = []

    def predict(x_t, t):
        seen.append(x_t)
        return v if t == 1 else np.zeros_like(x_t)

    rng = np.random.default_rng(0)
    z = np.random.default_rng(0).standard_normal(2, dtype=np.float32).astype(np.float64)
    sample_ddpm(predict, x, two_levels(), 2, rng, clip=1.0)
    alpha = 0.3 / 0.8
    mean = (1 - alpha) * 0.8**0.5 / 0.7 * np.array([0.5, 1.0]) + 0.2 * alpha**0.5 / 0.7 * x
    np.testing.assert_allclose(seen[1], mean + ((1 - alpha) * 0.2 / 0.7) ** 0.5 * z, rtol=1e-12)


@pytest.mark.parametrize("sampler", [s for name, s in SAMPLERS.items() if name != "plms"])  # which mixes several ε̂
@pytest.mark.parametrize("clip", [None, 1.0])
def test_clip_bounds_the_image(sampler, clip):
    out = sampler(
        lambda x, t: -5 * np.ones_like(x),
        start(),
        make_schedule("squaredcos_cap_v2"),
        5,
        np.random.default_rng(0),
        clip=clip,
    )
    assert (np.abs(out).max() <= 1 + 1e-12) == (clip is not None)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_bad_input_is_refused_before_the_network_is_asked(sampler):
    def never(x, t):
        raise AssertionError("asked")

    def sample(steps=5, **options):
        sampler(never, start(), make_schedule("squaredcos_cap_v2", 50), steps, np.random.default_rng(0), **options)

    for steps in [0, -1, 51, 2.0, True, None]:
        with pytest.raises(InputError, match="steps must be a whole number from 1 to 50"):
            sample(steps)
    with pytest.raises(InputError, match="epsilon, sample, v_prediction, iadb"):
        sample(prediction_type="x0")
    for clip in [0, -1.0, np.nan]:
        with pytest.raises(InputError, match="clip must be"):
            sample(clip=clip)
    with pytest.raises(InputError, match="spacing must be one of trailing, leading; got 'even'"):
        sample(spacing="even")
    for skip in (-1, 5):
        with pytest.raises(InputError, match="skip must leave one of 5 steps"):
            sample(skip=skip)


@pytest.mark.parametrize("eta", [-0.1, 1.1, np.nan])
def test_a_bad_eta_is_refused(eta):
    with pytest.raises(InputError, match=r"eta must lie in \[0, 1\]"):
        sample_ddim(crooked, start(), make_schedule("squaredcos_cap_v2"), 5, None, eta=eta)


# --- samplers that draw no noise, against the differential equation that they solve


def even_in_lambda(low, high, count):
    """A schedule whose steps are even in λ = ln √(ᾱ/(1 − ᾱ)), from `high` down to `low`."""
    lam = np.linspace(high, low, count + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Schedule("even in λ", 1 / (1 + np.exp(-2 * lam)))


def mixture(schedule):
    """The best possible network for data that is −1 or 1: E[x0 | x_t] = tanh(√ᾱ·x_t/(1 − ᾱ)); it predicts v."""

    def predict(x, t):
        a = schedule.alpha_bar[t]
        x0 = np.tanh(np.sqrt(a) * x / (1 - a))
        noise = (x - np.sqrt(a) * x0) / np.sqrt(1 - a)
        return np.sqrt(a) * noise - np.sqrt(1 - a) * x0

    return predict


def solved(sampler, best, count, x, low=-1.0, high=1.0):
    """x at the noisier end of the interval carried to the other end in `count` steps."""
    schedule, passed = even_in_lambda(low, high, count), {}
    sampler(best(schedule), x, schedule, count + 1, None, callback=lambda done, x, x0: passed.update({done: x}))
    return passed[count]


def gaussian(schedule):
    return exact(schedule, 0.3, 0.25, "v_prediction")


def gaussian_solution(x, low=-1.0, high=1.0):
    """Each x keeps its number of standard deviations from the mean."""
    a, b = (1 / (1 + np.exp(-2 * lam)) for lam in (low, high))
    spread = np.sqrt((b * 0.25 + 1 - b) / (a * 0.25 + 1 - a))
    return np.sqrt(b) * 0.3 + (x - np.sqrt(a) * 0.3) * spread


@pytest.mark.parametrize("sampler, order", [(sample_ddim, 1), (sample_dpm, 2), (sample_heun, 2), (sample_plms, 2)])
def test_order_of_convergence(sampler, order):
    """The error falls with the steps to the power that theory says: for Gaussian data, whose solution is known, and for
    two points, where 20,000 steps stand for it."""
    x = np.linspace(-2, 2, 9)
    fine = solved(sample_heun, mixture, 20_000, x)
    for best, truth in ((gaussian, gaussian_solution(x)), (mixture, fine)):
        errors = [abs(solved(sampler, best, count, x) - truth).max() for count in (40, 80, 160)]
        for coarse, finer in pairwise(errors):
            assert np.log2(coarse / finer) == pytest.approx(order, abs=0.15), errors


@pytest.mark.parametrize("name", ["ddim", "dpm", "heun", "plms"])
def test_two_points_are_found(name):
    """Nearly every start ends at −1 or 1, on its own side."""
    schedule = make_schedule("squaredcos_cap_v2")
    x = np.random.default_rng(0).standard_normal(2000)
    out = SAMPLERS[name](mixture(schedule), x, schedule, 50, None)
    assert (np.sign(out) == np.sign(x)).all() and (abs(abs(out) - 1) < 0.05).mean() > 0.97


@pytest.mark.parametrize("name", ["dpm", "heun", "plms"])
def test_second_order_is_nearer_than_ddim_with_as_many_questions(name):
    schedule, errors = make_schedule("squaredcos_cap_v2"), {}
    for sampler, steps in (("ddim", 20), (name, {"dpm": 20, "heun": 10, "plms": 19}[name])):
        _, variance, drawn = mean_and_variance(SAMPLERS[sampler], schedule, steps, 0.3, 0.25)
        errors[sampler] = abs(variance - 0.25)
        assert drawn == 0
    assert errors[name] < errors["ddim"] / 2, errors


@pytest.mark.parametrize("steps", [5, 10, 25, 50])
@pytest.mark.parametrize("name", ["ddim", "dpm", "heun", "plms", "euler"])
@pytest.mark.parametrize("ends_in_noise_alone", [False, True])
def test_few_steps_stay_near_where_the_schedule_ends_in_noise(name, steps, ends_in_noise_alone):
    """√ᾱ is 5e-5 or 0 at the cosine schedule's last step: a difference in ε̂ must not be divided by it."""
    schedule, x = make_schedule("squaredcos_cap_v2"), np.linspace(-2, 2, 9)
    schedule = zero_terminal_snr(schedule) if ends_in_noise_alone else schedule
    out = SAMPLERS[name](gaussian(schedule), x, schedule, steps, None)
    assert abs(out - (0.3 + 0.5 * x)).max() < 1.7 / steps


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample", "iadb"])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_nothing_is_divided_by_the_zero_of_pure_noise(name, prediction_type, steps):
    schedule, x = zero_terminal_snr(quiet("scaled_linear", 1000)), start(np.float32)
    with np.errstate(all="raise"):
        out = SAMPLERS[name](crooked, x, schedule, steps, np.random.default_rng(0), prediction_type)
    assert out.dtype == np.float32 and np.isfinite(out).all() and abs(out).max() < 20


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("offset", [0, 1])
def test_where_set_alpha_to_one_is_false_ddim_and_plms_end_at_the_first_steps_noise(name, offset):
    """The others, with all their steps but the last the same, end at the image."""
    schedule = quiet("scaled_linear", 1000)
    schedule = remade(schedule, timestep_spacing="leading", steps_offset=offset)
    short, told = remade(schedule, set_alpha_to_one=False), []
    callback = lambda done, x, x0: told.append(x0)  # noqa: E731
    ends = [
        SAMPLERS[name](crooked, start(), each, 6, np.random.default_rng(0), "epsilon", callback=callback)
        for each in (schedule, short)
    ]
    np.testing.assert_array_equal(told[5], told[11])
    assert np.array_equal(*ends) == (name not in ("ddim", "plms"))


def test_euler_is_ddim_and_ancestral_euler_ddpm():
    """Worked out anew in x̄ = x/√ᾱ, where Karras writes them."""
    schedule, x, rng = quiet("linear", 1000), start(), np.random.default_rng(7)
    z = [rng.standard_normal(x.shape, dtype=np.float32).astype(np.float64) for _ in range(4)]
    timesteps = schedule.timesteps(5)
    sigmas = [float(np.sqrt((1 - a) / a)) for a in schedule.alpha_bar[timesteps]] + [0.0]
    for name, same in (("euler", "ddim"), ("euler-ancestral", "ddpm")):
        wide, noises = x * np.sqrt(sigmas[0] ** 2 + 1), iter(z)
        for t, here, there in zip(timesteps, sigmas, sigmas[1:], strict=False):
            noise = crooked(wide / np.sqrt(here**2 + 1), t)
            up = there * np.sqrt(1 - there**2 / here**2) if name == "euler-ancestral" else 0.0
            wide = wide + noise * (np.sqrt(there**2 - up**2) - here) + (up * next(noises) if up else 0.0)
        for each in (name, same):
            out = SAMPLERS[each](crooked, x, schedule, 5, np.random.default_rng(7), "epsilon")
            np.testing.assert_allclose(out, wide, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("steps", [3, 4, 9])
def test_plms_asks_once_more_than_it_has_steps_at_the_second_timestep(steps, skip):
    schedule, asked = quiet("scaled_linear", 1000), []
    sample_plms(lambda x, t: asked.append(t) or crooked(x, t), start(), schedule, steps, None, "epsilon", skip=skip)
    listed = schedule.timesteps(steps)[skip:]
    assert asked == [*listed[:2], *listed[1:]]


@pytest.mark.parametrize("name", ["dpm", "heun", "plms"])
def test_one_step_is_ddim_s(name):
    schedule = make_schedule("squaredcos_cap_v2")
    np.testing.assert_array_equal(
        SAMPLERS[name](crooked, start(), schedule, 1, None), sample_ddim(crooked, start(), schedule, 1, None)
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_float32_stays_and_nothing_is_drawn_that_need_not_be(name):
    schedule, x = make_schedule("squaredcos_cap_v2"), start(np.float32)
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    out = SAMPLERS[name](crooked, x, schedule, 5, rng)
    assert out.dtype == np.float32 and (rng.bit_generator.state == before) == (name not in RANDOM)


def test_leading_timesteps_begin_later():
    schedule = make_schedule("squaredcos_cap_v2")
    assert schedule.timesteps(4, "leading") == [750, 500, 250, 0] and schedule.timesteps(4) == [999, 749, 499, 249]
    asked = []
    sample_ddim(lambda x, t: asked.append(t) or crooked(x, t), start(), schedule, 4, None, spacing="leading")
    assert asked == [750, 500, 250, 0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_loop_can_begin_on_the_way(name):
    """From the exact solution at a later step it goes on as it would have."""
    schedule, seen, asked = make_schedule("squaredcos_cap_v2"), {}, []
    SAMPLERS[name](
        crooked, start(), schedule, 8, np.random.default_rng(0), callback=lambda i, x, x0: seen.update({i: x})
    )
    counted = []
    out = SAMPLERS[name](
        lambda x, t: asked.append(t) or crooked(x, t),
        seen[3],
        schedule,
        8,
        np.random.default_rng(0),
        skip=3,
        callback=lambda i, x, x0: counted.append(i),
    )
    assert asked[0] == schedule.timesteps(8)[3] and counted == [1, 2, 3, 4, 5]
    if name in ("ddim", "heun", "euler"):  # others draw other noise, or have forgotten what was before
        np.testing.assert_array_equal(out, seen[8])


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_adjust_puts_in_stays(name):
    schedule, known, levels = make_schedule("squaredcos_cap_v2"), start()[:, :2], []

    def adjust(x, alpha_bar):
        levels.append(alpha_bar)
        held = add_noise(known, known * 0, alpha_bar)
        return np.concatenate([held, x[:, 2:]], 1)

    out = SAMPLERS[name](crooked, start(), schedule, 6, np.random.default_rng(0), adjust=adjust)
    np.testing.assert_array_equal(out[:, :2], known)
    assert levels == [float(schedule.alpha_bar[t]) for t in schedule.timesteps(6)[1:]] + [1.0]


def test_the_error_of_the_way_back_falls_with_the_steps():
    schedule, x0, errors = make_schedule("squaredcos_cap_v2"), np.array([-0.9, -0.2, 0.4, 1.1]), []
    for steps in (10, 40, 160, 1000):
        noise = invert_ddim(gaussian(schedule), x0, schedule, steps)
        errors.append(abs(sample_ddim(gaussian(schedule), noise, schedule, steps, None) - x0).max())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.15 * errors[0], errors


def test_the_way_back_from_a_gaussian_keeps_the_deviations():
    schedule, x0 = make_schedule("squaredcos_cap_v2"), np.array([-0.9, 0.3, 1.1])
    noise = invert_ddim(gaussian(schedule), x0, schedule, 1000)
    np.testing.assert_allclose(noise, (x0 - 0.3) / 0.5, atol=0.02)
