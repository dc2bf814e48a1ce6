"""Every layer and block: its gradient at every number of every parameter and input, its shapes and its names."""

import inspect

import numpy as np
import pytest

from tinydiff import models, nn
from tinydiff.autograd import Tensor
from tinydiff.gradcheck import module_errors


def normal(*shape, seed=5):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


RNG = np.random.default_rng(0)
TOKENS, TIMES = np.array([[0, 3, 3], [1, 0, 2]]), np.array([0, 7])

# name → the module's class, its arguments, the inputs that are differentiated, those that are not, the output's shape
CASES = {
    "linear": (nn.Linear, (3, 2), {"x": (2, 4, 3)}, (), (2, 4, 2)),
    "linear without bias": (nn.Linear, (3, 2, False), {"x": (2, 3)}, (), (2, 2)),
    "convolution": (nn.Conv2d, (2, 3), {"x": (1, 3, 4, 2)}, (), (1, 3, 4, 3)),
    "strided convolution": (nn.Conv2d, (2, 3, 2, 2, (0, 1, 1, 0)), {"x": (2, 3, 3, 2)}, (), (2, 2, 2, 3)),
    "group norm": (nn.GroupNorm, (4, 2), {"x": (2, 2, 3, 4)}, (), (2, 2, 3, 4)),
    "group norm and SiLU": (nn.GroupNorm, (4, 2, 1e-6, True), {"x": (2, 2, 3, 4)}, (), (2, 2, 3, 4)),
    "layer norm": (nn.LayerNorm, (5,), {"x": (2, 3, 5)}, (), (2, 3, 5)),
    "embedding": (nn.Embedding, (4, 3), {}, (TOKENS,), (2, 3, 3)),
    "time embedding": (nn.TimestepEmbedding, (4,), {}, (TIMES,), (2, 16)),
    "residual block": (nn.ResnetBlock, (4, 4, 2), {"x": (1, 2, 3, 4)}, (), (1, 2, 3, 4)),
    "residual block, wider": (nn.ResnetBlock, (2, 4, 2), {"x": (1, 2, 3, 2)}, (), (1, 2, 3, 4)),
    "residual block, time": (nn.ResnetBlock, (2, 4, 2, 3), {"x": (2, 2, 2, 2), "time": (2, 3)}, (), (2, 2, 2, 4)),
    "downsample": (nn.Downsample, (2,), {"x": (1, 4, 5, 2)}, (), (1, 2, 3, 2)),
    "downsample, padded on one side": (nn.Downsample, (2, (0, 1, 0, 1)), {"x": (1, 4, 4, 2)}, (), (1, 2, 2, 2)),
    "upsample": (nn.Upsample, (2,), {"x": (1, 2, 3, 2)}, (), (1, 4, 6, 2)),
    "self-attention": (nn.Attention, (4, 2), {"x": (2, 3, 4)}, (), (2, 3, 4)),
    "cross-attention": (nn.Attention, (4, 2, 3, True), {"x": (2, 3, 4), "context": (2, 5, 3)}, (), (2, 3, 4)),
    "GEGLU": (nn.GEGLU, (3, 2), {"x": (2, 2, 3)}, (), (2, 2, 2)),
    "feed-forward": (nn.FeedForward, (3,), {"x": (2, 2, 3)}, (), (2, 2, 3)),
    "transformer block": (nn.TransformerBlock, (4, 2, 3), {"x": (1, 3, 4), "context": (1, 2, 3)}, (), (1, 3, 4)),
    "spatial transformer": (
        nn.SpatialTransformer,
        (4, 2, 2, 3),
        {"x": (1, 2, 2, 4), "context": (1, 3, 3)},
        (),
        (1, 2, 2, 4),
    ),
}


def test_every_block_has_a_gradient_check():
    classes = {c for _, c in inspect.getmembers(nn, inspect.isclass)} - {nn.Module, nn.Parameter}
    assert {case[0] for case in CASES.values()} == classes


@pytest.mark.parametrize("name", CASES)
def test_gradient_and_shape(awake, name):
    block, arguments, shapes, others, output = CASES[name]
    module = awake(block(RNG, *arguments))
    inputs = {key: normal(*shape, seed=i) for i, (key, shape) in enumerate(shapes.items())}
    assert module(*inputs.values(), *others).shape == output
    errors = module_errors(module, lambda: module(*inputs.values(), *others), inputs)
    assert set(errors) == {key for key, _ in module.named_parameters()} | set(inputs)
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("name", CASES)
def test_without_a_generator_there_are_shapes_and_no_memory(name):
    block, arguments, *_ = CASES[name]
    shapes = {key: p.shape for key, p in block(RNG, *arguments).named_parameters()}
    empty = block(None, *arguments)
    assert {key: p.shape for key, p in empty.named_parameters()} == shapes
    assert all(not any(p.data.strides) or p.data.size == 1 for p in empty.parameters())


