"""exp, sigmoid and erf in plain float32 arithmetic, so that the loops around them become vectors.

The C library's versions are called one number at a time; these are polynomials without a branch.
"""

import numpy as np

from tinydiff.kernels.cpu.jit import helper
from tinydiff.kernels.cpu.vectors import power_of_two

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # ln 2 in two parts: the first is exact
HALF, ONE = np.float32(0.5), np.float32(1)


@helper
def exp(x):  # type: ignore[no-untyped-def]
    """eˣ = 2ᵏ·eʳ with |r| ≤ ln2/2, eʳ by its Taylor polynomial; relative error ≤ 2e-7.  NaN stays NaN."""
    bounded = min(max(x, np.float32(-87)), np.float32(88))
    k = np.floor(bounded * LOG2_E + HALF)
    r = (bounded - k * LN2_HIGH) - k * LN2_LOW
    p = np.float32(1 / 5040)
    p = p * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + HALF
    y = (p * r * r + r + ONE) * power_of_two(np.int32(k))
    return y if x == x else x


@helper
def sigmoid(x):  # type: ignore[no-untyped-def]
    """σ(x) = 1 / (1 + e⁻ˣ)."""
    return ONE / (ONE + exp(-x))


@helper
def normal_cdf(x):  # type: ignore[no-untyped-def]
    """Φ(x) = (1 + erf(x/√2))/2, absolute error ≤ 2e-7.  (Abramowitz & Stegun 1964, formula 7.1.26)"""
    z = abs(x) * np.float32(0.7071067811865476)
    t = ONE / (ONE + np.float32(0.3275911) * z)
    p = np.float32(1.061405429)
    p = p * t + np.float32(-1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t + np.float32(-0.284496736)
    p = p * t + np.float32(0.254829592)
    tail = HALF * p * t * exp(-z * z)
    return ONE - tail if x > 0 else tail
