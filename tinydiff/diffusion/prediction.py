"""What the network sees and what it predicts.

Noisy image:     x_t = √ᾱ·x0 + √(1 − ᾱ)·ε                 (Ho 2020, arXiv:2006.11239, equation 4)
Velocity:          v = √ᾱ·ε − √(1 − ᾱ)·x0                 (Salimans & Ho 2022, arXiv:2202.00512, appendix D)
IADB:              D = x0 − ε                              (Heitz 2023, arXiv:2305.03486; see iadb.py)

(x_t, v) is (x0, ε) turned by an angle, so turning back never divides: the network that predicts v is as well
conditioned in pure noise (ᾱ = 0) as next to the image.  From D, too, nothing is divided by less than 1.  From a
predicted ε, x0 needs a division by √ᾱ, and from a predicted x0, ε one by √(1 − ᾱ).

Everywhere: x0, noise, x_t are floats of one shape (N, …), whose type is kept; alpha_bar is a number or one each, (N,).
"""

from typing import Any

import numpy as np

from tinydiff.device import array_module
from tinydiff.errors import InputError

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction", "iadb")  # the first three as diffusers calls them


def add_noise(x0: Any, noise: Any, alpha_bar: Any) -> Any:
    """x_t = √ᾱ·x0 + √(1 − ᾱ)·ε.  Raises InputError where shapes or types do not fit.  (arXiv:2006.11239, equation 4)"""
    signal, sigma = _roots("add_noise", x0, noise, alpha_bar)
    return signal * x0 + sigma * noise


def target(x0: Any, noise: Any, alpha_bar: Any, prediction_type: str) -> Any:
    """What the network has to predict: ε ("epsilon"), x0 ("sample"), v ("v_prediction") or x0 − ε ("iadb").

    Raises InputError for another type, or where shapes or types do not fit.  (arXiv:2202.00512, appendix D)
    """
    check_prediction_type(prediction_type)
    signal, sigma = _roots("target", x0, noise, alpha_bar)
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return x0
    return x0 - noise if prediction_type == "iadb" else signal * noise - sigma * x0


def to_x0_and_noise(prediction: Any, x_t: Any, alpha_bar: Any, prediction_type: str) -> tuple[Any, Any]:
    """(x̂0, ε̂) that a prediction means for x_t: add_noise(x̂0, ε̂, ᾱ) is x_t again.

    "epsilon" divides by √ᾱ, so ᾱ must not be 0 there, and "sample" by √(1 − ᾱ); "v_prediction" divides by nothing,
    "iadb" by √ᾱ + √(1 − ᾱ) ≥ 1.  Raises InputError for another type, or where shapes or types do not fit.
    """
    check_prediction_type(prediction_type)
    signal, sigma = _roots("to_x0_and_noise", x_t, prediction, alpha_bar)
    if prediction_type == "v_prediction":
        return signal * x_t - sigma * prediction, signal * prediction + sigma * x_t
    if prediction_type == "iadb":
        return (x_t + sigma * prediction) / (signal + sigma), (x_t - signal * prediction) / (signal + sigma)
    if prediction_type == "sample":
        return prediction, noise_from_x0(prediction, x_t, alpha_bar)
    if not np.all(np.asarray(alpha_bar) > 0):
        raise InputError("to_x0_and_noise: where ᾱ is 0 a predicted epsilon says nothing about x0; predict v there")
    return (x_t - sigma * prediction) / signal, prediction


def noise_from_x0(x0: Any, x_t: Any, alpha_bar: Any) -> Any:
    """ε = (x_t − √ᾱ·x0)/√(1 − ᾱ): the noise that is in x_t if x0 is the image (ᾱ < 1)."""
    signal, sigma = _roots("noise_from_x0", x_t, x0, alpha_bar)
    return (x_t - signal * x0) / sigma


def check_prediction_type(prediction_type: str) -> None:
    """Raises InputError unless it is one of `PREDICTION_TYPES`."""
    if prediction_type not in PREDICTION_TYPES:
        raise InputError(f"prediction_type must be one of {', '.join(PREDICTION_TYPES)}; got {prediction_type!r}")


def shares(name: str, share: Any, x: Any) -> np.ndarray:
    """A share in [0, 1], a number or one each, (N,), in float64 and shaped to multiply x (N, …); else InputError."""
    share = np.asarray(share, np.float64)
    if share.ndim and share.shape != x.shape[:1]:
        raise InputError(f"{name} is {share.shape}, but x {tuple(x.shape)} needs a number or one each")
    if not np.all((share >= 0) & (share <= 1)):
        raise InputError(f"{name} must lie in [0, 1]")
    return share.reshape(-1, *[1] * (x.ndim - 1)) if share.ndim else share  # (N, 1, …), or one number


def _roots(caller: str, x: Any, other: Any, alpha_bar: Any) -> tuple[Any, Any]:
    """√ᾱ and √(1 − ᾱ) in x's type, shaped to multiply x (N, …); taken in float64, where 1 − ᾱ keeps its digits."""
    if x.shape != other.shape or x.dtype != other.dtype or x.dtype.kind != "f":
        raise InputError(
            f"{caller}: two float arrays of one shape and type are needed; "
            f"got {x.dtype} {tuple(x.shape)} and {other.dtype} {tuple(other.shape)}"
        )
    alpha_bar = shares(f"{caller}: alpha_bar", alpha_bar, x)
    xp = array_module(x)
    return xp.asarray(np.sqrt(alpha_bar), dtype=x.dtype), xp.asarray(np.sqrt(1 - alpha_bar), dtype=x.dtype)