def test_parameter_names():
    def names(module):
        return [name for name, _ in module.named_parameters()]

    both = [".weight", ".bias"]
    assert names(nn.ResnetBlock(RNG, 2, 4, 1, 3)) == [
        part + end for part in ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut") for end in both
    ]
    assert names(nn.ResnetBlock(RNG, 2, 2, 1)) == [
        part + end for part in ("norm1", "conv1", "norm2", "conv2") for end in both
    ]
    attention = ["to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias"]
    assert names(nn.Attention(RNG, 4, 2)) == attention
    assert names(nn.FeedForward(RNG, 2)) == ["net.0.proj.weight", "net.0.proj.bias", "net.2.weight", "net.2.bias"]
    transformer = names(nn.SpatialTransformer(RNG, 4, 2, 2, 3))
    assert {"norm.weight", "proj_in.weight", "proj_out.bias", "transformer_blocks.0.norm3.weight"} <= set(transformer)
    assert {f"transformer_blocks.0.attn{i}.{part}" for i in (1, 2) for part in attention} <= set(transformer)
    assert "transformer_blocks.0.ff.net.0.proj.weight" in transformer
    assert names(nn.TimestepEmbedding(RNG, 2)) == [f"linear_{i}{end}" for i in (1, 2) for end in both]
    assert names(nn.Downsample(RNG, 2)) == names(nn.Upsample(RNG, 2)) == ["conv.weight", "conv.bias"]


def test_timestep_embedding_is_cosines_then_sines():
    t = np.array([0, 1, 500])
    waves = nn.timestep_embedding(t, 6)
    frequencies = 10_000.0 ** (-np.arange(3) / 3)
    assert waves.shape == (3, 6) and waves.dtype == np.float64
    np.testing.assert_allclose(waves[:, :3], np.cos(t[:, None] * frequencies), rtol=1e-12)
    np.testing.assert_allclose(waves[:, 3:], np.sin(t[:, None] * frequencies), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(waves[0], [1, 1, 1, 0, 0, 0])


def test_a_new_residual_block_and_transformer_are_the_identity():
    x, context = Tensor(np.float32(normal(2, 4, 4, 4).data)), Tensor(np.float32(normal(2, 3, 3).data))
    np.testing.assert_array_equal(nn.ResnetBlock(RNG, 4, 4, 2)(x).data, x.data)
    np.testing.assert_array_equal(nn.SpatialTransformer(RNG, 4, 2, 2, 3)(x, context).data, x.data)


def test_repr_says_the_parameters_the_settings_and_what_is_inside():
    assert repr(nn.Conv2d(RNG, 3, 4, stride=2)) == (
        "Conv2d(112 parameters)\n  weight (3, 3, 3, 4), bias (4,), stride=2, padding=1"
    )
    assert repr(nn.FeedForward(RNG, 2)) == (
        "FeedForward(66 parameters)\n  net.0: GEGLU(48 parameters)\n  net.2: Linear(18 parameters)"
    )
    model = models.UNet2015(models.UNet2015Config(block_out_channels=(2, 4)), None)
    assert repr(model).splitlines()[:3] == [
        "UNet2015(470 parameters)",
        "  config=UNet2015Config(in_channels=3, num_classes=2, block_out_channels=(2, 4), padded=True, dropout=0.5, "
        "skips=True)",
        "  down.0: DoubleConv(94 parameters)",
    ]


def test_chain_gives_each_layers_output_to_the_next():
    assert nn.chain(3) == 3
    assert nn.chain(3, lambda x: x + 1, lambda x: 10 * x) == 40


def test_the_same_seed_gives_the_same_weights_in_bounds():
    one, two = (nn.Conv2d(np.random.default_rng(3), 4, 5) for _ in range(2))
    np.testing.assert_array_equal(one.weight.data, two.weight.data)
    assert one.weight.dtype == np.float32
    assert 0.9 / 6 < abs(one.weight.data).max() <= 1 / 6  # 1/√(fan-in = 4·3·3)
    assert nn.Embedding(np.random.default_rng(3), 500, 20).weight.data.std() == pytest.approx(0.02, rel=0.05)


def test_state_and_load():
    one, two = (nn.FeedForward(np.random.default_rng(seed), 3) for seed in (0, 1))
    x = Tensor(np.float32(normal(1, 2, 3).data))
    assert (one(x).data != two(x).data).any()
    two.load_state_dict({name: value.copy() for name, value in one.state_dict().items()})
    np.testing.assert_array_equal(one(x).data, two(x).data)
    with pytest.raises(ValueError, match=r"shape \(3, 24\), the new array \(24, 3\)"):
        two.net[0].proj.weight.assign(np.zeros((24, 3), np.float32))
    with pytest.raises(KeyError):
        two.load_state_dict({})


def test_a_transformer_adds_to_what_came_in():
    block = nn.blocks.SpatialTransformer(np.random.default_rng(0), 8, 2, 4, 6)
    block.proj_out.bias.assign(np.ones(8, np.float32))  # its weights begin at zero
    x = np.random.default_rng(1).standard_normal((1, 2, 3, 8), np.float32)
    np.testing.assert_allclose(block(Tensor(x), Tensor(np.ones((1, 4, 6), np.float32))).data, x + 1, rtol=1e-6)


def test_the_smallest_variances_are_those_of_diffusers():
    """1e-5 in residual blocks and where nothing is said, 1e-6 before attention and in the autoencoder."""
    assert inspect.signature(nn.GroupNorm).parameters["eps"].default == 1e-5
    assert nn.blocks.SpatialTransformer(None, 8, 2, 4, 6).norm.eps == 1e-6
    config = models.AutoencoderConfig(block_out_channels=(8, 16), norm_num_groups=4)
    assert models.Autoencoder(config, None).decoder.mid_block.attentions[0].group_norm.eps == 1e-6
