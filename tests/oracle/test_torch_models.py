"""The torch reference is the same model: outputs, gradients, ten losses, and whole images."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import tinydiff  # noqa: E402
from tinydiff.bench import steps, torch_reference  # noqa: E402
from tinydiff.bench.timing import assert_close  # noqa: E402
from tinydiff.errors import MismatchError  # noqa: E402
from tinydiff.models.autoencoder import AutoencoderConfig  # noqa: E402
from tinydiff.models.unet import UNetConfig  # noqa: E402
from tinydiff.training.optim import OptimConfig  # noqa: E402

UNET = UNetConfig(
    4,
    4,
    block_out_channels=(16, 32),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    num_attention_heads=2,
    norm_num_groups=4,
    cross_attention_dim=96,
)
TASKS = {
    "denoiser": lambda: steps.denoiser_task("denoiser", UNET, 8, 3),
    "autoencoder": lambda: steps.autoencoder_task(
        "autoencoder", AutoencoderConfig(block_out_channels=(16, 16, 32), layers_per_block=1, norm_num_groups=4), 2
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_gradients_and_ten_losses_are_the_same(name):
    task, config = TASKS[name](), OptimConfig(steps=100, batch=3, warmup=2)
    model, loss, run = steps.reference_trainer(task, config)
    steps.check_gradients(task, model, loss)
    ours = steps.trainer(task, config)
    losses = [(ours(), run()) for _ in range(steps.LOSSES)]
    assert losses[-1][0] < losses[0][0]
    for i, (a, b) in enumerate(losses):
        assert_close(f"loss {i}", np.array([a]), np.array([b]))


def test_a_wrong_gradient_is_noticed():
    task = TASKS["denoiser"]()
    model, loss, _ = steps.reference_trainer(task, OptimConfig(steps=100, batch=3))
    with weight_changed(model), pytest.raises(MismatchError, match="differs from the reference's"):
        steps.check_gradients(task, model, loss)


class weight_changed:
    """One weight of the reference's first convolution, a little larger within the block."""

    def __init__(self, model):
        self.weight = model.unet.conv_in.weight.data

    def __enter__(self):
        self.weight[0, 0, 0, 0] += 0.1

    def __exit__(self, *_):
        self.weight[0, 0, 0, 0] -= 0.1


def test_the_reference_generates_the_same_images():
    pipe, prompts = tinydiff.load(), ["a red dress on a white background", "a photo of a trainer, blue, on black"]
    ours, theirs = pipe.generate(prompts, steps=5), torch_reference.Pipeline(pipe).generate(prompts, steps=5)
    assert np.percentile(abs(ours.astype(int) - theirs), 99) <= 2
