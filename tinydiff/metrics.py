"""How near: of reconstructions, of two sets of pictures, and of a segmentation to the true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import sqrtm
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

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


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """How many of the generated features (M, D) lie among the real ones (N, D), and how many real ones among them.

    A set is taken as the balls around each of its members that reach to its k-th nearest neighbour; a feature lies in
    it if it is in any ball.  Precision falls where pictures look wrong, recall where kinds of pictures are missing.
    Both depend on the size of the sets: print real against real of the same size beside it.
    Raises InputError unless both have the same D and more than k rows.  (Kynkäänniemi 2019, arXiv:1904.06991)
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1] or k < 1:
        raise InputError(
            f"precision_recall: expected features (N, D) and (M, D), k from 1; got {real.shape}, {generated.shape}, {k}"
        )
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


@dataclass(frozen=True)
class Overlap:
    """How well two masks agree, each from 0 to 1."""

    iou: float  # intersection over union
    dice: float  # twice the intersection over the sum of both
    accuracy: float  # share of the pixels that are right


def overlap(prediction: np.ndarray, truth: np.ndarray) -> Overlap:
    """Agreement of two masks (…), where a pixel is in if it is not 0; two empty ones agree wholly.

    Raises InputError where the shapes differ.
    """
    _same_shape("overlap", prediction, truth)
    a, b = prediction != 0, truth != 0
    both, either = float(np.count_nonzero(a & b)), float(np.count_nonzero(a | b))
    if not either:
        return Overlap(1.0, 1.0, 1.0)
    return Overlap(both / either, 2 * both / (both + either), float(np.mean(a == b)))


@dataclass(frozen=True)
class Objects:
    """How well single objects were found, each from 0 to 1; a pair counts from an IoU above the threshold on."""

    precision: float  # share of the predicted objects that are paired
    recall: float  # share of the true objects that are paired
    f1: float  # harmonic mean of both
    iou: float  # mean intersection over union of the pairs


def objects(prediction: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> Objects:
    """Agreement of numbered objects (H, W), 0 being the background.

    threshold: at least 0.5, so that no object can have two partners.  Raises InputError where it is less, or the shapes
    differ.  (As in Caicedo 2019, Nature Methods 16, 1247)
    """
    _same_shape("objects", prediction, truth)
    if not 0.5 <= threshold < 1:
        raise InputError(f"objects: threshold {threshold}, expected 0.5 or more and less than 1")
    found, a = np.unique(prediction, return_inverse=True)
    true, b = np.unique(truth, return_inverse=True)
    shared = np.bincount(a.ravel() * len(true) + b.ravel(), minlength=len(found) * len(true))
    shared = shared.reshape(len(found), len(true))  # pixels that an object of one has in common with one of the other
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    iou = (shared / union)[found != 0][:, true != 0]
    pairs = iou[iou > threshold]
    if not iou.size:
        nothing = float(iou.shape == (0, 0))  # neither has an object: they agree
        return Objects(nothing, nothing, nothing, nothing)
    precision, recall = len(pairs) / iou.shape[0], len(pairs) / iou.shape[1]
    f1 = 2 * len(pairs) / sum(iou.shape)
    return Objects(precision, recall, f1, float(pairs.mean()) if len(pairs) else 0.0)


def _same_shape(name: str, a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise InputError(f"{name}: the two have shapes {a.shape} and {b.shape}, expected the same")
