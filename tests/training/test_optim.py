"""AdamW against a plain loop over single numbers, the compiled step against NumPy's, and the course of the rates."""

import math

import numpy as np
import pytest

from tinydiff import kernels
from tinydiff.nn.module import Module, Parameter
from tinydiff.training.optim import AdamW, OptimConfig, Update, adamw_step, ema_decay, learning_rate

CONFIG = OptimConfig(steps=20, batch=1, lr=0.05, warmup=3, weight_decay=0.1, clip=1.5, ema=0.8)


class Two(Module):
    """A matrix and a bias."""

    def __init__(self, rng, dtype=np.float64):
        self.weight = Parameter(rng.standard_normal((3, 4)).astype(dtype))
        self.bias = Parameter(rng.standard_normal(4).astype(dtype))


def gradients(rng, module, size=1.0):
    return {name: (size * rng.standard_normal(p.shape)).astype(p.dtype) for name, p in module.named_parameters()}


def give(module, grads):
    for name, p in module.named_parameters():
        p.grad = grads[name].copy()


def loop(numbers, decays, steps_of_grads, config):
    """The paper's algorithm on a list of numbers: parameters and averages after the steps."""
    b1, b2 = config.betas
    p, average = list(numbers), list(numbers)
    m, v = [0.0] * len(p), [0.0] * len(p)
    for step, grads in enumerate(steps_of_grads):
        t, norm = step + 1, math.sqrt(sum(g * g for g in grads))
        ema = min(config.ema, t / (t + 9))
        for i, g in enumerate(grads):
            if norm > config.clip:
                g *= config.clip / norm
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g * g
            corrected_m, corrected_v = m[i] / (1 - b1**t), v[i] / (1 - b2**t)
            rate = learning_rate(config, step)
            decay = config.weight_decay if decays[i] else 0.0
            p[i] -= rate * (corrected_m / (math.sqrt(corrected_v) + config.eps) + decay * p[i])
            average[i] = ema * average[i] + (1 - ema) * p[i]
    return p, average


@pytest.mark.parametrize("size", [0.1, 10.0], ids=["not clipped", "clipped"])
def test_float64_follows_a_plain_loop(size):
    rng = np.random.default_rng(0)
    module = Two(rng)
    numbers = np.concatenate([module.weight.data.ravel(), module.bias.data])
    optimiser = AdamW(module, CONFIG)
    drawn = [gradients(rng, module, size) for _ in range(8)]
    flat = [np.concatenate([g["weight"].ravel(), g["bias"]]).tolist() for g in drawn]
    norms = []
    for step, grads in enumerate(drawn):
        give(module, grads)
        norms.append(optimiser.step(step))
    p, average = loop(numbers.tolist(), [True] * 12 + [False] * 4, flat, CONFIG)
    np.testing.assert_allclose([*module.weight.data.ravel(), *module.bias.data], p, rtol=1e-11)
    np.testing.assert_allclose([*optimiser.ema["weight"].ravel(), *optimiser.ema["bias"]], average, rtol=1e-11)
    np.testing.assert_allclose(norms, [math.hypot(*grads) for grads in flat], rtol=1e-12)
    assert (np.array(norms) > CONFIG.clip).all() == (size > 1)


@pytest.mark.parametrize("size", [1, 7, 3 * (1 << 14) + 5])
def test_the_compiled_step_agrees_with_float64(size):
    rng = np.random.default_rng(size)
    start = [rng.standard_normal(size) for _ in range(5)]
    start[3] **= 2
    settings = [0.01], Update(3e-3, 0.9, 0.99, 1e-8, 1 / (1 - 0.9**4), 1 / (1 - 0.99**4), 0.7, 0.6)
    exact = [a.copy() for a in start]
    fast = [a.astype(np.float32) for a in start]
    adamw_step(*([a] for a in exact), *settings)
    assert kernels.find_kernel("adamw", fast[0]) is not None
    adamw_step(*([a] for a in fast), *settings)
    for name, a, b in zip(("p", "g", "m", "v", "ema"), fast, exact, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)


