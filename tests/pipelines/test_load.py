"""`tinydiff.load`: files that belong together load, and others are refused by name."""

import shutil
from dataclasses import asdict

import numpy as np
import pytest

import tinydiff
from tinydiff import checkpoint
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder
from tinydiff.training.presets import preset
from tinydiff.weights import save_weights, shipped_weights


@pytest.fixture
def mixed(tmp_path):
    """The shipped weights but for an autoencoder of the same shape, with other weights."""
    for name in ("denoiser", "words"):
        shutil.copy(shipped_weights() / f"{name}.safetensors", tmp_path)
    config = preset("full").autoencoder
    foreign = Autoencoder(config, rng=np.random.default_rng(5))
    save_weights(tmp_path, "autoencoder", foreign.state_dict(), {"model": asdict(config)})
    return tmp_path


def test_a_foreign_autoencoder_is_refused(mixed):
    with pytest.raises(InputError, match="a foreign autoencoder") as error:
        tinydiff.load(mixed)
    message = str(error.value)
    assert all(str(mixed / f"{part}.safetensors") in message for part in ("autoencoder", "denoiser"))
    assert "\n" not in message


def test_one_of_another_factor_is_refused(mixed):
    config = preset("full-48").autoencoder
    foreign = Autoencoder(config, rng=np.random.default_rng(5))
    save_weights(mixed, "autoencoder", foreign.state_dict(), {"model": asdict(config)})
    with pytest.raises(InputError, match="autoencoder"):
        tinydiff.load(mixed)


@pytest.fixture
def whole(tmp_path):
    for name in ("autoencoder", "denoiser", "words"):
        shutil.copy(shipped_weights() / f"{name}.safetensors", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "shape, message",
    [
        ([8, 8, 3], r"latents have 4 channels, the denoiser was trained on \(8, 8, 3\)"),
        ([8, 8], r"latent_shape is \[8, 8\], expected three numbers"),
        ([8, 8, 4, 1], r"latent_shape is \[8, 8, 4, 1\], expected three numbers"),
    ],
)
def test_latents_of_another_shape_are_refused(whole, shape, message):
    arrays, config = checkpoint.load(whole / "denoiser.safetensors")
    checkpoint.save(whole / "denoiser.safetensors", arrays, {**config, "latent_shape": shape})
    with pytest.raises(InputError, match=message):
        tinydiff.load(whole)


def test_words_that_do_not_fit_the_vectors_are_refused(whole):
    arrays, config = checkpoint.load(whole / "denoiser.safetensors")
    words = config["words"]
    checkpoint.save(whole / "denoiser.safetensors", arrays, {**config, "words": words[:-1]})
    with pytest.raises(InputError, match=r"\d+ words do not fit \d+ vectors"):
        tinydiff.load(whole)


def test_a_denoiser_of_before_the_fingerprint_loads_as_it_did(mixed):
    arrays, config = checkpoint.load(mixed / "denoiser.safetensors")
    del config["autoencoder"]
    checkpoint.save(mixed / "denoiser.safetensors", arrays, config)
    assert tinydiff.load(mixed).size == 32
