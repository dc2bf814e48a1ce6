"""IADB: iterative α-(de)blending, the diffusion model that needs no more than a straight line.

Blend a sample of one distribution with one of another, and learn which way the line between them goes:

    x_α = (1 − α)·x0 + α·x1          the network D learns E[x1 − x0 | x_α, α], by squared error
    x_{α + 1/n} = x_α + D(x_α, α)/n  n small steps carry a sample of the one to a sample of the other

In this file x0 and x1 are the paper's: x0, noise or another image, is where the path starts, and x1 where it ends.
Everywhere else x0 is the image, so that this D is the `x0 − ε` of prediction.py.

Where x0 is Gaussian noise this is diffusion in other coordinates: x_α/√(α² + (1−α)²) is a noised image of
√ᾱ = α/√(α² + (1−α)²), so the networks of this library learn it as the prediction type "iadb" on the schedule "iadb",
and its step is DDIM's.  (Heitz 2023, arXiv:2305.03486, algorithms 1 to 4)
"""

from collections.abc import Callable
from typing import Any

from tinydiff.diffusion.prediction import shares
from tinydiff.errors import InputError

Direction = Callable[[Any, float], Any]  # (x_α (N, …), α) → E[x1 − x0] (N, …)


def blend(x0: Any, x1: Any, alpha: Any) -> Any:
    """x_α = (1 − α)·x0 + α·x1: x0, x1 (N, …), α in [0, 1], a number or one for each (N,).

    Raises InputError where shapes do not fit or α lies outside.
    """
    if x0.shape != x1.shape:
        raise InputError(f"blend: x0 is {x0.shape} but x1 {x1.shape}, expected one shape")
    alpha = shares("blend: alpha", alpha, x0).astype(x0.dtype)
    return (1 - alpha) * x0 + alpha * x1


def deblend(direction: Direction, x: Any, steps: int, callback: Callable[[int, Any], None] | None = None) -> Any:
    """Carry x (N, …), a sample of the one distribution, to the other in `steps` equal steps.

    callback(steps done, x) is called after each.  Raises InputError for fewer than one step.
    """
    if steps < 1:
        raise InputError(f"deblend: steps must be 1 or more; got {steps}")
    for i in range(steps):
        x = x + direction(x, i / steps) * (1 / steps)
        if callback is not None:
            callback(i + 1, x)
    return x
