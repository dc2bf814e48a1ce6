"""From noise to a picture: DDPM and DDIM, with any number of the schedule's steps.

Both walk the same list of timesteps.  At each, the network's prediction is read as (x̂0, ε̂), and the sampler says
where to go at the next step of the list: a mean, and how much fresh noise around it.  After the last comes the picture,
ᾱ = 1, where both rules give mean x̂0 and no noise.  In the formulas a = ᾱ here and p = ᾱ at the next step of the list
(the "previous" one of the papers, which count t upwards): t_prev comes from the list and is never simply t − 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinydiff.arrays import array_module
from tinydiff.diffusion.objective import check_kind, noise_from_x0, to_x0_and_noise
from tinydiff.diffusion.schedule import Schedule
from tinydiff.errors import InputError

Predict = Callable[[Any, int], Any]  # (x_t (N, …), t) → the network's prediction (N, …)
Callback = Callable[[int, Any, Any], None]  # (steps done, x (N, …), x̂0 (N, …)) after each step
Rule = Callable[[Any, Any, Any, float, float], tuple[Any, float]]  # (x, x̂0, ε̂, a, p) → mean, standard deviation


def sample_ddpm(
    predict: Predict,
    x: Any,
    schedule: Schedule,
    steps: int,
    rng: np.random.Generator,
    kind: str = "v",
    clip: float | None = None,
    callback: Callback | None = None,
) -> Any:
    """Denoise x (N, …) ~ N(0, 1) by drawing each step from the posterior q(x_p | x_a, x̂0); returns (N, …), x's type.

    predict(x_t, t) → prediction of `kind` ("epsilon" or "v"); clip: x̂0 is held in [−clip, clip] (1 for pixels, None in
    latent space); callback(steps done, x, x̂0) is called after each step.
    Raises InputError for steps not in 1 … T, and for a bad kind or clip.
    (Ho 2020, arXiv:2006.11239, equations 6 and 7, with α = a/p for steps that jump)
    """

    def rule(x: Any, x0: Any, noise: Any, a: float, p: float) -> tuple[Any, float]:
        alpha = a / p
        beta = 1 - alpha
        mean = (beta * p**0.5 / (1 - a)) * x0 + ((1 - p) * alpha**0.5 / (1 - a)) * x
        return mean, (beta * (1 - p) / (1 - a)) ** 0.5

    return _sample(rule, predict, x, schedule, steps, rng, kind, clip, callback)


def sample_ddim(
    predict: Predict,
    x: Any,
    schedule: Schedule,
    steps: int,
    rng: np.random.Generator,
    kind: str = "v",
    clip: float | None = None,
    callback: Callback | None = None,
    eta: float = 0.0,
) -> Any:
    """Denoise x (N, …) ~ N(0, 1) along x̂0 and ε̂; arguments, result and errors as in `sample_ddpm`.

    eta in [0, 1] is the share of fresh noise: 0 draws none (x alone decides the picture), 1 has DDPM's law.
    (Song 2021, arXiv:2010.02502, equations 12 and 16)
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie in [0, 1]; got {eta!r}")

    def rule(x: Any, x0: Any, noise: Any, a: float, p: float) -> tuple[Any, float]:
        sigma = eta * ((1 - p) / (1 - a) * (1 - a / p)) ** 0.5
        direction = max(1 - p - sigma**2, 0.0) ** 0.5  # at eta = 1 and a ≈ 0 it is 0, give or take a rounding
        return p**0.5 * x0 + direction * noise, sigma

    return _sample(rule, predict, x, schedule, steps, rng, kind, clip, callback)


SAMPLERS: dict[str, Callable[..., Any]] = {"ddim": sample_ddim, "ddpm": sample_ddpm}


def _sample(
    rule: Rule,
    predict: Predict,
    x: Any,
    schedule: Schedule,
    steps: int,
    rng: np.random.Generator,
    kind: str,
    clip: float | None,
    callback: Callback | None,
) -> Any:
    timesteps = schedule.timesteps(steps)
    check_kind(kind)
    if clip is not None and not clip > 0:
        raise InputError(f"clip must be a bound above 0, or None; got {clip!r}")
    # Python floats, so that coefficients are worked out in float64 and leave x's type as it is.
    alpha_bars = [float(schedule.alpha_bar[t]) for t in timesteps]
    for i, (t, a, p) in enumerate(zip(timesteps, alpha_bars, [*alpha_bars[1:], 1.0], strict=True)):
        x0, noise = to_x0_and_noise(predict(x, t), x, a, kind)
        if clip is not None:
            x0 = x0.clip(-float(clip), float(clip))  # a NumPy float64 would widen x
            noise = noise_from_x0(x0, x, a)  # what x holds besides the x̂0 that is used
        x, sigma = rule(x, x0, noise, a, p)
        if sigma > 0:  # 0 at the last step
            fresh = rng.standard_normal(x.shape, dtype=np.float32)  # one stream, whatever x's type
            x = x + sigma * array_module(x).asarray(fresh, dtype=x.dtype)
        if callback is not None:
            callback(i + 1, x, x0)
    return x
