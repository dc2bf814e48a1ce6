"""Whole training steps and whole images, tinydiff against the torch reference.

Both hold the same weights; their outputs, gradients and first ten losses must be the same before anything is timed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import count
from typing import Any

import numba
import numpy as np

import tinydiff
from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.bench.timing import Timing, assert_close, has_torch, start_torch, time_interleaved
from tinydiff.bench.worker import OURS, in_turns
from tinydiff.errors import InputError, MismatchError
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.nn.module import Module
from tinydiff.training.optim import AdamW, OptimConfig, ema_decay, learning_rate
from tinydiff.training.presets import preset
from tinydiff.training.replay import ReplayedLoss

LOSSES = 10  # that must be the same
PYTORCH = {"PyTorch, channels last": True, "PyTorch, channels first": False}
PROMPT = "a red dress on a white background"
TEXT = TextEncoderConfig(vocab_size=54, max_position_embeddings=16)


@dataclass(frozen=True)
class Task:
    """A model and its loss on one batch, whose arrays are kept for the reference."""

    name: str
    model: Module
    inputs: tuple[np.ndarray, ...]
    loss: Callable[[], Tensor]

    @property
    def optim(self) -> OptimConfig:
        return OptimConfig(steps=10_000, batch=len(self.inputs[0]), warmup=100)


def tasks() -> Iterator[Task]:
    """Made one after the other, so that one model's memory is free before the next is made."""
    return (task(name) for name in TASKS)


def task(name: str) -> Task:
    return TASKS[name](name)


def shipped_denoiser(name: str = "denoiser, 8×8×4, batch 64", device: str = "cpu") -> Task:
    return denoiser_task(name, preset("full").unet, 8, 64, device)


def shipped_autoencoder(name: str) -> Task:
    return autoencoder_task(name, preset("full").autoencoder, 32)


def pixel_denoiser(name: str) -> Task:
    unet = replace(preset("pixels").unet, block_out_channels=(32, 64, 128), layers_per_block=2, num_attention_heads=8)
    return denoiser_task(name, unet, 32, 32)


TASKS = {
    "denoiser, 8×8×4, batch 64": shipped_denoiser,
    "autoencoder, 32×32×3, batch 32": shipped_autoencoder,
    "pixel-space denoiser, 32×32×3, batch 32": pixel_denoiser,
}


def denoiser_task(name: str, config: UNetConfig, size: int, batch: int, device: str = "cpu") -> Task:
    rng = np.random.default_rng(0)
    model = Denoiser(config, TEXT, rng)
    _stir(model, rng)
    model.to(device)
    x, target = rng.standard_normal((2, batch, size, size, config.in_channels), np.float32)
    t, tokens = rng.integers(0, 1000, batch), rng.integers(0, TEXT.vocab_size, (batch, TEXT.max_position_embeddings))

    def loss(x: Array, target: Array, t: Array, tokens: Array) -> Tensor:
        return ops.mse_loss(model(Tensor(x), t, tokens), Tensor(target))

    inputs = x, target, t, tokens
    return Task(name, model, inputs, partial(ReplayedLoss(model, loss), model.place(x), model.place(target), t, tokens))


def autoencoder_task(name: str, config: AutoencoderConfig, batch: int) -> Task:
    rng = np.random.default_rng(0)
    model = Autoencoder(config, rng)
    _stir(model, rng)
    x = rng.uniform(-1, 1, (batch, 32, 32, 3)).astype(np.float32)
    latents = batch, 32 // model.factor, 32 // model.factor, config.latent_channels
    noise = rng.standard_normal(latents, np.float32)

    def loss(x: Array, noise: Array) -> Tensor:
        mean, log_variance = model.moments(Tensor(x))
        y = model.reconstruct(ops.reparameterize(mean, log_variance, noise))
        kl = ops.kl_loss(mean, log_variance) * np.float32(1e-6)
        return ops.l1_loss(y, Tensor(x)) + ops.mse_loss(y, Tensor(x)) + kl

    return Task(name, model, (x, noise), partial(ReplayedLoss(model, loss), x, noise))


def has_reference(device: str = "cpu") -> bool:
    """Whether PyTorch is here to compare with.  Raises InputError where diffusers is missing beside it."""
    if not has_torch(device):
        return False
    if find_spec("diffusers") is None:
        raise InputError("bench: PyTorch's models are those of diffusers, which is missing: pip install diffusers")
    return True


def step_rows(rounds: int) -> Iterator[Timing]:
    """Forward, backward, clipping, AdamW and EMA."""
    for name in TASKS:
        if has_reference():
            check_steps(task(name))
        seconds, *others = in_turns(__name__, [(OURS, "step", name), *references("step", name)], rounds)
        yield Timing("training step", name, seconds, min(others, default=None))


def references(*what: str) -> list[tuple[str, ...]]:
    """The arguments of `contender` for PyTorch, in both of its layouts in memory."""
    return [(library, *what) for library in PYTORCH] if has_reference() else []


