"""The models whole: gradients, shapes, names; Stable Diffusion 1.x's sizes without its memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor, no_grad
from tinydiff.errors import InputError
from tinydiff.gradcheck import STEP, module_errors
from tinydiff.models import (
    Autoencoder,
    AutoencoderConfig,
    Classifier,
    ClassifierConfig,
    TextEncoder,
    TextEncoderConfig,
    UNet,
    UNet2015,
    UNet2015Config,
    UNetConfig,
)
from tinydiff.models.unet import Denoiser
from tinydiff.weights import load_classifier, shipped_weights

RNG = np.random.default_rng(0)
TOKENS, TIMES = np.array([[1, 4, 0]]), np.array([7])
# The smallest that have every part: two levels, one with transformers and one without, two heads.
SMALL_UNET = UNetConfig(
    in_channels=1,
    out_channels=2,
    block_out_channels=(2, 4),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    num_attention_heads=2,
    norm_num_groups=1,
    cross_attention_dim=4,
)
SMALL_TEXT = TextEncoderConfig(
    vocab_size=5, max_position_embeddings=3, hidden_size=4, num_hidden_layers=1, num_attention_heads=2
)
SMALL_AUTOENCODER = AutoencoderConfig(
    in_channels=1, latent_channels=1, block_out_channels=(2, 4), layers_per_block=1, norm_num_groups=1
)
SMALL_CLASSIFIER = ClassifierConfig(block_out_channels=(2, 4), norm_num_groups=1, garments=3, colours=2, backgrounds=2)


def normal(*shape, seed=5):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def unet(awake):
    model, x, text = awake(UNet(SMALL_UNET, RNG)), normal(1, 4, 2, 1), normal(1, 3, 4, seed=6)
    return model, lambda: model(x, TIMES, text), {"x": x, "text": text}


def denoiser(awake):
    model, x = awake(Denoiser(SMALL_UNET, SMALL_TEXT, RNG)), normal(1, 4, 2, 1)
    return model, lambda: model(x, TIMES, TOKENS), {"x": x}


def autoencoder(awake):
    """Images through moments, a sample and back; the KL term is added to every pixel."""
    model, x, noise = awake(Autoencoder(SMALL_AUTOENCODER, RNG)), normal(1, 4, 2, 1), normal(1, 2, 1, 1, seed=6)

    def run():
        mean, log_variance = model.moments(x)
        z = ops.reparameterize(mean, log_variance, noise)
        return model.reconstruct(z) + ops.kl_loss(mean, log_variance)

    return model, run, {"x": x, "noise": noise}


def text_encoder(awake):
    model = awake(TextEncoder(SMALL_TEXT, RNG))
    return model, lambda: model(np.array([[1, 4], [4, 0]])), {}


def classifier(awake):
    model, x = awake(Classifier(SMALL_CLASSIFIER, RNG)), normal(1, 4, 8, 3)

    def run():
        garment, colour, background = model(x)
        return ops.concat(ops.concat(garment, colour), background)

    return model, run, {"x": x}


MODELS = {f.__name__: f for f in (unet, denoiser, autoencoder, text_encoder, classifier)}


def direction_errors(module, run, inputs, seed=0, only=""):
    """As `module_errors`, but an array's numbers are moved all at once, each up or down by chance: two runs an array.

    error = |Σ analytic·direction − numeric| / |analytic|: one wrong number shows, wherever it is; where the gradient
    is zero (a constant in all keys changes no softmax, say), the absolute error.  Parameters whose names do not begin
    with `only` are passed over.
    """
    rng = np.random.default_rng(seed)
    leaves = {**{n: p for n, p in module.named_parameters() if n.startswith(only)}, **inputs}
    y = run()
    dy = rng.standard_normal(y.shape)
    y.backward(dy)
    errors = {}
    for name, leaf in leaves.items():
        keep, direction = leaf.data, rng.choice([-1.0, 1.0], leaf.shape)
        ends = []
        for sign in (1, -1):
            leaf._data = keep + sign * STEP * direction
            with no_grad():
                ends.append(float((run().data * dy).sum()))
        leaf._data = keep
        numeric = (ends[0] - ends[1]) / (2 * STEP)
        scale = np.linalg.norm(leaf.grad)
        errors[name] = abs((leaf.grad * direction).sum() - numeric) / (scale if scale > 1e-8 else 1.0)
    return errors


@pytest.mark.parametrize("name", MODELS)
def test_gradient_in_a_random_direction(awake, name):
    module, run, inputs = MODELS[name](awake)
    only = "text_encoder." if name == "denoiser" else ""  # its U-Net is the one that is checked beside it
    errors = direction_errors(module, run, inputs, only=only)
    assert set(errors) == {key for key, _ in module.named_parameters() if key.startswith(only)} | set(inputs)
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("name", ["text_encoder", "classifier"])
def test_gradient_at_every_number(awake, name):
    errors = module_errors(*MODELS[name](awake))
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.slow
@pytest.mark.parametrize("name", ["denoiser", "autoencoder"])
def test_gradient_at_every_number_of_the_large(awake, name):
    # Ten times the usual step: gradients by way of the text are so small that the output's rounding would show.
    errors = module_errors(*MODELS[name](awake), step=10 * STEP)
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_matters(awake, name):
    module, run, _ = MODELS[name](awake)
    y = run()
    y.backward(np.random.default_rng(0).standard_normal(y.shape))
    idle = [key for key, p in module.named_parameters() if p.grad is None or not abs(p.grad).max() > 1e-9]
    assert [key for key in idle if not key.endswith(("to_k.bias", "k_proj.bias"))] == []  # constant in all keys: unseen


@pytest.mark.parametrize("widths", [(4,), (4, 8), (4, 4, 8)])
@pytest.mark.parametrize("layers", [1, 2])
def test_unet_shapes(widths, layers):
    attention = tuple(i % 2 == 0 for i in range(len(widths)))
    config = UNetConfig(
        3, 5, widths, layers, attention, num_attention_heads=2, norm_num_groups=2, cross_attention_dim=6
    )
    size = 2 ** len(widths)
    x, text = np.ones((2, size, 2 * size, 3), np.float32), np.ones((2, 4, 6), np.float32)
    y = UNet(config, RNG)(Tensor(x), np.array([0, 999]), Tensor(text))
    assert y.shape == (2, size, 2 * size, 5) and y.dtype == np.float32
    assert not y.data.any()  # the last convolution starts at zero


def test_the_unet_is_conditioned_on_the_time_and_the_text(awake):
    model, x, text = awake(UNet(SMALL_UNET, RNG)), normal(1, 4, 2, 1), normal(1, 3, 4, seed=6)
    y = model(x, TIMES, text).data
    assert abs(model(x, TIMES + 100, text).data - y).max() > 1e-3
    assert abs(model(x, TIMES, text * 2).data - y).max() > 1e-3


def test_unet_names():
    names = {name for name, _ in UNet(SMALL_UNET, None).named_parameters()}
    assert {
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "time_embedding.linear_2.bias",
        "down_blocks.0.resnets.0.time_emb_proj.weight",
        "down_blocks.0.downsamplers.0.conv.weight",
        "down_blocks.1.resnets.0.conv_shortcut.weight",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "mid_block.attentions.0.proj_in.weight",
        "mid_block.resnets.1.norm2.bias",
        "up_blocks.0.attentions.1.transformer_blocks.0.ff.net.2.weight",
        "up_blocks.0.upsamplers.0.conv.bias",
        "up_blocks.1.resnets.1.conv_shortcut.bias",
        "conv_norm_out.weight",
        "conv_out.bias",
    } <= names
    assert not [n for n in names if n.startswith(("down_blocks.0.att", "down_blocks.1.down", "up_blocks.1.up"))]


def test_unet_needs_a_choice_for_each_level():
    with pytest.raises(InputError, match="2 block_out_channels, but 4 down_block_types"):
        UNet(UNetConfig(block_out_channels=(8, 8)), RNG)


@pytest.mark.parametrize("widths", [(4,), (4, 8), (4, 8, 8)])
@pytest.mark.parametrize("attention", [False, True])
def test_autoencoder_shapes(widths, attention):
    model = Autoencoder(
        AutoencoderConfig(
            block_out_channels=widths, layers_per_block=1, norm_num_groups=2, mid_block_add_attention=attention
        ),
        RNG,
    )
    images = RNG.uniform(-1, 1, (2, 8, 16, 3)).astype(np.float32)
    factor = 2 ** (len(widths) - 1)
    latents = model.encode(images)
    assert latents.shape == (2, 8 // factor, 16 // factor, 4) and latents.dtype == np.float32
    assert model.decode(latents).shape == images.shape
    names = {name for name, _ in model.named_parameters()}
    assert ("encoder.mid_block.attentions.0.group_norm.weight" in names) == attention
    assert ("decoder.mid_block.attentions.0.to_q.bias" in names) == attention
    assert {"quant_conv.weight", "post_quant_conv.bias", "encoder.conv_norm_out.weight"} <= names


def test_the_autoencoders_attention_has_one_head():
    model = Autoencoder(SMALL_AUTOENCODER, RNG)
    assert [half.mid_block.attentions[0].heads for half in (model.encoder, model.decoder)] == [1, 1]


@pytest.mark.parametrize("height, width", [(1, 1), (30, 32), (32, 30)])
def test_the_autoencoder_s_factor_divides_the_image(height, width):
    model = Autoencoder(AutoencoderConfig(block_out_channels=(4, 4, 4), layers_per_block=1, norm_num_groups=2), RNG)
    with pytest.raises(InputError, match=rf"Autoencoder: x is \(1, {height}, {width}, 3\), .* multiples of 4"):
        model.encode(np.zeros((1, height, width, 3), np.float32))


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_the_scaling_factor_is_applied_within_encode_and_decode(awake, factor):
    config = replace(SMALL_AUTOENCODER, scaling_factor=factor)
    model, images = awake(Autoencoder(config, RNG)), RNG.uniform(-1, 1, (2, 4, 4, 1))
    mean = model.moments(Tensor(images))[0]
    latents = model.encode(images)
    np.testing.assert_allclose(latents, factor * mean.data, rtol=1e-12)
    np.testing.assert_allclose(model.decode(latents), model.reconstruct(mean).data, rtol=1e-9)
    assert latents.dtype == np.float64


def test_text_encoder():
    model = TextEncoder(SMALL_TEXT, RNG)
    tokens = np.array([[1, 2, 3], [1, 2, 4], [1, 3, 2]])
    y = model(tokens).data
    assert y.shape == (3, 3, 4) and y.dtype == np.float32
    assert (y[0, 0] != y[1, 0]).any()  # the first word sees the last
    assert abs(y[0, 1] - y[2, 2]).max() > 1e-6  # the same word in another place is another vector
    assert model(tokens[:, :2]).shape == (3, 2, 4)
    with pytest.raises(InputError, match="the table has 5 rows"):
        model(np.array([[5]]))
    names = {name for name, _ in model.named_parameters()}
    assert {"embeddings.token_embedding.weight", "encoder.layers.0.self_attn.q_proj.weight"} <= names
    assert {"encoder.layers.0.mlp.fc1.bias", "final_layer_norm.weight"} <= names


def test_text_encoder_starts_from_word_vectors():
    model, vectors = TextEncoder(SMALL_TEXT, RNG), RNG.standard_normal((5, 4)) * 7
    model.start_from(vectors)
    table = model.embeddings.token_embedding.weight
    assert table.dtype == np.float32 and table.data.std() == pytest.approx(0.02, rel=1e-5)
    assert np.corrcoef(table.data.ravel(), vectors.ravel())[0, 1] > 0.9
    with pytest.raises(InputError, match=r"shape \(4, 5\), the encoder expects \(5, 4\)"):
        model.start_from(vectors.T)


def test_classifier():
    model, images = Classifier(SMALL_CLASSIFIER, RNG), RNG.uniform(-1, 1, (5, 8, 8, 3)).astype(np.float32)
    assert [y.shape for y in model(Tensor(images))] == [(5, 3), (5, 2), (5, 2)]
    assert model.features(Tensor(images)).shape == (5, 4)
    answers = model.classify(images)
    for answer, logits in zip(answers, model(Tensor(images)), strict=True):
        np.testing.assert_array_equal(answer, logits.data.argmax(1))


def test_the_classifier_that_is_shipped_is_the_default():
    model = Classifier(ClassifierConfig(), rng=None)
    assert sum(p.data.size for p in model.parameters()) == 484_758
    assert model.config == load_classifier(shipped_weights()).config


@pytest.mark.parametrize(
    "make, count, numbers",
    [
        (lambda: UNet(UNetConfig(), rng=None), 686, 859_520_964),
        (lambda: Autoencoder(AutoencoderConfig(), rng=None), 248, 83_653_863),
    ],
)
def test_stable_diffusion_1_without_its_memory(make, count, numbers):
    tracemalloc.start()
    try:
        shapes = [p.shape for p in make().parameters()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(shapes) == count
    assert sum(int(np.prod(shape)) for shape in shapes) == numbers  # as published
    assert peak < 4e6


@pytest.mark.parametrize(
    "model, shape, message",
    [
        (UNet(UNetConfig(), None), (1, 4, 8, 8), r"UNet: x is \(1, 4, 8, 8\), expected .*x.transpose\(0, 2, 3, 1\)"),
        (UNet(UNetConfig(), None), (1, 12, 8, 4), r"UNet: .* H and W multiples of 8$"),
        (UNet(UNetConfig(), None), (2, 8, 8, 4), r"UNet: t is \(1,\), expected a timestep for each of the 2 images"),
        (Autoencoder(AutoencoderConfig(), None), (1, 3, 32, 32), r"Autoencoder: .*is x \(N, C, H, W\)\?"),
        (Autoencoder(AutoencoderConfig(), None), (32, 32, 3), r"Autoencoder: x is \(32, 32, 3\), expected"),
        (Classifier(ClassifierConfig(), None), (1, 33, 32, 3), "Classifier: .* multiples of"),
        (
            UNet2015(UNet2015Config(block_out_channels=(4, 8)), None),
            (1, 3, 16, 16),
            r"UNet2015: .*is x \(N, C, H, W\)\?",
        ),
    ],
)
def test_images_that_a_model_cannot_take(model, shape, message):
    x, run = np.zeros(shape, np.float32), getattr(model, "encode", model)
    with pytest.raises(InputError, match=message):
        run(x, *([np.zeros(1, int), None] if isinstance(model, UNet) else []))


def test_the_text_encoder_has_two_layers_unless_told():
    encoder = TextEncoder(TextEncoderConfig(5, 3), rng=None)
    assert [encoder.config.hidden_size, encoder.config.num_hidden_layers, encoder.config.num_attention_heads] == [
        96,
        2,
        4,
    ]
    assert len(encoder.encoder.layers) == 2
