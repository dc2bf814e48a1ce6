"""How near a segmentation is to the true one: of masks pixel by pixel, and of single objects."""

from dataclasses import dataclass

import numpy as np

from tinydiff.errors import InputError


@dataclass(frozen=True)
class Overlap:
    """How far two masks overlap, each from 0 to 1."""

    iou: float  # intersection over union
    dice: float  # twice the intersection over the sum of both
    accuracy: float  # share of the pixels that are right


def overlap(prediction: np.ndarray, truth: np.ndarray) -> Overlap:
    """Overlap of two masks (…), where a pixel is in if it is not 0; of two empty ones it is 1.

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
    """Pairs of numbered objects (H, W), 0 being the background.

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
        nothing = float(iou.shape == (0, 0))  # neither has an object: all are found
        return Objects(nothing, nothing, nothing, nothing)
    precision, recall = len(pairs) / iou.shape[0], len(pairs) / iou.shape[1]
    f1 = 2 * len(pairs) / sum(iou.shape)
    return Objects(precision, recall, f1, float(pairs.mean()) if len(pairs) else 0.0)


def _same_shape(name: str, a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise InputError(f"{name}: the two have shapes {a.shape} and {b.shape}, expected the same")
