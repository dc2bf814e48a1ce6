"""How near: of reconstructions to their images, and of two sets of images to each other."""

import numpy as np
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from tinydiff.errors import InputError


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images, in dB: 10·log₁₀(255² / mean squared error over all of them)."""
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


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """How many of the generated features (M, D) lie among the real ones (N, D), and how many real ones among them.

    A feature lies among others if it is in any of their balls, which reach to each one's k-th nearest neighbour.
    Precision falls where images look wrong, recall where kinds of images are missing; both depend on the sets' size.
    Raises InputError unless both have the same D and more than k rows.  (Kynkäänniemi 2019, arXiv:1904.06991)
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1] or k < 1:
        got = f"{real.shape}, {generated.shape}, {k}"
        raise InputError(f"precision_recall: expected features (N, D) and (M, D), k from 1; got {got}")
    if min(len(real), len(generated)) <= k:
        raise InputError(f"precision_recall: {len(real)} and {len(generated)} features, expected more than k = {k}")
    return _inside(generated, real, k), _inside(real, generated, k)


def _inside(points: np.ndarray, members: np.ndarray, k: int) -> float:
    """The share of points (M, D) that lie in a ball around one of the members (N, D)."""
    tree = cKDTree(members)
    radii = tree.query(members, k + 1)[0][:, -1]  # the nearest of all is itself
    distances = cdist(points, members)  # (M, N)
    return float((distances <= radii).any(1).mean())


def nearest(points: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of the points (M, D) the index of its nearest member (N, D), and how far that is."""
    distance, index = cKDTree(members).query(points)
    return index, distance
