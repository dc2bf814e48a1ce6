"""Whole models with the GPU's kernels: a training step and images.

Without a GPU arrays are a stand-in's, which NumPy may not touch, and kernels run in the simulator.
"""

from dataclasses import replace

import numpy as np
import pytest
import standin

from tinydiff import device, ops, use
from tinydiff.apps.train.session import fit, load_ema
from tinydiff.autograd import Tensor
from tinydiff.datasets import Vocabulary
from tinydiff.datasets.captions import LENGTH
from tinydiff.device import to_numpy
from tinydiff.diffusion.schedule import make_schedule
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.models.unet2015 import UNet2015Config
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.segmentation.presets import SegmentationPreset
from tinydiff.segmentation.tiles import probabilities
from tinydiff.segmentation.training import train_on_pairs
from tinydiff.training.optim import AdamW, OptimConfig
from tinydiff.training.presets import PRESETS
from tinydiff.training.replay import ReplayedLoss
from tinydiff.training.tasks import autoencoder_task, measured_scaling_factor

UNET = UNetConfig(
    in_channels=2,
    out_channels=2,
    block_out_channels=(4, 8),
    layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    num_attention_heads=2,
    norm_num_groups=2,
    cross_attention_dim=4,
)
TEXT = TextEncoderConfig(
    vocab_size=5, max_position_embeddings=3, hidden_size=4, num_hidden_layers=1, num_attention_heads=2
)


def one_step(where):
    """Loss, gradients and weights of one training step from the same start."""
    rng = np.random.default_rng(0)
    model = Denoiser(UNET, TEXT, rng)
    for parameter in model.parameters():  # a zero weight hides what lies behind it
        parameter.assign((parameter.data + 0.1 * rng.standard_normal(parameter.shape)).astype(np.float32))
    model.to(where)
    x, target = rng.standard_normal((2, 2, 4, 2, 2), np.float32)
    t, tokens = np.array([3, 700]), rng.integers(0, 5, (2, 3))
    optimiser = AdamW(model, OptimConfig(steps=10, batch=2, warmup=1))
    loss = ops.mse_loss(model(Tensor(model.place(x)), t, tokens), Tensor(model.place(target)))
    loss.backward()
    gradients = {name: to_numpy(p.grad) for name, p in model.named_parameters()}
    norm = optimiser.step(0)
    return loss.item(), gradients, norm, {name: to_numpy(a) for name, a in model.state_dict().items()}


def test_the_stand_in_refuses_numpy(gpu):
    if not device.simulated.__name__ == "<lambda>":
        pytest.skip("there is a GPU")
    a = device.to_device(np.ones(3, np.float32), "cuda")
    assert isinstance(a, standin.Card)
    for function in (np.sum, np.asarray, np.exp, np.concatenate, lambda a: np.ones(3) + a, lambda a: a + np.ones(3)):
        with pytest.raises(TypeError):
            function(a)


@pytest.mark.slow
def test_a_denoisers_training_step(gpu):
    expected_loss, expected, expected_norm, expected_weights = one_step("cpu")
    loss, gradients, norm, weights = one_step("cuda")
    assert abs(loss - expected_loss) <= 1e-5 * expected_loss
    assert abs(norm - expected_norm) <= 1e-4 * expected_norm
    largest = max(abs(g).max() for g in expected.values())
    for name, gradient in gradients.items():
        assert abs(gradient - expected[name]).max() <= 1e-5 * largest, name
        # Adam's first step is lr·sign(g) or nearly: where a gradient is all but 0 its sign is chance.
        sure = abs(expected[name]) > 1e-3 * largest
        assert np.allclose(weights[name][sure], expected_weights[name][sure], atol=1e-5), name


def test_a_replayed_training_is_the_training():
    """Bit for bit; only a GPU records."""
    if device.simulated():
        pytest.skip("the simulator has no graphs")

    def trained():
        model = Denoiser(UNET, TEXT, np.random.default_rng(0)).to("cuda")
        optimiser = AdamW(model, OptimConfig(steps=10, batch=2, warmup=1))
        loss = ReplayedLoss(model, lambda x, t, y, aim: ops.mse_loss(model(Tensor(x), t, y), Tensor(aim)))
        losses, rng = [], np.random.default_rng(1)
        for step in range(6):
            x, aim = rng.standard_normal((2, 2, 4, 2, 2), np.float32)
            value = loss(x, rng.integers(0, 1000, 2), rng.integers(0, 5, (2, 3)), aim)
            value.backward()
            optimiser.step(step)
            losses.append(value.item())
        return losses, {name: to_numpy(a) for name, a in model.state_dict().items()}

    losses, weights = trained()
    with use(replay=False):
        expected_losses, expected = trained()
    assert losses == expected_losses
    for name, array in expected.items():
        np.testing.assert_array_equal(weights[name], array)


