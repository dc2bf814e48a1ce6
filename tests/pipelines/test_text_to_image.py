"""The pipeline: its settings, other sizes, whose random numbers, and the posterior that an edited image begins from."""

from dataclasses import replace

import numpy as np
import pytest

import tinydiff
from tinydiff.apps.stable_diffusion.torch_rng import TorchRng
from tinydiff.autograd import Tensor, no_grad
from tinydiff.errors import InputError

PROMPT = "a red dress on a white background"


@pytest.fixture(scope="module")
def pipe():
    return tinydiff.load()


def test_what_nobody_says_is_as_the_settings_say(pipe, monkeypatch):
    said = pipe.generate([PROMPT], 3, 2.0, (0.5, 0.9), sampler="heun")
    monkeypatch.setattr(pipe, "settings", replace(pipe.settings, steps=3, guidance_scale=2.0, sampler="heun"))
    assert not np.array_equal(pipe.generate([PROMPT]), said)
    monkeypatch.setattr(pipe, "settings", replace(pipe.settings, guidance_interval=(0.5, 0.9)))
    assert np.array_equal(pipe.generate([PROMPT]), said)


def test_images_of_another_size(pipe):
    images = pipe.generate([PROMPT], 2, height=16, width=48)
    assert images.shape == (1, 16, 48, 3)
    assert pipe.generate([PROMPT], 2, width=48).shape == (1, 32, 48, 3)
    for sides in ({"height": 30}, {"width": 0}, {"width": -8}):
        with pytest.raises(InputError, match="height and width must be multiples of 8; got"):
            pipe.generate([PROMPT], 2, **sides)


def test_whose_random_numbers(pipe, monkeypatch):
    with pytest.raises(InputError, match="no rng 'torch'; there is numpy"):
        pipe.generate([PROMPT], 2, rng="torch")
    monkeypatch.setitem(pipe.generators, "torch", TorchRng)
    ours, other = (pipe.generate([PROMPT], 2, seed=1, rng=rng) for rng in ("numpy", "torch"))
    assert not np.array_equal(ours, other)
    assert np.array_equal(ours, pipe.generate([PROMPT], 2, seed=1))


def test_batches_change_nothing(pipe, monkeypatch):
    whole = pipe.generate([PROMPT] * 3, 2)
    monkeypatch.setattr(pipe, "settings", replace(pipe.settings, batch=2))
    assert np.array_equal(pipe.generate([PROMPT] * 3, 2), whole)


def test_a_draw_from_the_posterior(pipe):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    with no_grad():
        mean, log_variance = (moment.data for moment in pipe.autoencoder.moments(Tensor(images)))
    noise = np.random.default_rng(5).standard_normal(mean.shape, np.float32)
    expected = (mean + np.exp(log_variance / 2) * noise) * pipe.autoencoder.config.scaling_factor
    drawn = pipe.autoencoder.encode(images, np.random.default_rng(5))
    np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(drawn, pipe.autoencoder.encode(images))


def test_an_edited_image_may_begin_from_a_draw(pipe, monkeypatch):
    dress = pipe.generate([PROMPT], 4)
    mean = pipe.edit(dress, PROMPT, 0.5, steps=4)
    monkeypatch.setattr(pipe, "settings", replace(pipe.settings, sample_posterior=True))
    assert not np.array_equal(pipe.edit(dress, PROMPT, 0.5, steps=4), mean)
