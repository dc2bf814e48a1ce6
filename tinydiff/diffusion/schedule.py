"""Noise schedules: how much of the image is left at each of T steps.

Step t = 0 … T − 1 holds ᾱ_t, the share of the image's variance: x_t = √ᾱ_t·x0 + √(1 − ᾱ_t)·ε.  ᾱ falls from nearly
1 (the image) to nearly 0 (noise); it is the running product of 1 − β, where β_t is the noise that step t adds.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from tinydiff.errors import InputError

# Sampling begins with pure noise, in which √ᾱ is 0.  Above this, training never showed the network noise as pure as
# that, and brightness leaks (arXiv:2305.08891).  At T = 1000: cosine 5e-5, linear .006, scaled_linear .068.
SIGNAL_LEFT = 0.01
BETA_MAX = 0.999
T_MAX = 1_000_000
SPACINGS = ("trailing", "leading")


@dataclass(frozen=True, eq=False)
class Schedule:
    """A noise schedule: `alpha_bar` float64 (T,), read-only, strictly falling, below 1, above 0 or 0 at the last step.

    Warns where √ᾱ at the last step exceeds `SIGNAL_LEFT`.  Raises InputError where alpha_bar is not such an array, or
    another field has no such value.
    """

    name: str
    alpha_bar: np.ndarray
    timestep_spacing: str = "trailing"  # or "leading": see `timesteps`
    steps_offset: int = 0  # added to "leading" timesteps
    set_alpha_to_one: bool = True  # False: DDIM and PLMS end with the noise of the first step, not with none

    def __post_init__(self) -> None:
        _check_spacing("timestep_spacing", self.timestep_spacing)
        _check_count("steps_offset", self.steps_offset, least=0)
        alpha_bar = np.array(self.alpha_bar, dtype=np.float64)
        falling = alpha_bar.ndim == 1 and alpha_bar.size > 0 and bool(np.all(np.diff(alpha_bar) < 0))
        if not (falling and 0 <= alpha_bar[-1] <= alpha_bar[0] < 1):
            raise InputError(f"Schedule {self.name!r}: alpha_bar must be (T,), fall strictly and stay inside [0, 1)")
        alpha_bar.flags.writeable = False
        object.__setattr__(self, "alpha_bar", alpha_bar)
        if (left := float(np.sqrt(alpha_bar[-1]))) > SIGNAL_LEFT:
            warnings.warn(
                f"schedule {self.name!r} keeps √ᾱ = {left:.3f} of the image at its last step (> {SIGNAL_LEFT}): "
                "sampling begins in pure noise, which training never shows",
                stacklevel=4,  # past __post_init__, __init__ and the function below that made it
            )

    @property
    def num_train_timesteps(self) -> int:
        """T, the number of timesteps that the schedule has."""
        return len(self.alpha_bar)

    @property
    def final_alpha_bar(self) -> float:
        """ᾱ where DDIM and PLMS end."""
        return 1.0 if self.set_alpha_to_one else float(self.alpha_bar[0])

    def timesteps(self, n: int, spacing: str | None = None, last: int | None = None) -> list[int]:
        """n of the steps 0 … last, descending and evenly spaced; last is T − 1 where it is not given.

        "trailing" counts back from the last one: sampling begins where the noise is purest.  "leading" counts up from
        the first one, `steps_offset`, in steps of (last + 1) // n, as DDIM's authors did: the noisiest steps are then
        left out.  None: the schedule's own `timestep_spacing`.
        Raises InputError for an n not in 1 … last + 1, another spacing or last, or where steps_offset leads beyond it.
        (arXiv:2305.08891, table 2)
        """
        if last is not None and not (isinstance(last, Integral) and 0 <= last < self.num_train_timesteps):
            raise InputError(f"last must be one of the steps 0 … {self.num_train_timesteps - 1}; got {last!r}")
        count = self.num_train_timesteps if last is None else last + 1
        _check_count("steps", n, count, f"the length of the {self.name} schedule")
        spacing = self.timestep_spacing if spacing is None else spacing
        _check_spacing("spacing", spacing)
        if spacing == "leading":
            first = self.steps_offset + (n - 1) * (count // n)
            if first >= count:
                beyond = f"reach timestep {first}; the last is {count - 1}"
                raise InputError(f"{n} steps from steps_offset {self.steps_offset} {beyond}")
            return [first - i * (count // n) for i in range(n)]
        return [int(t) - 1 for t in np.round(count * np.arange(n, 0, -1) / n)]


def linear(T: int = 1000) -> Schedule:
    """β from 1e-4 to .02 in even steps, times 1000/T so that any T ends in noise.  (arXiv:2006.11239, section 4)"""
    _check_count("T", T)
    return _from_betas("linear", np.linspace(1e-4, 0.02, T) * (1000 / T))


def cosine(T: int = 1000) -> Schedule:
    """ᾱ(t) = f(t)/f(0), f(t) = cos²((t/T + .008)/1.008 · π/2).  (arXiv:2102.09672, equation 17)

    f(T) is 0, so the last β would be 1: β is clipped at .999, and ᾱ is what the clipped β leave.
    """
    _check_count("T", T)
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    return _from_betas("squaredcos_cap_v2", 1 - f[1:] / f[:-1])


def scaled_linear(T: int = 1000) -> Schedule:
    """√β from √.00085 to √.012 in even steps, β times 1000/T: Stable Diffusion 1.x's.  (arXiv:2112.10752)"""
    _check_count("T", T)
    return _from_betas("scaled_linear", np.linspace(0.00085**0.5, 0.012**0.5, T) ** 2 * (1000 / T))


