"""How near: peak signal-to-noise ratio of reconstructions, Fréchet distance of two sets of pictures."""

from __future__ import annotations

import numpy as np
from scipy.linalg import sqrtm

from tinydiff.errors import InputError


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 pictures, in dB: 10·log₁₀(255² / mean squared error over all of them)."""
    if images.shape != others.shape or images.dtype != np.uint8 or others.dtype != np.uint8:
        raise InputError(f"psnr: expected two uint8 arrays of one shape, got {images.shape} and {others.shape}")
    error = np.mean(np.square(images.astype(np.float32) - others), dtype=np.float64)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two sets of features (N, D), (M, D), each taken as a Gaussian:

        ‖μ_a − μ_b‖² + trace(Σ_a + Σ_b − 2·(Σ_a·Σ_b)^½)

    It compares only within one feature network, and falls with N: print real against real of the same size beside it.
    Raises InputError unless both have the same D and more than one row.  (Heusel 2017, arXiv:1706.08500)
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(f"frechet_distance: expected features (N, D) and (M, D), got {a.shape} and {b.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    root = sqrtm(cov_a @ cov_b)
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b) - 2 * np.trace(root).real)
