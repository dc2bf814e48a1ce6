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
from tinydiff.bench.timing import Timing, assert_close, has_torch, time_interleaved
from tinydiff.errors import InputError, MismatchError
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.nn.module import Module
from tinydiff.training.optim import AdamW, OptimConfig, ema_decay, learning_rate
from tinydiff.training.presets import preset
from tinydiff.training.replay import ReplayedLoss

LOSSES = 10  # that must be the same
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
    yield shipped_denoiser()
    yield autoencoder_task("autoencoder, 32×32×3, batch 32", preset("full").autoencoder, 32)
    pixels = replace(preset("pixels").unet, block_out_channels=(32, 64, 128), layers_per_block=2, num_attention_heads=8)
    yield denoiser_task("pixel-space denoiser, 32×32×3, batch 32", pixels, 32, 32)


def shipped_denoiser(device: str = "cpu") -> Task:
    return denoiser_task("denoiser, 8×8×4, batch 64", preset("full").unet, 8, 64, device)


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
    noise = rng.standard_normal(model.encode(x).shape, np.float32)

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
    for task in tasks():
        config = task.optim
        references = [reference_trainer(task, config, last) for last in (True, False)] if has_reference() else []
        for model, reference_loss, _ in references:
            check_gradients(task, model, reference_loss)
        ours, theirs = trainer(task, config), [step for _, _, step in references]
        for i in range(LOSSES if theirs else 0):
            loss = ours()
            for step in theirs:
                assert_close(f"loss {i + 1} of {task.name}", np.array([loss]), np.array([step()]))
        seconds, *others = time_interleaved(ours, *theirs, rounds=rounds)
        yield Timing("training step", task.name, seconds, min(others, default=None))


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
    """Sixteen images from a prompt, 25 steps with guidance: text encoder, denoiser, sampler and decoder."""
    pipe = tinydiff.load()
    prompts = ["a red dress on a white background"] * 16
    name = "16 images, 25 steps, guidance"
    contenders = [partial(pipe.generate, prompts)]
    if has_reference():
        from tinydiff.bench.torch_reference import Pipeline

        references = [Pipeline(pipe, channels_last) for channels_last in (True, False)]
        expected = pipe.generate(prompts).astype(int)
        for reference in references:
            if np.percentile(abs(expected - reference.generate(prompts)), 99) > 2:
                raise MismatchError(f"bench: 1 % of the reference's pixels differ by more than 2 of 255 ({name})")
        contenders += [partial(reference.generate, prompts) for reference in references]
    seconds, *others = time_interleaved(*contenders, rounds=rounds)
    yield Timing("sampling", name, seconds, min(others, default=None))


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
