"""AdamW, gradient clipping, the learning rate's schedule, and the exponential moving average (EMA) of the weights."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import Array, read_only
from tinydiff.device import array_module, to_numpy
from tinydiff.nn.module import Module
from tinydiff.replay import Replay

Arrays = list[Array]


@dataclass(frozen=True)
class OptimConfig:
    """How a part is trained: `steps` batches of `batch` examples."""

    steps: int
    batch: int
    lr: float = 1e-3  # the learning rate before warm-up and cosine
    warmup: int = 100  # steps of the straight line up
    final: float = 0.01  # of lr, at the end
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float = 1.0  # the largest norm of all gradients together
    ema: float = 0.999  # decay of the EMA once it has warmed up


def learning_rate(config: OptimConfig, step: int) -> float:
    """A line up over `warmup` steps, times half a cosine from 1 to `final`.  (Loshchilov 2017, arXiv:1608.03983)"""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    progress = step / max(1, config.steps)
    fall = config.final + (1 - config.final) * (1 + math.cos(math.pi * progress)) / 2
    return config.lr * rise * fall


def ema_decay(config: OptimConfig, step: int) -> float:
    """The EMA's decay: small at first, so that the random start is soon forgotten."""
    return min(config.ema, (1 + step) / (10 + step))


class AdamW:
    """Adam with decoupled weight decay; keeps every parameter's moments, and its EMA, which is what is saved and used.

        m ← β1·m + (1 − β1)·g      v ← β2·v + (1 − β2)·g²
        p ← p − lr·(m̂ / (√v̂ + eps) + decay·p)      ema ← β·ema + (1 − β)·p

    with m̂ = m / (1 − β1ᵗ) and v̂ likewise.  (Kingma 2015, arXiv:1412.6980; Loshchilov 2019, arXiv:1711.05101)
    """

    def __init__(self, module: Module, config: OptimConfig) -> None:
        self.config, self.parameters = config, dict(module.named_parameters())
        for p in self.parameters.values():
            p.assign(
                read_only(array_module(p.data).array(p.data))
            )  # its own memory, C-contiguous, changed in place below
        self.m = {name: array_module(p.data).zeros(p.shape, p.dtype) for name, p in self.parameters.items()}
        self.v = {name: array_module(p.data).zeros(p.shape, p.dtype) for name, p in self.parameters.items()}
        self.ema = {name: p.data.copy() for name, p in self.parameters.items()}
        self._squares, self._updates = Replay("record_update"), Replay("record_update")

    def step(self, step: int) -> float:
        """One update from the gradients, which are then forgotten; returns their norm before clipping.

        Raises FloatingPointError, before anything is changed, where a gradient is not finite.
        """
        moved = {name: p for name, p in self.parameters.items() if p.grad is not None}
        gradients = {name: array_module(p.grad).ascontiguousarray(p.grad) for name, p in moved.items()}
        norm = self._norm(gradients)
        config, t = self.config, step + 1
        beta1, beta2 = config.betas
        update = Update(
            lr=learning_rate(config, step),
            beta1=beta1,
            beta2=beta2,
            eps=config.eps,
            correct1=1 / (1 - beta1**t),
            correct2=1 / (1 - beta2**t),
            scale=min(1.0, config.clip / (norm + 1e-12)),
            ema=ema_decay(config, step),
        )
        weights = [p.data for p in moved.values()]
        decays = [config.weight_decay if p.ndim > 1 else 0.0 for p in moved.values()]  # not biases, not norms
        m, v, ema = ([kept[name] for name in moved] for kept in (self.m, self.v, self.ema))
        on_cpu = [array for array in weights if isinstance(array, np.ndarray)]
        for array in on_cpu:
            array.setflags(write=True)
        grads = list(gradients.values())
        self._updates(lambda u: adamw_step(weights, grads, m, v, ema, decays, u), [*weights, *grads], np.array(update))
        for array in on_cpu:
            array.setflags(write=False)
        kernels.weights_changed()
        for p in moved.values():
            p.grad = None
        return norm

    def _norm(self, gradients: dict[str, Array]) -> float:
        """The Euclidean norm of all gradients together."""
        arrays = list(gradients.values())
        if not arrays:
            return 0.0
        xp, fast = array_module(arrays[0]), kernels.find_kernel("square_sums", arrays[0])
        # From a GPU they come all at once: waiting for each would leave it idle.
        sums = self._squares(lambda: fast(arrays) if fast else xp.stack([_square(g) for g in arrays]), arrays)
        total = 0.0
        for (name, g), square in zip(gradients.items(), to_numpy(sums), strict=True):
            if not math.isfinite(square):  # beyond float32, or a gradient that is not finite itself
                square = _square(g)
            if not math.isfinite(square):
                raise FloatingPointError(f"the gradient of {name!r} is not finite")
            total += float(square)
        return math.sqrt(total)


def _square(g: Array) -> Array:
    """Σ g² in float64."""
    return (g.astype(np.float64) ** 2).sum()


class Update(NamedTuple):
    """The numbers of one step; `correct` are 1 / (1 − βᵗ), and `scale` clips the gradients."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    correct1: float
    correct2: float
    scale: float
    ema: float


def adamw_step(p: Arrays, g: Arrays, m: Arrays, v: Arrays, ema: Arrays, decays: list[float], u: Array) -> None:
    """All parameters' update, in place; a weight decay for each, and `u` has the numbers of `Update`."""
    fast = kernels.find_kernel("adamw", p[0]) if p else None
    if fast is not None:
        fast(p, g, m, v, ema, decays, u)
        return
    u = Update(*map(float, u))
    for p_, g_, m_, v_, ema_, decay in zip(p, g, m, v, ema, decays, strict=True):
        g_ = g_ * u.scale
        m_ += (1 - u.beta1) * (g_ - m_)
        v_ += (1 - u.beta2) * (g_ * g_ - v_)
        p_ -= u.lr * (m_ * u.correct1 / (array_module(v_).sqrt(v_ * u.correct2) + u.eps) + decay * p_)
        ema_ += (1 - u.ema) * (p_ - ema_)
