"""From noise to an image: DDPM, DDIM, DPM-Solver++(2M), Heun, PLMS and Euler, with any number of timesteps.

One loop, `sample`, walks a list of timesteps for all of them.  At each, the network's prediction is read as (x̂0, ε̂),
and the sampler's step says where to go next: a mean, and how much fresh noise around it.  After the last timestep comes
the image, ᾱ = 1, without noise (but see `State.end`).  In the formulas a = ᾱ here and p = ᾱ at the next
timestep of the list, never simply that of t − 1 (the papers, which count t upwards, call it the "previous" one, and
diffusers takes t − T // steps, which is off its own list where "trailing" steps do not divide T).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tinydiff.device import array_module
from tinydiff.diffusion.prediction import add_noise, check_prediction_type, noise_from_x0, to_x0_and_noise
from tinydiff.diffusion.schedule import Schedule
from tinydiff.errors import InputError

Predict = Callable[[Any, int], Any]  # (x_t (N, …), t) → the network's prediction (N, …)

SIGMA_MAX = 80.0  # √(1 − ᾱ)/√ᾱ above which Heun's and PLMS's corrections are left out  (Karras 2022, table 1)


@dataclass(frozen=True)
class State:
    """What a step sees: x (N, …) at ᾱ = a, what the network makes of it, and where to go."""

    x: Any
    x0: Any  # x̂0 (N, …)
    noise: Any  # ε̂ (N, …)
    a: float  # ᾱ here
    p: float  # ᾱ at the next timestep
    ahead: Callable[[Any], tuple[Any, Any]]  # x at the next timestep → (x̂0, ε̂) there, by asking the network again
    before: State | None = None  # the state of the step before, none at the first
    noises: tuple[Any, ...] = ()  # ε̂ of the steps before, the newest first, three at most
    end: float = 1.0  # where DDIM and PLMS end: the schedule's `final_alpha_bar`


Step = Callable[[State], tuple[Any, float]]  # → mean (N, …) and standard deviation of what comes next


def ddpm_step(s: State) -> tuple[Any, float]:
    """Draw from the posterior q(x_p | x_a, x̂0).  (Ho 2020, arXiv:2006.11239, equations 6 and 7, α = a/p for jumps)"""
    alpha = s.a / s.p
    beta = 1 - alpha
    mean = (beta * s.p**0.5 / (1 - s.a)) * s.x0 + ((1 - s.p) * alpha**0.5 / (1 - s.a)) * s.x
    return mean, (beta * (1 - s.p) / (1 - s.a)) ** 0.5


def ddim_step(s: State, eta: float = 0.0) -> tuple[Any, float]:
    """Go along x̂0 and ε̂.  eta in [0, 1] is the share of fresh noise: 0 draws none, 1 has DDPM's law.

    `partial(ddim_step, eta=0.5)` is a step of its own.  (Song 2021, arXiv:2010.02502, equations 12 and 16)
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie in [0, 1]; got {eta!r}")
    p = min(s.p, s.end)
    sigma = eta * ((1 - p) / (1 - s.a) * (1 - s.a / p)) ** 0.5
    direction = max(1 - p - sigma**2, 0.0) ** 0.5  # at eta = 1 and a ≈ 0 it is 0, give or take a rounding
    return p**0.5 * s.x0 + direction * s.noise, sigma


def dpm_step(s: State) -> tuple[Any, float]:
    """DPM-Solver++(2M): DDIM's step with x̂0 extrapolated from the last two, on the scale λ = ln √(ᾱ/(1 − ᾱ)).

        x_p = √((1−p)/(1−a))·x − √p·(e^−h − 1)·(x̂0 + (x̂0 − x̂0 before)/(2·r)),   h = λ_p − λ_a,   r = (λ_a − λ before)/h

    The first step has nothing before it, and the last one's h is infinite: both are DDIM's.
    (Lu 2022, arXiv:2211.01095, algorithm 2)
    """
    if s.p == 1:
        return s.x0, 0.0
    h, x0 = log_snr(s.p) - log_snr(s.a), s.x0
    if s.before is not None:
        r = (log_snr(s.a) - log_snr(s.before.a)) / h
        x0 = x0 + (x0 - s.before.x0) * (1 / (2 * r))
    return ((1 - s.p) / (1 - s.a)) ** 0.5 * s.x - (s.p**0.5 * math.expm1(-h)) * x0, 0.0


