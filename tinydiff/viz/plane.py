"""Diffusion in the plane, where the perfect network can be written down."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinydiff.diffusion.iadb import Direction
from tinydiff.errors import InputError


def exact_direction(points: np.ndarray) -> Direction:
    """The D that a perfect network would learn, where x0 ~ N(0, 1) and x1 is one of `points` (P, D), each as likely.

        E[x1 | x] = Σ w_i·x1_i,   w_i ∝ exp(−‖x − α·x1_i‖² / (2·(1 − α)²)),   E[x0 | x] = (x − α·E[x1 | x])/(1 − α)

    In the plane it shows what deblending does, with nothing to train: every sample of noise ends at one of the points.
    """
    if points.ndim != 2 or not len(points):
        raise InputError(f"exact_direction: points are {points.shape}, expected (P, D), one or more")

    def direction(x: Any, alpha: float) -> Any:
        squares = ((x[:, None] - alpha * points) ** 2).sum(-1)  # (N, P)
        exponents = -squares / (2 * (1 - alpha) ** 2)
        weights = np.exp(exponents - exponents.max(1, keepdims=True))
        x1 = weights @ points / weights.sum(1, keepdims=True)  # (N, D)
        return x1 - (x - alpha * x1) / (1 - alpha)

    return direction
