"""Classifier-free guidance: the formula, the two ends that cost half, and how the batch is laid out."""

import numpy as np
import pytest

import tinydiff
from tinydiff.diffusion import classifier_free_guidance
from tinydiff.errors import InputError


class Network:
    """A stand-in for the denoiser that notes what it was given: text (M, L, D) moves every image."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, text):
        self.calls.append((x, t, text))
        return np.tanh(x + text.sum((1, 2))[:, None]) * t


def arrays(dtype=np.float64):
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in [(3, 4), (3, 5, 2), (3, 5, 2)])


@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0, 7.5])
def test_formula_from_one_call_on_both_halves(scale):
    x, condition, null = arrays()
    network = Network()
    out = classifier_free_guidance(network, condition, null, scale)(x, 7)
    u, c = Network()(x, 7, null), Network()(x, 7, condition)
    np.testing.assert_allclose(out, u + scale * (c - u), rtol=1e-12)
    ((xs, t, text),) = network.calls
    assert t == 7
    np.testing.assert_array_equal(xs, np.concatenate([x, x]))
    np.testing.assert_array_equal(text, np.concatenate([null, condition]))


@pytest.mark.parametrize("scale", [0, 1, 0.0, 1.0])
def test_0_is_unconditional_and_1_conditional_at_half_the_work(scale):
    x, condition, null = arrays()
    network = Network()
    out = classifier_free_guidance(network, condition, null, scale)(x, 7)
    np.testing.assert_array_equal(out, Network()(x, 7, condition if scale else null))
    assert [len(call[0]) for call in network.calls] == [3]


@pytest.mark.parametrize("end, near", [(0.0, 1e-12), (1.0, 1 + 1e-12)])
def test_the_ends_join_what_lies_beside_them(end, near):
    x, condition, null = arrays()
    there, beside = (classifier_free_guidance(Network(), condition, null, scale)(x, 7) for scale in (end, near))
    np.testing.assert_allclose(beside, there, atol=1e-9)


def test_float32_stays_float32_whatever_the_scales_type():
    x, condition, null = arrays(np.float32)
    assert classifier_free_guidance(Network(), condition, null, np.float64(3.0))(x, 7).dtype == np.float32


def test_bad_input_is_refused():
    _, condition, null = arrays()
    for scale in [np.nan, np.inf]:
        with pytest.raises(InputError, match="finite"):
            classifier_free_guidance(Network(), condition, null, scale)
    with pytest.raises(InputError, match=r"\(3, 5, 2\).*\(2, 5, 2\)"):
        classifier_free_guidance(Network(), condition, null[:2], 3.0)


def test_outside_the_interval_the_prompt_alone_is_asked():
    x, condition, null = arrays()
    network = Network()
    predict = classifier_free_guidance(network, condition, null, 3.0, timestep_interval=(3, 8))
    for t in (2, 3, 7, 8):
        guided_there = 3 <= t < 8
        expected = classifier_free_guidance(Network(), condition, null, 3.0 if guided_there else 1.0)(x, t)
        np.testing.assert_array_equal(predict(x, t), expected)
    assert [len(call[0]) for call in network.calls] == [3, 6, 6, 3]


def test_0_is_the_empty_prompt_outside_the_interval_too():
    x, condition, null = arrays()
    out = classifier_free_guidance(Network(), condition, null, 0, timestep_interval=(3, 8))(x, 9)
    np.testing.assert_array_equal(out, Network()(x, 9, null))


def test_a_pipeline_s_interval_is_in_shares_of_its_schedule(monkeypatch):
    pipe = tinydiff.load()
    asked = []
    monkeypatch.setattr(pipe, "predict", lambda x, t, words: asked.append((t, len(x))) or np.zeros_like(x))
    pipe.generate(["a red dress"], steps=10, guidance_interval=(0.2, 0.6))
    assert [t for t, count in asked if count == 2] == [t for t, _ in asked if 200 <= t < 600] and len(asked) == 10
    assert {count for _, count in asked} == {1, 2}
    for bad in ((0.6, 0.6), (-0.1, 1), (0, 1.1)):
        with pytest.raises(InputError, match="interval must be low, high with 0 ≤ low < high ≤ 1"):
            pipe.generate(["a red dress"], steps=10, guidance_interval=bad)


def test_a_negative_prompt_takes_the_empty_one_s_place():
    pipe = tinydiff.load()
    asked = []
    pipe.predict = lambda x, t, text: asked.append(text) or np.zeros_like(x)
    pipe.generate(["a red dress"], steps=1, guidance_interval=(0, 1), negative_prompt="a blue dress")
    np.testing.assert_array_equal(asked[0], pipe.encode_prompt(["a blue dress", "a red dress"]))
    one, other = (tinydiff.load().generate(["a red dress"], steps=4, negative_prompt=p) for p in (None, "a red bag"))
    assert (one != other).any()
    with pytest.raises(InputError, match="zebra"):
        pipe.generate(["a red dress"], negative_prompt="a zebra")
