"""AdamW, gradient clipping, the learning rate's course, and the moving average of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinydiff import kernels
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
        p ← p − lr·(m̂ / (√v̂ + eps) + decay·p)      average ← ema·average + (1 − ema)·p

    with m̂ = m / (1 − β1ᵗ) and v̂ likewise.  (Kingma 2015, arXiv:1412.6980; Loshchilov 2019, arXiv:1711.05101)
    """

    def __init__(self, module: Module, config: OptimConfig) -> None:
        self.config, self.parameters = config, dict(module.named_parameters())
        for p in self.parameters.values():
            p.assign(np.array(p.data))  # its own memory, C-contiguous: it is changed in place below
        self.m = {name: np.zeros(p.shape, p.dtype) for name, p in self.parameters.items()}
        self.v = {name: np.zeros(p.shape, p.dtype) for name, p in self.parameters.items()}
        self.average = {name: p.data.copy() for name, p in self.parameters.items()}

    def step(self, step: int) -> float:
        """One update from the gradients, which are then forgotten; returns their norm before clipping.

        Raises FloatingPointError, before anything is changed, where a gradient is not finite.
        """
        norm = self._norm()
        config, t = self.config, step + 1
        beta1, beta2 = config.betas
        scale = min(1.0, config.clip / (norm + 1e-12))
        lr, ema = learning_rate(config, step), ema_decay(config, step)
        for name, p in self.parameters.items():
            if p.grad is None:
                continue
            p.data.setflags(write=True)
            adamw_step(
                p.data.reshape(-1),
                np.ascontiguousarray(p.grad).reshape(-1),
                self.m[name].reshape(-1),
                self.v[name].reshape(-1),
                self.average[name].reshape(-1),
                lr,
                beta1,
                beta2,
                config.eps,
                config.weight_decay if p.ndim > 1 else 0.0,  # biases and norms are not decayed
                1 / (1 - beta1**t),
                1 / (1 - beta2**t),
                scale,
                ema,
            )
            p.data.setflags(write=False)
            p.grad = None
        return norm

    def _norm(self) -> float:
        squares = {
            name: float(np.square(p.grad, dtype=np.float64).sum())
            for name, p in self.parameters.items()
            if p.grad is not None
        }
        for name, square in squares.items():
            if not math.isfinite(square):
                raise FloatingPointError(f"the gradient of {name!r} is not finite")
        return math.sqrt(sum(squares.values()))


def adamw_step(
    p: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    average: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    correct1: float,
    correct2: float,
    scale: float,
    ema: float,
) -> None:
    """One parameter's update, in place on flat arrays; `scale` clips the gradient, `correct` are 1 / (1 − βᵗ)."""
    fast = kernels.offered("adamw", p)
    if fast is not None:
        fast(p, g, m, v, average, lr, beta1, beta2, eps, decay, correct1, correct2, scale, ema)
        return
    g = g * scale
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    p -= lr * (m * correct1 / (np.sqrt(v * correct2) + eps) + decay * p)
    average += (1 - ema) * (p - average)