AUTOENCODER = AutoencoderConfig(
    latent_channels=2, block_out_channels=(2, 4), layers_per_block=1, norm_num_groups=2, mid_block_add_attention=False
)


@pytest.mark.slow
def test_images(gpu):
    """The whole way from words to pixels; noise comes from the CPU, so that a seed means the same image."""
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary()
    text = replace(TEXT, vocab_size=len(vocabulary), max_position_embeddings=LENGTH)
    parts = Autoencoder(AUTOENCODER, rng), Denoiser(UNET, text, rng), vocabulary, make_schedule("squaredcos_cap_v2")
    for parameter in parts[1].parameters():
        parameter.assign((parameter.data + 0.1 * rng.standard_normal(parameter.shape)).astype(np.float32))
    pipe = TextToImage(*parts, prediction_type="v_prediction", latent_shape=(2, 2, 2))
    prompt = ["a red dress on a white background"]
    expected = pipe.generate(prompt, steps=2, sampler="ddpm")
    images = pipe.to("cuda").generate(prompt, steps=2, sampler="ddpm")
    assert isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == (1, 4, 4, 3)
    assert abs(images.astype(int) - expected).max() <= 1
    assert np.array_equal(pipe.to("cpu").generate(prompt, steps=2, sampler="ddpm"), expected)


class Noise:
    """The same images in every epoch."""

    source = "noise"

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def epoch(self, number):
        return self


@pytest.mark.slow
def test_training_that_stops_and_goes_on(gpu, tmp_path):
    """A checkpoint that the GPU wrote holds NumPy's arrays, and goes on there."""
    images = Noise(np.random.default_rng(1).integers(0, 256, (2, 2, 2, 3), np.uint8))
    preset = replace(PRESETS["quick"], autoencoder=AUTOENCODER)

    def trained(where, steps, folder):
        settings = replace(preset, autoencoder_optim=OptimConfig(steps=steps, batch=2, warmup=1))
        task = autoencoder_task(images, settings)
        task.model.to(where)
        load_ema(task.model, fit(task, folder, resume=True))
        scale = measured_scaling_factor(task.model, images, settings.seed)
        return {name: device.to_numpy(a) for name, a in task.model.state_dict().items()}, scale

    for folder in ("cpu", "cuda"):
        (tmp_path / folder).mkdir()
    expected, expected_scale = trained("cpu", 1, tmp_path / "cpu")
    weights, scale = trained("cuda", 1, tmp_path / "cuda")
    again, _ = trained("cuda", 1, tmp_path / "cuda")  # from the checkpoint, with nothing left to do
    assert abs(scale - expected_scale) <= 1e-3 * expected_scale
    for name, array in weights.items():
        assert np.array_equal(again[name], array)
        assert abs(array - expected[name]).max() <= 2e-3, name  # Adam's first step is lr·sign(g): 1e-3 either way


@pytest.mark.slow
def test_segmentation_is_trained_and_finds_cells(gpu, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (10, 10), np.uint8)
    mask = np.zeros((10, 10), np.int32)
    mask[2:6, 3:8] = 1
    model = UNet2015Config(block_out_channels=(1, 2))
    preset = SegmentationPreset(model=model, optim=OptimConfig(steps=1, batch=1, warmup=1), size=4)
    trained, answers = [], []
    for name in ("cpu", "cuda"):
        (tmp_path / name).mkdir()
        model = train_on_pairs([(image, mask)], preset, tmp_path / name, validation_strip=0, device=name).model
        trained.append({name: to_numpy(array) for name, array in model.state_dict().items()})
        answers.append(probabilities(model, np.repeat(image[:4, :4, None] / np.float32(255), 3, 2)))
    for name, array in trained[0].items():
        assert abs(trained[1][name] - array).max() <= 2e-3, name
    assert isinstance(answers[1], np.ndarray) and abs(answers[1] - answers[0]).max() <= 1e-2
