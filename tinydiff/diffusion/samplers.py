"""From noise to a picture: DDPM, DDIM, DPM-Solver++(2M) and Heun, with any number of the schedule's steps.

All walk the same list of timesteps.  At each, the network's prediction is read as (x̂0, ε̂), and the sampler says
where to go at the next step of the list: a mean, and how much fresh noise around it.  After the last comes the picture,
ᾱ = 1, where every rule gives mean x̂0 and no noise.  In the formulas a = ᾱ here and p = ᾱ at the next step of the list
(the "previous" one of the papers, which count t upwards): t_prev comes from the list and is never simply t − 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tinydiff.device import array_module
from tinydiff.diffusion.prediction import add_noise, check_kind, noise_from_x0, to_x0_and_noise
from tinydiff.diffusion.schedule import Schedule
from tinydiff.errors import InputError

Predict = Callable[[Any, int], Any]  # (x_t (N, …), t) → the network's prediction (N, …)
Callback = Callable[[int, Any, Any], None]  # (steps done, x (N, …), x̂0 (N, …)) after each step
Adjust = Callable[[Any, float], Any]  # (x (N, …), its ᾱ) → the x to go on from: what inpainting puts in
Ahead = Callable[[Any], tuple[Any, Any]]  # x at the next step → (x̂0, ε̂) there, by asking the network once more
Rule = Callable[[Any, Any, Any, float, float, Ahead], tuple[Any, float]]  # (x, x̂0, ε̂, a, p, ahead) → mean, deviation

STEEPEST = 80.0  # σ/√ᾱ above which Heun's correction is left out  (Karras 2022, table 1: σ_max)


def sample_ddpm(
    predict: Predict,
    x: Any,
    schedule: Schedule,
    steps: int,
    rng: np.random.Generator,
    kind: str = "v",
    clip: float | None = None,
    callback: Callback | None = None,
    **course: Any,
) -> Any:
    """Denoise x (N, …) ~ N(0, 1) by drawing each step from the posterior q(x_p | x_a, x̂0); returns (N, …), x's type.

    predict(x_t, t) → prediction of `kind` ("epsilon" or "v"); clip: x̂0 is held in [−clip, clip] (1 for pixels, None in
    latent space); callback(steps done, x, x̂0) is called after each step.  `course` is what `walk` takes beyond that:
    spacing, last, skip, adjust.
    Raises InputError for steps not in 1 … T, and for a bad kind, clip or course.
    (Ho 2020, arXiv:2006.11239, equations 6 and 7, with α = a/p for steps that jump)
    """

    def rule(x: Any, x0: Any, noise: Any, a: float, p: float, ahead: Ahead) -> tuple[Any, float]:
        alpha = a / p
        beta = 1 - alpha
        mean = (beta * p**0.5 / (1 - a)) * x0 + ((1 - p) * alpha**0.5 / (1 - a)) * x
        return mean, (beta * (1 - p) / (1 - a)) ** 0.5

    return walk(rule, predict, x, schedule, steps, rng, kind, clip, callback, **course)


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
    **course: Any,
) -> Any:
    """Denoise x (N, …) ~ N(0, 1) along x̂0 and ε̂; arguments, result and errors as in `sample_ddpm`.

    eta in [0, 1] is the share of fresh noise: 0 draws none (x alone decides the picture), 1 has DDPM's law.
    (Song 2021, arXiv:2010.02502, equations 12 and 16)
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie in [0, 1]; got {eta!r}")

    def rule(x: Any, x0: Any, noise: Any, a: float, p: float, ahead: Ahead) -> tuple[Any, float]:
        sigma = eta * ((1 - p) / (1 - a) * (1 - a / p)) ** 0.5
        direction = max(1 - p - sigma**2, 0.0) ** 0.5  # at eta = 1 and a ≈ 0 it is 0, give or take a rounding
        return p**0.5 * x0 + direction * noise, sigma

    return walk(rule, predict, x, schedule, steps, rng, kind, clip, callback, **course)


def sample_dpm(
    predict: Predict,
    x: Any,
    schedule: Schedule,
    steps: int,
    rng: np.random.Generator,
    kind: str = "v",
    clip: float | None = None,
    callback: Callback | None = None,
    **course: Any,
) -> Any:
    """Denoise x (N, …) ~ N(0, 1) by DPM-Solver++(2M): DDIM's step with x̂0 extrapolated from the last two.

        x_p = √((1−p)/(1−a))·x − √p·(e^−h − 1)·(x̂0 + (x̂0 − x̂0 before)/(2·r)),   h = λ_p − λ_a,   r = (λ_a − λ before)/h

    with λ = ln √(ᾱ/(1 − ᾱ)).  The first step has nothing before it, and the last one's h is infinite: both are DDIM's.
    It draws no noise; arguments, result and errors as in `sample_ddpm`.  (Lu 2022, arXiv:2211.01095, algorithm 2)
    """
    before: tuple[Any, float] | None = None

    def rule(x: Any, x0: Any, noise: Any, a: float, p: float, ahead: Ahead) -> tuple[Any, float]:
        nonlocal before
        last, before = before, (x0, _log_snr(a))
        if p == 1:
            return x0, 0.0
        h = _log_snr(p) - _log_snr(a)
        if last is not None:
            r = (_log_snr(a) - last[1]) / h
            x0 = x0 + (x0 - last[0]) * (1 / (2 * r))
        return ((1 - p) / (1 - a)) ** 0.5 * x - (p**0.5 * math.expm1(-h)) * x0, 0.0

    return walk(rule, predict, x, schedule, steps, rng, kind, clip, callback, **course)