def contender(library: str, what: str, name: str) -> Callable[[], object]:
    """A training step, or the images of so many prompts, in one of the libraries."""
    if library in PYTORCH:
        start_torch()
    if what == "step":
        chosen = task(name)
        if library in PYTORCH:
            return reference_trainer(chosen, chosen.optim, PYTORCH[library])[2]
        return trainer(chosen, chosen.optim)
    pipe, prompts = tinydiff.load(), [PROMPT] * int(name)
    if library in PYTORCH:
        from tinydiff.bench.torch_reference import Pipeline

        return partial(Pipeline(pipe, PYTORCH[library]).generate, prompts)
    return partial(pipe.generate, prompts)


def check_steps(task: Task) -> None:
    """Raises MismatchError where the loss, a gradient or one of the first ten losses is not the reference's."""
    config = task.optim
    trainers = [reference_trainer(task, config, last) for last in PYTORCH.values()]
    for model, reference_loss, _ in trainers:
        check_gradients(task, model, reference_loss)
    ours = trainer(task, config)
    for i in range(LOSSES):
        loss = ours()
        for _, _, step in trainers:
            assert_close(f"loss {i + 1} of {task.name}", np.array([loss]), np.array([step()]))


def trainer(task: Task, config: OptimConfig) -> Callable[[], float]:
    """One training step at each call, which returns its loss."""
    optimiser, steps = AdamW(task.model, config), count()

    def run() -> float:
        loss = task.loss()
        loss.backward()
        optimiser.step(next(steps))
        return loss.item()

    return run


def reference_trainer(
    task: Task, config: OptimConfig, channels_last: bool = True, device: str = "cpu"
) -> tuple[Any, Callable[[], Any], Callable[[], float]]:
    """The reference's model, its loss, and its training step."""
    from tinydiff.bench.torch_reference import Trainer, model_and_loss

    model, loss = model_and_loss(task.model, task.inputs, channels_last, device)
    optimiser, steps = Trainer(model, config), count()

    def run() -> float:
        step = next(steps)
        return optimiser.step(loss(), learning_rate(config, step), ema_decay(config, step))

    return model, loss, run


def check_gradients(task: Task, model: Any, reference_loss: Callable[[], Any]) -> None:
    """Raises MismatchError where the loss or a parameter's gradient is not the reference's."""
    from tinydiff.bench.torch_reference import to_torch_layout

    loss, other = task.loss(), reference_loss()
    assert_close(f"the loss of {task.name}", np.array([loss.item()]), np.array([other.item()]))
    loss.backward()
    other.backward()
    gradients = {name: p.grad for name, p in task.model.named_parameters() if p.grad is not None}
    largest = max(float(abs(g).max()) for g in gradients.values())
    for name, parameter in model.named_parameters():
        ours = to_torch_layout(name, gradients[name])
        # A gradient that is nothing but rounding, a key's bias say, is compared with the largest of all.
        assert_close(f"the gradient of {name}", ours, parameter.grad.numpy(), least=1e-3 * largest)
    for p in task.model.parameters():
        p.grad = None


def _stir(model: Module, rng: np.random.Generator) -> None:
    """Zero weights would hide what lies behind them."""
    for parameter in model.parameters():
        if not parameter.data.any():
            parameter.assign((0.02 * rng.standard_normal(parameter.shape)).astype(np.float32))


def sampling_rows(rounds: int) -> Iterator[Timing]:
    """Images from a prompt, 25 steps with guidance: text encoder, denoiser, sampler and decoder."""
    for images in (1, 16):
        name = f"{images} image{'s' if images > 1 else ''}, 25 steps, guidance"
        what = "sampling", str(images)
        if has_reference():
            check_images(images)
        seconds, *others = in_turns(__name__, [(OURS, *what), *references(*what)], rounds)
        yield Timing("sampling", name, seconds, min(others, default=None))


def check_images(images: int) -> None:
    """Raises MismatchError where the reference draws others."""
    from tinydiff.bench.torch_reference import Pipeline

    pipe, prompts = tinydiff.load(), [PROMPT] * images
    expected = pipe.generate(prompts).astype(int)
    for channels_last in PYTORCH.values():
        if np.percentile(abs(expected - Pipeline(pipe, channels_last).generate(prompts)), 99) > 2:
            raise MismatchError(f"bench: 1 % of the reference's pixels differ by more than 2 of 255 ({images} images)")


def thread_rows(rounds: int) -> Iterator[Timing]:
    """The training step on all threads against one."""
    threads = numba.get_num_threads()
    if threads < 2:
        return
    for task in tasks():
        run = trainer(task, task.optim)
        seconds, alone = time_interleaved(partial(_on, threads, run), partial(_on, 1, run), rounds=rounds)
        yield Timing("threads", task.name, seconds, alone, against="one thread")


def _on(threads: int, run: Callable[[], float]) -> None:
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        run()
    finally:
        numba.set_num_threads(before)