def test_float32_in_numpy_agrees_with_float64():
    rng = np.random.default_rng(3)
    start = [rng.standard_normal(9) ** 2 for _ in range(5)]
    settings = [0.01], Update(3e-3, 0.9, 0.99, 1e-8, 2.9, 25.4, 0.7, 0.6)
    plain, exact = [a.astype(np.float32) for a in start], [a.copy() for a in start]
    with kernels.use("numpy"):
        adamw_step(*([a] for a in plain), *settings)
    adamw_step(*([a] for a in exact), *settings)
    for a, b in zip(plain, exact, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_weight_decay_shrinks_weights_and_not_biases():
    module = Two(np.random.default_rng(0))
    weight, bias = module.weight.data.copy(), module.bias.data.copy()
    give(module, {"weight": np.zeros((3, 4)), "bias": np.zeros(4)})
    AdamW(module, CONFIG).step(0)
    np.testing.assert_allclose(module.weight.data, weight * (1 - learning_rate(CONFIG, 0) * 0.1), rtol=1e-14)
    np.testing.assert_array_equal(module.bias.data, bias)


def test_clipping_counts_all_gradients_together():
    """Each alone is within the limit, both together are not."""
    module = Two(np.random.default_rng(0))
    config = OptimConfig(steps=1, batch=1, clip=1.0, betas=(0.0, 0.0))
    optimiser = AdamW(module, config)
    grads = {"weight": np.full((3, 4), 0.9 / math.sqrt(12)), "bias": np.full(4, 0.9 / 2)}
    give(module, grads)
    norm = optimiser.step(0)
    assert norm == pytest.approx(0.9 * math.sqrt(2), rel=1e-12)
    for name, m in optimiser.m.items():  # with β1 = 0 the moment is the clipped gradient
        np.testing.assert_allclose(m, grads[name] / norm, rtol=1e-11)


def test_hardly_any_gradient_is_not_turned_round():
    """Clipping divides by the norm and a little more, never by less than nothing."""
    module = Two(np.random.default_rng(0))
    tiny = {name: np.full(p.shape, 1e-14) for name, p in module.named_parameters()}
    optimiser = AdamW(module, CONFIG)
    give(module, tiny)
    optimiser.step(0)
    for name, m in optimiser.m.items():
        np.testing.assert_allclose(m, 0.1 * tiny[name], rtol=1e-9)


def test_gradients_are_forgotten_and_what_has_none_stays():
    module = Two(np.random.default_rng(0))
    optimiser = AdamW(module, CONFIG)
    give(module, gradients(np.random.default_rng(1), module))
    optimiser.step(0)
    bias = module.bias.data.copy()
    module.weight.grad = np.ones((3, 4))
    optimiser.step(1)
    assert module.weight.grad is None
    np.testing.assert_array_equal(module.bias.data, bias)
    assert not module.weight.data.flags.writeable  # what is on the tape can't be changed in place


def test_a_transposed_gradient_is_taken_as_it_is_indexed():
    plain, turned = (Two(np.random.default_rng(0)) for _ in range(2))
    grads = gradients(np.random.default_rng(1), plain)
    give(plain, grads)
    give(turned, grads)
    turned.weight.grad = np.asfortranarray(grads["weight"])
    for module in (plain, turned):
        AdamW(module, CONFIG).step(0)
    np.testing.assert_allclose(plain.weight.data, turned.weight.data, rtol=1e-12)


def test_the_optimiser_does_not_write_into_arrays_of_others():
    given = np.ones((2, 2))
    module = Module()
    module.weight = Parameter(given)
    optimiser = AdamW(module, CONFIG)
    module.weight.grad = np.ones((2, 2))
    optimiser.step(0)
    assert (given == 1).all() and (optimiser.ema["weight"] != module.weight.data).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(bad):
    module = Two(np.random.default_rng(0))
    optimiser = AdamW(module, CONFIG)
    before = {name: a.copy() for name, a in module.state_dict().items()}
    give(module, gradients(np.random.default_rng(1), module))
    module.bias.grad[2] = bad
    with pytest.raises(FloatingPointError, match="gradient of 'bias' is not finite"):
        optimiser.step(0)
    for name, a in module.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
        assert not optimiser.m[name].any() and not optimiser.v[name].any()


def test_the_norm_of_huge_float32_gradients_is_finite():
    """Their squares are not: the sum is taken in float64."""
    module = Two(np.random.default_rng(0), np.float32)
    give(module, {"weight": np.full((3, 4), 1e30, np.float32), "bias": np.zeros(4, np.float32)})
    assert AdamW(module, CONFIG).step(0) == pytest.approx(1e30 * math.sqrt(12), rel=1e-6)
    assert np.isfinite(module.weight.data).all()


def test_the_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine():
    config = OptimConfig(steps=1000, batch=1, lr=2.0, warmup=10, final=0.1)
    course = np.array([learning_rate(config, step) for step in range(1000)])
    cosine = 2.0 * (0.1 + 0.9 * (1 + np.cos(np.pi * np.arange(1000) / 1000)) / 2)
    np.testing.assert_allclose(course[9:], cosine[9:], rtol=1e-12)
    np.testing.assert_allclose(course[:10] / cosine[:10], np.arange(1, 11) / 10, rtol=1e-12)
    assert course.max() == course[9] <= 2.0
    assert (np.diff(course[9:]) < 0).all()
    assert course[-1] == pytest.approx(0.2, rel=1e-4)


def test_without_warm_up_the_first_step_has_the_highest_rate():
    assert learning_rate(OptimConfig(steps=10, batch=1, lr=3.0, warmup=0), 0) == 3.0


def test_the_average_warms_up():
    config = OptimConfig(steps=10, batch=1, ema=0.99)
    assert [ema_decay(config, step) for step in (0, 1, 10)] == [1 / 10, 2 / 11, 11 / 20]
    assert ema_decay(config, 889) == pytest.approx(890 / 899) and ema_decay(config, 10_000) == 0.99
