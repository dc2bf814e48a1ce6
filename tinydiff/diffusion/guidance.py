"""Classifier-free guidance: away from what any prompt would give, towards what this prompt gives."""

from collections.abc import Callable
from math import inf, isfinite
from typing import Any

from tinydiff.device import array_module
from tinydiff.errors import InputError

GUIDANCE_SCALE = 5.0  # chosen, with the interval, for images that show their prompt and differ as real ones do
GUIDANCE_INTERVAL = (0.0, 0.7)  # guidance acts only where low ≤ t/T < high: 0 is nearly clean, 1 nearly noise


def classifier_free_guidance(
    predict: Callable[[Any, int, Any], Any],
    conditional: Any,
    unconditional: Any,
    scale: float,
    timestep_interval: tuple[float, float] = (0, inf),
) -> Callable[[Any, int], Any]:
    """The function (x_t, t) → u + scale·(c − u) that a sampler calls, u without and c with the prompt.

    predict(x_t (M, …), t, text) is the network; conditional and unconditional are its texts for N images, arrays
    (N, …): the encoded prompt, and the empty (or negative) one.  scale 1 is the prompt alone and 0 the empty prompt
    alone, at half the work; else both run as one batch of 2N, the empty prompt first.  As u and c enter with weights
    that sum to 1, it holds for predicted noise and for predicted v alike.
    (Ho & Salimans 2022, arXiv:2207.12598, equation 6, where scale is 1 + w)  timestep_interval: only at low ≤ t < high,
    as at the noisiest levels guidance takes diversity and gives little.  (Kynkäänniemi 2024, arXiv:2404.07724)
    Raises InputError for a scale that is not finite, or where the two differ in shape.
    """
    if not isfinite(scale):
        raise InputError(f"guidance_scale must be a finite number; got {scale!r}")
    if conditional.shape != unconditional.shape:
        shapes = f"conditional is {conditional.shape} but unconditional {unconditional.shape}"
        raise InputError(f"classifier_free_guidance: {shapes}")
    if scale in (0, 1):
        alone = conditional if scale == 1 else unconditional
        return lambda x, t: predict(x, t, alone)
    weight = float(scale)  # a NumPy float64 would widen float32 images
    texts = array_module(conditional).concatenate([unconditional, conditional])  # (2N, …)

    def predict_guided(x: Any, t: int) -> Any:
        if not timestep_interval[0] <= t < timestep_interval[1]:
            return predict(x, t, conditional)
        both = predict(array_module(x).concatenate([x, x]), t, texts)  # (2N, …)
        u, c = both[: len(x)], both[len(x) :]
        return u + weight * (c - u)

    return predict_guided
