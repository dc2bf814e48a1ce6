"""Cross-attention made visible: the weights are those that the network used, and recording them changes nothing."""

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff import ops
from tinydiff.apps.attention_maps import cross_attention_weights
from tinydiff.autograd import Tensor, no_grad
from tinydiff.cli import main
from tinydiff.errors import InputError
from tinydiff.nn import module
from tinydiff.nn.blocks import Attention
from tinydiff.viz.attention import attention_figure
from tinydiff.viz.figures import save_figure

PROMPT = "a red dress, on a white background"


@pytest.fixture(scope="module")
def pipe():
    return tinydiff.load()


@pytest.fixture(scope="module")
def found(pipe):
    return tinydiff.attention_maps(pipe, PROMPT, steps=4, seed=2)


def test_a_map_for_each_word_and_step(found):
    assert found.words == ["a", "red", "dress", "on", "a", "white", "background"]
    assert found.maps.shape == (4, 7, 4, 4) and found.predicted.shape == (4, 32, 32, 3)
    assert (found.maps >= 0).all() and (found.maps.sum(1) < 1).all()  # begin, end and padding are attended to, too
    assert found.maps[:, 2].std() > 0.005  # the dress is somewhere


def test_it_is_a_method_of_the_pipeline(pipe, found):
    again = pipe.attention_maps(PROMPT, steps=4, seed=2)
    assert np.array_equal(again.maps, found.maps) and np.array_equal(again.image, found.image)


def test_recording_changes_nothing(pipe, found):
    assert np.array_equal(found.image, pipe.generate([PROMPT], steps=4, seed=2)[0])
    assert np.array_equal(found.predicted[-1], found.image)


def test_it_ends_even_if_something_goes_wrong(pipe, monkeypatch):
    monkeypatch.setattr(pipe, "decode", lambda latents: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tinydiff.attention_maps(pipe, PROMPT, steps=2)
    assert module._hooks.get() == ()


def test_these_weights_make_the_layer_s_answer():
    """With one head: the values mixed by them, through the last projection, are the output."""
    rng = np.random.default_rng(0)
    layer = Attention(rng, 6, heads=1, context_width=4)
    x, context = (Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in ((2, 5, 6), (2, 3, 4)))
    weights = cross_attention_weights(layer, x, context)
    assert weights.shape == (2, 5, 3) and np.allclose(weights.sum(-1), 1, atol=1e-6)
    with no_grad():
        mixed = layer.to_out[0](Tensor(weights @ layer.to_v(context).data)).data
        assert np.allclose(mixed, layer(x, context).data, atol=1e-5)


def test_heads_are_averaged():
    rng = np.random.default_rng(0)
    layer = Attention(rng, 6, heads=3)
    x = Tensor(rng.standard_normal((1, 5, 6)).astype(np.float32))
    q, k = layer.to_q(x).data[0], layer.to_k(x).data[0]
    heads = [ops.softmax.forward(q[:, i : i + 2] @ k[:, i : i + 2].T / np.sqrt(2))[0] for i in (0, 2, 4)]
    assert np.allclose(cross_attention_weights(layer, x, x)[0], np.mean(heads, 0), atol=1e-6)


def test_the_figure_and_the_command(found, tmp_path, capsys):
    save_figure(attention_figure(found), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").height > 8 * 100
    assert main(["attention", PROMPT, "--steps", "2", "-o", str(tmp_path / "b.png")]) == 0
    assert "where each of 7 words acts, in 2 steps" in capsys.readouterr().out
    assert main(["attention", "a red zebra", "-o", str(tmp_path / "c.png")]) == 2
    assert "zebra" in capsys.readouterr().err and not (tmp_path / "c.png").exists()


def test_bad_steps_are_refused(pipe):
    with pytest.raises(InputError, match="steps must be"):
        tinydiff.attention_maps(pipe, PROMPT, steps=0)
