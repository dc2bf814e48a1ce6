"""Against diffusers: the same weights give the same output, and Stable Diffusion 1.x has the same names and shapes."""

import json
import os
from dataclasses import fields

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from diffusers.models.attention import BasicTransformerBlock  # noqa: E402
from diffusers.models.embeddings import get_timestep_embedding  # noqa: E402
from diffusers.models.resnet import ResnetBlock2D  # noqa: E402
from diffusers.models.transformers.transformer_2d import Transformer2DModel  # noqa: E402

from tinydiff import nn  # noqa: E402
from tinydiff.autograd import Tensor  # noqa: E402
from tinydiff.models import (  # noqa: E402
    Autoencoder,
    AutoencoderConfig,
    TextEncoder,
    TextEncoderConfig,
    UNet,
    UNetConfig,
)

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


def to_torch_layout(a):
    """Linear (in, out) → (out, in); convolution (KH, KW, in, out) → (out, in, KH, KW); vectors as they are."""
    return a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T


def carry_over(ours, theirs):
    """Our weights into a module of diffusers, every name matched; float64 on both sides."""
    theirs = theirs.double().eval()
    state = {name: torch.tensor(np.ascontiguousarray(to_torch_layout(a))) for name, a in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    return theirs


def normal(*shape, seed=1):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def first(x):
    return torch.tensor(x.transpose(0, 3, 1, 2).copy())


def last(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def assert_close(ours, theirs, rel=1e-5):
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= rel * abs(theirs).max()


@pytest.mark.parametrize("width", [8, 320])
def test_timestep_embedding(width):
    t = np.array([0, 1, 37, 999])
    theirs = get_timestep_embedding(torch.tensor(t), width, flip_sin_to_cos=True, downscale_freq_shift=0)
    # float32 there: sin and cos of angles up to 999 are good to 999·6e-8
    np.testing.assert_allclose(nn.timestep_embedding(t, width), theirs.numpy(), atol=2e-4)


@pytest.mark.parametrize("inputs, outputs, time", [(8, 8, None), (8, 12, 6)])
def test_residual_block(awake, inputs, outputs, time):
    ours = awake(nn.ResnetBlock(RNG, inputs, outputs, 4, time))
    theirs = ResnetBlock2D(
        in_channels=inputs, out_channels=outputs, temb_channels=time, groups=4, eps=1e-5, non_linearity="swish"
    )
    x = normal(2, 5, 4, inputs)
    t = None if time is None else normal(2, time)
    expected = carry_over(ours, theirs)(first(x), None if t is None else torch.tensor(t))
    assert_close(ours(Tensor(x), None if t is None else Tensor(t)).data, last(expected))


def test_transformer_block(awake):
    ours = awake(nn.TransformerBlock(RNG, 8, 2, 6))
    theirs = carry_over(ours, BasicTransformerBlock(8, 2, 4, cross_attention_dim=6, activation_fn="geglu"))
    x, text = normal(2, 5, 8), normal(2, 3, 6)
    expected = theirs(torch.tensor(x), encoder_hidden_states=torch.tensor(text)).detach().numpy()
    assert_close(ours(Tensor(x), Tensor(text)).data, expected)


def test_spatial_transformer(awake):
    ours = awake(nn.SpatialTransformer(RNG, 8, 2, 4, 6))
    theirs = Transformer2DModel(2, 4, in_channels=8, cross_attention_dim=6, norm_num_groups=4)
    x, text = normal(2, 3, 4, 8), normal(2, 3, 6)
    expected = carry_over(ours, theirs)(first(x), encoder_hidden_states=torch.tensor(text)).sample
    assert_close(ours(Tensor(x), Tensor(text)).data, last(expected))


def sd1_unet(widths, cross_attention_dim, heads, groups, layers, attention):
    """diffusers' U-Net as Stable Diffusion 1.x configures it (`attention_head_dim` there is the number of heads)."""
    return diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        center_input_sample=False,
        flip_sin_to_cos=True,
        freq_shift=0,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)),
        block_out_channels=widths,
        layers_per_block=layers,
        downsample_padding=1,
        mid_block_scale_factor=1,
        act_fn="silu",
        norm_num_groups=groups,
        norm_eps=1e-5,
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=heads,
    )


def sd1_autoencoder(widths, groups, layers):
    return diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=layers,
        act_fn="silu",
        latent_channels=4,
        norm_num_groups=groups,
        scaling_factor=0.18215,
    )


def test_unet(awake):
    config = UNetConfig(
        block_out_channels=(8, 16),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        num_attention_heads=2,
        norm_num_groups=4,
        cross_attention_dim=6,
    )
    ours = awake(UNet(config, RNG))
    theirs = carry_over(ours, sd1_unet((8, 16), 6, 2, 4, 2, (True, False)))
    x, t, text = normal(2, 8, 6, 4), np.array([3, 800]), normal(2, 5, 6)
    with torch.no_grad():
        expected = theirs(first(x), torch.tensor(t), torch.tensor(text)).sample
    assert_close(ours(Tensor(x), t, Tensor(text)).data, last(expected))