def heun_step(s: State) -> tuple[Any, float]:
    """Heun: look where DDIM's step leads, and go by the mean of both slopes; it asks the network twice.

    In x̄ = x/√ᾱ the slope dx̄/dσ̄ is ε̂, with σ̄ = √((1 − ᾱ)/ᾱ); DDIM is Euler's step there, and the correction is

        x_p = DDIM's x_p + √p·(σ̄_p − σ̄_a)·(ε̂ there − ε̂ here)/2

    Steps from σ̄ > 80, where a difference in ε̂ is all rounding, and the last one are DDIM's.
    (Karras 2022, arXiv:2206.00364, algorithm 1)
    """
    there = s.p**0.5 * s.x0 + (1 - s.p) ** 0.5 * s.noise
    if s.p == 1 or _is_nearly_noise(s):
        return there, 0.0
    here_sigma, there_sigma = ((1 - s.a) / s.a) ** 0.5, ((1 - s.p) / s.p) ** 0.5
    _, noise_there = s.ahead(there)
    return there + (s.p**0.5 * (there_sigma - here_sigma) / 2) * (noise_there - s.noise), 0.0


def plms_step(s: State) -> tuple[Any, float]:
    """PLMS (PNDM without its warm-up): DDIM's step along a mix of the last ε̂, as Adams and Bashforth weigh slopes.

        (3·ε₀ − ε₁)/2      (23·ε₀ − 16·ε₁ + 5·ε₂)/12      (55·ε₀ − 59·ε₁ + 37·ε₂ − 9·ε₃)/24      ε₀ the newest

    The first step has nothing before it: it looks where DDIM's leads, as Heun's does, and goes by the mean of both ε̂.
    N steps so ask the network N + 1 times, wherever on the list they begin.  (diffusers' image to image slices a list
    in which the second timestep stands twice; a step is then read one timestep off, which is not followed here.)
    Steps from σ̄ > 80, where a difference in ε̂ is all rounding, are DDIM's.  It wants many steps, fifty or so: with ten
    it is behind DDIM, above all where the slope jumps, as it does where guidance begins within its interval.
    (Liu 2022, arXiv:2202.09778, equations 9, 12 and 13; Stable Diffusion's)
    """
    p = min(s.p, s.end)

    def along(noise: Any) -> Any:
        x0 = (s.x - (1 - s.a) ** 0.5 * noise) * (1 / s.a**0.5)
        return p**0.5 * x0 + (1 - p) ** 0.5 * noise

    if _is_nearly_noise(s) or (s.p == 1 and not s.noises):
        return p**0.5 * s.x0 + (1 - p) ** 0.5 * s.noise, 0.0
    if s.noises:
        weights = ADAMS_BASHFORTH[len(s.noises)]
        return along(sum(w * noise for w, noise in zip(weights, (s.noise, *s.noises), strict=True))), 0.0
    _, ahead = s.ahead(along(s.noise))
    return along((s.noise + ahead) * 0.5), 0.0


