"""The figure says what the model is."""

import numpy as np
import pytest

import tinydiff
from tinydiff.apps.summary import multiply_adds
from tinydiff.errors import InputError
from tinydiff.viz.architecture import architecture, parts
from tinydiff.weights import shipped_weights


@pytest.fixture(scope="module")
def pipe():
    return tinydiff.load()


def test_the_parts_are_counted(pipe):
    found = parts(pipe)
    for name, module in (
        ("encoder", pipe.autoencoder.encoder),
        ("decoder", pipe.autoencoder.decoder),
        ("unet", pipe.denoiser.unet),
        ("text encoder", pipe.denoiser.text_encoder),
    ):
        assert found[name].parameters == sum(p.data.size for p in module.parameters())
    latent = tinydiff.Tensor(np.zeros((1, *pipe.latent_shape), np.float32))
    assert found["decoder"].multiply_adds == multiply_adds(pipe.autoencoder.decoder, latent)
    assert found["decoder"].shape == (1, 32, 32, 3) and found["unet"].shape == (1, 8, 8, 4)


def test_the_figure_names_shapes_and_sizes(pipe):
    texts = "\n".join(text.get_text() for text in architecture(pipe, steps=7).axes[0].texts)
    millions = sum(p.data.size for p in pipe.denoiser.unet.parameters()) / 1e6
    for expected in (
        "32×32×3",
        "z: 8×8×4",
        "16×96",
        f"{millions:.1f} M parameters",
        "called 7 times",
        "predicts v\n",
    ):
        assert expected in texts


def test_a_model_of_pixels_has_no_autoencoder():
    with pytest.raises(InputError, match="works on pixels"):
        parts(tinydiff.load(shipped_weights() / "pixels"))