def sample_heun(
    predict: Predict,
    x: Any,
    schedule: Schedule,
    steps: int,
    rng: np.random.Generator,
    kind: str = "v",
    clip: float | None = None,
    callback: Callback | None = None,
    **course: Any,
) -> Any:
    """Denoise x (N, …) ~ N(0, 1) by Heun's rule: look where DDIM's step leads, and go by the mean of both slopes.

    In x̄ = x/√ᾱ the slope dx̄/dσ̄ is ε̂, with σ̄ = √((1 − ᾱ)/ᾱ); DDIM is Euler's step there, and the correction is

        x_p = DDIM's x_p + √p·(σ̄_p − σ̄_a)·(ε̂ there − ε̂ here)/2

    Steps from σ̄ > 80, where a difference in ε̂ is all rounding, and the last one are DDIM's.  It draws no noise and
    asks the network twice a step; arguments, result and errors as in `sample_ddpm`.
    (Karras 2022, arXiv:2206.00364, algorithm 1)
    """

    def rule(x: Any, x0: Any, noise: Any, a: float, p: float, ahead: Ahead) -> tuple[Any, float]:
        there = p**0.5 * x0 + (1 - p) ** 0.5 * noise
        here_sigma, there_sigma = ((1 - a) / a) ** 0.5, ((1 - p) / p) ** 0.5
        if p == 1 or here_sigma > STEEPEST:
            return there, 0.0
        _, noise_there = ahead(there)
        return there + (p**0.5 * (there_sigma - here_sigma) / 2) * (noise_there - noise), 0.0

    return walk(rule, predict, x, schedule, steps, rng, kind, clip, callback, **course)


SAMPLERS: dict[str, Callable[..., Any]] = {
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "dpm": sample_dpm,
    "heun": sample_heun,
}


def invert_ddim(predict: Predict, x0: Any, schedule: Schedule, steps: int, kind: str = "v") -> Any:
    """The noise (N, …) from which `sample_ddim`, eta 0, would draw about x0 (N, …), by walking its steps backwards.

        x_a = √a·x̂0 + √(1 − a)·ε̂,   with x̂0 and ε̂ read from the x before, at its own noise level

    DDIM reads them at x_a, which is not known here, so that the way back is approximate: its error falls with the
    steps.  The clean picture is read at the lowest timestep of the list.  Raises InputError as `sample_ddpm` does.
    (Song 2021, arXiv:2010.02502, section 4.3)
    """
    timesteps = schedule.timesteps(steps)[::-1]  # ascending
    check_kind(kind)
    x, level = x0, timesteps[0]
    for t in timesteps:
        clean, noise = to_x0_and_noise(predict(x, level), x, float(schedule.alpha_bar[level]), kind)
        x, level = add_noise(clean, noise, float(schedule.alpha_bar[t])), t
    return x


def walk(
    rule: Rule,
    predict: Predict,
    x: Any,
    schedule: Schedule,
    steps: int,
    rng: np.random.Generator,
    kind: str,
    clip: float | None,
    callback: Callback | None,
    spacing: str = "trailing",
    last: int | None = None,
    skip: int = 0,
    adjust: Adjust | None = None,
) -> Any:
    """Go by `rule` from x at the first of `steps` timesteps to the picture.

    spacing: "trailing" or "leading", and last: the noisiest timestep, see `Schedule.timesteps`.  skip: begin that many
    steps later, x being at the noise level of that step: how pictures are changed rather than made.  adjust(x, ᾱ) is
    what the walk goes on from, after each step: how a part of the picture is held.
    """
    timesteps = schedule.timesteps(steps, spacing, last)
    check_kind(kind)
    if clip is not None and not clip > 0:
        raise InputError(f"clip must be a bound above 0, or None; got {clip!r}")
    if not 0 <= skip < steps:
        raise InputError(f"skip must leave one of {steps} steps or more; got {skip!r}")
    # Python floats, so that coefficients are worked out in float64 and leave x's type as it is.
    alpha_bars = [float(schedule.alpha_bar[t]) for t in timesteps]

    def read(x: Any, i: int) -> tuple[Any, Any]:
        """(x̂0, ε̂) of x at the list's step i."""
        x0, noise = to_x0_and_noise(predict(x, timesteps[i]), x, alpha_bars[i], kind)
        if clip is not None:
            x0 = x0.clip(-float(clip), float(clip))  # a NumPy float64 would widen x
            noise = noise_from_x0(x0, x, alpha_bars[i])  # what x holds besides the x̂0 that is used
        return x0, noise

    for i, (a, p) in enumerate(zip(alpha_bars, [*alpha_bars[1:], 1.0], strict=True)):
        if i < skip:
            continue
        x0, noise = read(x, i)
        x, sigma = rule(x, x0, noise, a, p, partial(read, i=i + 1))
        if sigma > 0:  # 0 at the last step
            fresh = rng.standard_normal(x.shape, dtype=np.float32)  # one stream, whatever x's type
            x = x + sigma * array_module(x).asarray(fresh, dtype=x.dtype)
        if adjust is not None:
            x = adjust(x, p)
        if callback is not None:
            callback(i + 1 - skip, x, x0)
    return x


def _log_snr(alpha_bar: float) -> float:
    """λ = ln(√ᾱ/√(1 − ᾱ))."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))