def iadb(T: int = 1000) -> Schedule:
    """Shares α of image and 1 − α of noise in even steps: √ᾱ/√(1 − ᾱ) = α/(1 − α), α = 1 − (t + ½)/T.

    IADB's path from noise to image, scaled at each step so that its variance stays the noise's.  (arXiv:2305.03486)
    """
    _check_count("T", T)
    alpha = 1 - (np.arange(T) + 0.5) / T
    return Schedule("iadb", alpha**2 / (alpha**2 + (1 - alpha) ** 2))


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "squaredcos_cap_v2": cosine,  # diffusers' name for it
    "iadb": iadb,
}


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """The schedule with √ᾱ shifted and stretched, so that it ends in noise alone.  (arXiv:2305.08891, algorithm 1)

    What a network predicts there must be v or x0: from ε alone nothing can be said of the image.
    """
    root = np.sqrt(schedule.alpha_bar)
    return replace(schedule, alpha_bar=((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2)


def make_schedule(name: str, T: int = 1000) -> Schedule:
    """The schedule of that name, one of SCHEDULES, with T steps; InputError for another name."""
    if name not in SCHEDULES:
        raise InputError(f"make_schedule: no schedule is called {name!r}; there are {', '.join(SCHEDULES)}")
    if isinstance(T, Integral) and T > T_MAX:
        raise InputError(f"make_schedule: {T} timesteps, expected at most {T_MAX}")
    return SCHEDULES[name](T)


def _from_betas(name: str, betas: np.ndarray) -> Schedule:
    return Schedule(name, np.cumprod(1 - np.minimum(betas, BETA_MAX)))


def _check_spacing(what: str, spacing: object) -> None:
    if spacing not in SPACINGS:
        raise InputError(f"{what} must be one of {', '.join(SPACINGS)}; got {spacing!r}")


def _check_count(what: str, n: object, most: int | None = None, limit: str = "", least: int = 1) -> None:
    whole = isinstance(n, Integral) and not isinstance(n, bool)
    if not whole or n < least or (most is not None and n > most):  # type: ignore[operator]
        upper = "up" if most is None else f"to {most}, {limit}"
        raise InputError(f"{what} must be a whole number from {least} {upper}; got {n!r}")
