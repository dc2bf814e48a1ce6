"""Whole models with the card's kernels: a training step, pictures, and a run that stops and goes on."""

import numpy as np

import tinydiff
from tinydiff import ops
from tinydiff.arrays import to_numpy
from tinydiff.autograd import Tensor
from tinydiff.models.denoiser import Denoiser
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import UNetConfig
from tinydiff.training.optim import AdamW, OptimConfig

UNET = UNetConfig(
    in_channels=2, out_channels=2, widths=(4, 8), layers=1, attention=(True, False), heads=2, groups=2, text_width=4
)
TEXT = TextEncoderConfig(vocabulary=5, length=3, width=4, layers=1, heads=2)


def one_step(device):
    """Loss, gradients and weights of one training step from the same start."""
    rng = np.random.default_rng(0)
    model = Denoiser(UNET, TEXT, rng)
    for parameter in model.parameters():  # a zero weight hides what lies behind it
        parameter.assign((parameter.data + 0.1 * rng.standard_normal(parameter.shape)).astype(np.float32))
    model.to(device)
    x, target = rng.standard_normal((2, 2, 4, 4, 2), np.float32)
    t, tokens = np.array([3, 700]), rng.integers(0, 5, (2, 3))
    optimiser = AdamW(model, OptimConfig(steps=10, batch=2, warmup=1))
    loss = ops.mse_loss(model(Tensor(model.place(x)), t, tokens), Tensor(model.place(target)))
    loss.backward()
    gradients = {name: to_numpy(p.grad) for name, p in model.named_parameters()}
    norm = optimiser.step(0)
    return loss.item(), gradients, norm, {name: to_numpy(a) for name, a in model.state().items()}


def test_a_denoisers_training_step():
    expected_loss, expected, expected_norm, expected_weights = one_step("cpu")
    with tinydiff.use("cuda"):
        loss, gradients, norm, weights = one_step("cuda")
    assert abs(loss - expected_loss) <= 1e-5 * expected_loss
    assert abs(norm - expected_norm) <= 1e-4 * expected_norm
    largest = max(abs(g).max() for g in expected.values())
    for name, gradient in gradients.items():
        assert abs(gradient - expected[name]).max() <= 1e-5 * largest, name
        # Adam's first step is lr·sign(g) or nearly: where a gradient is all but 0 its sign is chance.
        sure = abs(expected[name]) > 1e-3 * largest
        assert np.allclose(weights[name][sure], expected_weights[name][sure], atol=1e-5), name
