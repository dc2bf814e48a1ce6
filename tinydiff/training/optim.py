"""AdamW, gradient clipping, the learning rate's course, and the moving average of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import Array
from tinydiff.device import array_module, to_numpy
from tinydiff.nn.module import Module


@dataclass(frozen=True)
class OptimConfig:
    """How a part is trained: `steps` batches of `batch` examples."""

    steps: int
    batch: int
    lr: float = 1e-3  # the highest learning rate
    warmup: int = 100  # steps until it is reached
    final: float = 0.01  # of the highest, at the last step
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float = 1.0  # the largest norm of all gradients together
    ema: float = 0.999  # decay of the moving average once it has warmed up


def learning_rate(config: OptimConfig, step: int) -> float:
    """A straight line up, then half a cosine down to `final`.  (Loshchilov 2017, arXiv:1608.03983)"""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    progress = step / max(1, config.steps)
    fall = config.final + (1 - config.final) * (1 + math.cos(math.pi * progress)) / 2
    return config.lr * rise * fall


def ema_decay(config: OptimConfig, step: int) -> float:
    """The average's decay: short at first, so that it does not remember the random start."""
    return min(config.ema, (1 + step) / (10 + step))


class AdamW:
    """Adam with decoupled weight decay; keeps the moments and the moving average of every parameter.

        m ← β1·m + (1 − β1)·g      v ← β2·v + (1 − β2)·g²
        p ← p − lr·(m̂ / (√v̂ + eps) + decay·p)      ema ← β·ema + (1 − β)·p

    with m̂ = m / (1 − β1ᵗ) and v̂ likewise.  (Kingma 2015, arXiv:1412.6980; Loshchilov 2019, arXiv:1711.05101)
    """

    def __init__(self, module: Module, config: OptimConfig) -> None:
        self.config, self.parameters = config, dict(module.named_parameters())
        for p in self.parameters.values():
            p.assign(array_module(p.data).array(p.data))  # its own memory, C-contiguous: it is changed in place below
        self.m = {name: array_module(p.data).zeros(p.shape, p.dtype) for name, p in self.parameters.items()}
        self.v = {name: array_module(p.data).zeros(p.shape, p.dtype) for name, p in self.parameters.items()}
        self.ema = {name: p.data.copy() for name, p in self.parameters.items()}

    def step(self, step: int) -> float:
        """One update from the gradients, which are then forgotten; returns their norm before clipping.

        Raises FloatingPointError, before anything is changed, where a gradient is not finite.
        """
        moved = {name: p for name, p in self.parameters.items() if p.grad is not None}
        gradients = [array_module(p.grad).ascontiguousarray(p.grad) for p in moved.values()]
        norm = _norm(dict(zip(moved, gradients, strict=True)))
        config, t = self.config, step + 1
        beta1, beta2 = config.betas
        on_cpu = [p.data for p in moved.values() if isinstance(p.data, np.ndarray)]
        for array in on_cpu:
            array.setflags(write=True)
        adamw_step(
            [p.data for p in moved.values()],
            gradients,
            [self.m[name] for name in moved],
            [self.v[name] for name in moved],
            [self.ema[name] for name in moved],
            [config.weight_decay if p.ndim > 1 else 0.0 for p in moved.values()],  # biases and norms are not decayed
            learning_rate(config, step),
            beta1,
            beta2,
            config.eps,
            1 / (1 - beta1**t),
            1 / (1 - beta2**t),
            min(1.0, config.clip / (norm + 1e-12)),
            ema_decay(config, step),
        )
        for array in on_cpu:
            array.setflags(write=False)
        for p in moved.values():
            p.grad = None
        return norm


def _norm(gradients: dict[str, Array]) -> float:
    """The Euclidean norm of all gradients together."""
    arrays = list(gradients.values())
    if not arrays:
        return 0.0
    xp, fast = array_module(arrays[0]), kernels.find_kernel("square_sums", arrays[0])
    # From a GPU they come all at once: to wait for each would keep the card idle.
    squares = fast(arrays) if fast else to_numpy(xp.stack([_square(g) for g in arrays]))
    total = 0.0
    for (name, g), square in zip(gradients.items(), squares, strict=True):
        if not math.isfinite(square):  # beyond float32, or a gradient that is not finite itself
            square = _square(g)
        if not math.isfinite(square):
            raise FloatingPointError(f"the gradient of {name!r} is not finite")
        total += float(square)
    return math.sqrt(total)


def _square(g: Array) -> Array:
    """Σ g² in float64."""
    return (g.astype(np.float64) ** 2).sum()


def adamw_step(
    p: list[Array],
    g: list[Array],
    m: list[Array],
    v: list[Array],
    average: list[Array],
    decays: list[float],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    correct1: float,
    correct2: float,
    scale: float,
    ema: float,
) -> None:
    """All parameters' update, in place; `scale` clips the gradients, `correct` are 1 / (1 − βᵗ), a decay for each."""
    fast = kernels.find_kernel("adamw", p[0]) if p else None
    if fast is not None:
        fast(p, g, m, v, average, decays, lr, beta1, beta2, eps, correct1, correct2, scale, ema)
        return
    for p_, g_, m_, v_, average_, decay in zip(p, g, m, v, average, decays, strict=True):
        g_ = g_ * scale
        m_ += (1 - beta1) * (g_ - m_)
        v_ += (1 - beta2) * (g_ * g_ - v_)
        p_ -= lr * (m_ * correct1 / (array_module(v_).sqrt(v_ * correct2) + eps) + decay * p_)
        average_ += (1 - ema) * (p_ - average_)