ADAMS_BASHFORTH = {
    1: (3 / 2, -1 / 2),
    2: (23 / 12, -16 / 12, 5 / 12),
    3: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def euler_step(s: State) -> tuple[Any, float]:
    """Euler in x̄ = x/√ᾱ, where the slope is ε̂: x̄ + ε̂·(σ̄_p − σ̄_a), which is DDIM's step, always to the clean image.

    diffusers' "leading" Euler begins where this does, its "trailing" one with x̄ = σ̄·noise, x = √(1 − ᾱ)·noise here.
    (Karras 2022, arXiv:2206.00364, section 4, which samples x̄; x and x̄ see the same network)
    """
    return ddim_step(replace(s, end=1.0))


def euler_ancestral_step(s: State) -> tuple[Any, float]:
    """Euler with fresh noise: down to σ̄² = σ̄_p²·(σ̄_p/σ̄_a)², and up to σ̄_p again; DDIM's step with eta = 1.

    With z ~ N(0, 1): x̄ + ε̂·(σ̄_down − σ̄_a) + σ̄_up·z, σ̄_up² = σ̄_p²·(σ̄_a² − σ̄_p²)/σ̄_a², σ̄_down² = σ̄_p² − σ̄_up².
    (Song 2021, arXiv:2011.13456, appendix F)
    """
    return ddim_step(replace(s, end=1.0), eta=1.0)


SAMPLERS: dict[str, Step] = {
    "ddim": ddim_step,
    "ddpm": ddpm_step,
    "dpm": dpm_step,
    "heun": heun_step,
    "plms": plms_step,
    "euler": euler_step,
    "euler-ancestral": euler_ancestral_step,
}


@dataclass(frozen=True)
class Options:
    """What a sampling loop may be told beyond its sampler and its number of steps."""

    clip: float | None = None  # x̂0 is held in [−clip, clip]: 1 for pixels, None in latent space
    spacing: str | None = None  # of the timesteps, "trailing" or "leading"; else the schedule's, see `timesteps`
    last: int | None = None  # the noisiest timestep; None is the schedule's last
    skip: int = 0  # begin so many steps later, x being as noisy as that step expects: how images are edited
    adjust: Callable[[Any, float], Any] | None = None  # (x, its ᾱ) → the x to go on from: what inpainting puts in
    callback: Callable[[int, Any, Any], None] | None = None  # (steps done, x, x̂0) after each step


DEFAULTS = Options()


def sample(
    step: Step,
    predict: Predict,
    x: Any,
    schedule: Schedule,
    steps: int,
    rng: np.random.Generator,
    prediction_type: str = "v_prediction",
    options: Options = DEFAULTS,
) -> Any:
    """Denoise x (N, …) ~ N(0, 1) in `steps` of the schedule's timesteps; returns (N, …) in x's type.

    step: one of `SAMPLERS`, or your own.  predict(x_t, t) → the network's prediction, of `prediction_type`.
    Raises InputError for steps not in 1 … T, and for a bad prediction_type or option.

        predict = lambda x, t: unet(Tensor(x), np.full(len(x), t), text).data
        x0 = sample(ddim_step, predict, noise, cosine(), 25, np.random.default_rng(0))
    """
    timesteps = schedule.timesteps(steps, options.spacing, options.last)
    check_prediction_type(prediction_type)
    clip, skip = options.clip, options.skip
    if clip is not None and not clip > 0:
        raise InputError(f"clip must be a bound above 0, or None; got {clip!r}")
    if not 0 <= skip < steps:
        raise InputError(f"skip must leave one of {steps} steps or more; got {skip!r}")
    # Python floats, so that coefficients are worked out in float64 and leave x's type as it is.
    alpha_bars = [float(schedule.alpha_bar[t]) for t in timesteps]

    def read(x: Any, i: int) -> tuple[Any, Any]:
        """(x̂0, ε̂) of x at timestep i of the list."""
        x0, noise = to_x0_and_noise(predict(x, timesteps[i]), x, alpha_bars[i], prediction_type)
        if clip is not None:
            x0 = x0.clip(-float(clip), float(clip))  # a NumPy float64 would widen x
            noise = noise_from_x0(x0, x, alpha_bars[i])  # what x holds besides the x̂0 that is used
        return x0, noise

    state = None
    for i in range(skip, steps):
        p = alpha_bars[i + 1] if i + 1 < steps else 1.0
        before = None if state is None else replace(state, before=None, noises=())
        noises = () if state is None else (state.noise, *state.noises)[:3]
        a, end = alpha_bars[i], schedule.final_alpha_bar
        state = State(x, *read(x, i), a, p, partial(read, i=i + 1), before, noises, end)
        x, sigma = step(state)
        if sigma > 0:  # 0 at the last step, if it ends at the image
            fresh = rng.standard_normal(x.shape, dtype=np.float32)  # one stream, whatever x's type
            x = x + sigma * array_module(x).asarray(fresh, dtype=x.dtype)
        if options.adjust is not None:
            x = options.adjust(x, p)
        if options.callback is not None:
            options.callback(i + 1 - skip, x, state.x0)
    return x


def invert_ddim(
    predict: Predict, x0: Any, schedule: Schedule, steps: int, prediction_type: str = "v_prediction"
) -> Any:
    """The noise (N, …) from which DDIM would generate about x0 (N, …): its steps taken backwards.

        x_a = √a·x̂0 + √(1 − a)·ε̂,   with x̂0 and ε̂ read from the x before, at its own timestep

    DDIM reads them at x_a, which is not known here, so that the way back is approximate: its error falls with the
    steps.  The clean image is read at the lowest timestep of the list.  Raises InputError as `sample` does.
    (Song 2021, arXiv:2010.02502, section 4.3)
    """
    timesteps = schedule.timesteps(steps)[::-1]  # ascending
    check_prediction_type(prediction_type)
    x, t_here = x0, timesteps[0]
    for t in timesteps:
        clean, noise = to_x0_and_noise(predict(x, t_here), x, float(schedule.alpha_bar[t_here]), prediction_type)
        x, t_here = add_noise(clean, noise, float(schedule.alpha_bar[t])), t
    return x


def _is_nearly_noise(s: State) -> bool:
    """Whether σ̄ = √(1 − ᾱ)/√ᾱ is above `SIGMA_MAX`, as in pure noise, where it is infinite."""
    return 1 - s.a > SIGMA_MAX**2 * s.a


def log_snr(alpha_bar: float) -> float:
    """λ = ln(√ᾱ/√(1 − ᾱ)), −∞ in pure noise."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar)) if alpha_bar else -math.inf