def test_autoencoder(awake):
    ours = awake(Autoencoder(AutoencoderConfig(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4), RNG))
    theirs = carry_over(ours, sd1_autoencoder((8, 16), 4, 1))
    images, latents = normal(2, 8, 12, 3), normal(2, 4, 6, 4)
    with torch.no_grad():
        distribution = theirs.encode(first(images)).latent_dist
        mean, log_variance = ours.moments(Tensor(images))
        assert_close(mean.data, last(distribution.mean))
        assert_close(np.clip(log_variance.data, -30, 20), last(distribution.logvar))
        assert_close(ours.decode(latents * 0.18215), last(theirs.decode(first(latents)).sample))


# The configuration files of Stable Diffusion 1.5, as they are: unet/, vae/ and text_encoder/config.json.
SD1_UNET = json.loads("""{
  "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu", "attention_head_dim": 8,
  "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false, "cross_attention_dim": 768,
  "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
  "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
  "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
}""")
SD1_VAE = json.loads("""{
  "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
  "block_out_channels": [128, 256, 512, 512],
  "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
  "sample_size": 512,
  "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
}""")
SD1_TEXT = json.loads("""{
  "architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2,
  "hidden_act": "quick_gelu", "hidden_size": 768, "initializer_factor": 1.0, "initializer_range": 0.02,
  "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "model_type": "clip_text_model",
  "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1, "vocab_size": 49408
}""")


def from_file(config, values):
    """One of our configurations from the fields that it shares with a file."""
    return config(**{f.name: values[f.name] for f in fields(config) if f.name in values})


def names_and_shapes(module):
    return {name: to_torch_layout(p.data).shape for name, p in module.named_parameters()}


def test_stable_diffusions_own_files_configure_our_classes():
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(SD1_UNET)
        autoencoder = diffusers.AutoencoderKL.from_config(SD1_VAE)
        text = transformers.CLIPTextModel(transformers.CLIPTextConfig(**SD1_TEXT))
    ours = [
        (UNet(from_file(UNetConfig, SD1_UNET), rng=None), unet),
        (Autoencoder(from_file(AutoencoderConfig, SD1_VAE), rng=None), autoencoder),
        (TextEncoder(from_file(TextEncoderConfig, SD1_TEXT), rng=None), text),
    ]
    for module, theirs in ours:
        right = {name.removeprefix("text_model."): tuple(p.shape) for name, p in theirs.named_parameters()}
        # CLIP's word vectors are looked up, as ours are: their table has the same layout in both
        shapes = {n: s[::-1] if n.endswith("embedding.weight") else s for n, s in names_and_shapes(module).items()}
        assert shapes == right
    shared = {f.name for config in (UNetConfig, AutoencoderConfig, TextEncoderConfig) for f in fields(config)}
    assert shared - {*SD1_UNET, *SD1_VAE, *SD1_TEXT} == {"mid_block_add_attention", "scaling_factor", "causal"}


def test_stable_diffusion_1_has_the_same_names_and_shapes():
    with torch.device("meta"):
        unet = sd1_unet((320, 640, 1280, 1280), 768, 8, 32, 2, (True, True, True, False))
        autoencoder = sd1_autoencoder((128, 256, 512, 512), 32, 2)
    pairs = [(UNet(UNetConfig(), rng=None), unet), (Autoencoder(AutoencoderConfig(), rng=None), autoencoder)]
    for ours, theirs in pairs:
        assert names_and_shapes(ours) == {name: tuple(p.shape) for name, p in theirs.named_parameters()}


def clip(config):
    """CLIP's text model with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs = transformers.CLIPTextModel(transformers.CLIPTextConfig(**config)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # zero biases would hide mistakes
    shared = {f.name for f in fields(TextEncoderConfig)} & config.keys()
    ours = TextEncoder(TextEncoderConfig(**{name: config[name] for name in shared}, causal=True), rng=None)
    state = {name.removeprefix("text_model."): a.detach().numpy() for name, a in theirs.state_dict().items()}
    ours.load_state_dict({name: a if name.startswith("embeddings") else a.T for name, a in state.items()})
    return ours, theirs


SMALL_CLIP = dict(
    vocab_size=99, hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, bos_token_id=97,
    eos_token_id=98, max_position_embeddings=77, hidden_act="quick_gelu",
)  # fmt: skip


@pytest.mark.parametrize("config", [SMALL_CLIP, pytest.param(SD1_TEXT, marks=pytest.mark.slow)], ids=["small", "full"])
def test_clips_text_encoder(config):
    ours, theirs = clip(config)
    tokens = np.random.default_rng(0).integers(0, config["vocab_size"] - 1, (2, 77))
    tokens[:, 20:] = config["vocab_size"] - 1  # end and padding
    expected = theirs(torch.tensor(tokens)).last_hidden_state.detach().numpy()
    assert_close(ours(tokens).data, expected)
