"""Measures, against what can be counted by hand."""

import numpy as np
import pytest

from tinydiff.errors import InputError
from tinydiff.evaluation.metrics import frechet_distance, nearest, precision_recall, psnr
from tinydiff.segmentation.metrics import Objects, Overlap, objects, overlap


def test_psnr_by_hand():
    images = np.array([[[0, 10], [250, 255]]], np.uint8)
    others = np.array([[[0, 20], [0, 255]]], np.uint8)  # 0 − 250 must not wrap around
    assert psnr(images, others) == pytest.approx(10 * np.log10(255**2 / ((10**2 + 250**2) / 4)), rel=1e-12)
    assert psnr(images, others) == psnr(others, images)
    assert psnr(images, images) == np.inf
    for a, b in ((images, others[0]), (images / 255, others), (images, others / 255)):
        with pytest.raises(InputError, match="psnr: expected two uint8 arrays of one shape"):
            psnr(a, b)


def test_overlap_by_hand():
    a, b = np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([0, 7, 7, 7, 7, 0, 0, 0])
    found = overlap(a, b)
    assert (found.iou, found.dice, found.accuracy) == (2 / 5, 4 / 7, 5 / 8)
    assert overlap(b, a) == found


def test_nothing_overlaps_with_nothing():
    assert overlap(np.zeros(4), np.zeros(4)) == Overlap(1, 1, 1)
    assert overlap(np.zeros(4), np.ones(4)).iou == 0
    assert objects(np.zeros((2, 2), int), np.zeros((2, 2), int)) == Objects(1, 1, 1, 1)
    assert objects(np.ones((2, 2), int), np.zeros((2, 2), int)) == Objects(0, 0, 0, 0)


def test_objects_by_hand():
    truth, found = np.zeros((4, 12), int), np.zeros((4, 12), int)
    truth[:, :4], truth[:, 4:8], truth[:2, 9:] = 3, 9, 20
    found[:, :3] = 5  # 12 of 16 pixels: IoU 3/4
    found[:, 4:6] = 1  # 8 of 16: exactly half is not enough
    found[3, 9:] = 2  # beside its object
    right = objects(found, truth)
    assert right == Objects(1 / 3, 1 / 3, 1 / 3, 3 / 4)
    assert objects(found, truth, 0.8).f1 == 0
    assert objects(truth, truth) == Objects(1, 1, 1, 1)


def test_numbers_do_not_matter():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, (20, 20))
    renamed = np.array([0, 44, 3, 12, 7])[truth]
    assert objects(renamed, truth).f1 == 1


def test_a_wide_object_does_not_swallow_two():
    truth = np.repeat([[1, 1, 2, 2]], 4, 0)
    assert objects(np.ones((4, 4), int), truth) == Objects(0, 0, 0, 0)


def test_bad_input():
    with pytest.raises(InputError, match=r"overlap: the two have shapes \(2,\) and \(3,\)"):
        overlap(np.zeros(2), np.zeros(3))
    with pytest.raises(InputError, match="threshold 0.4, expected 0.5 or more"):
        objects(np.zeros((2, 2)), np.zeros((2, 2)), 0.4)


def test_the_frechet_distance_of_gaussians_has_a_closed_form():
    """Diagonal covariances: ‖μ − μ'‖² + Σ (σ − σ')²."""
    rng = np.random.default_rng(0)
    scale, other = np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.0, 0.5])
    a = rng.standard_normal((200_000, 3)) * scale
    b = rng.standard_normal((200_000, 3)) * other + [1, 0, -2]
    assert frechet_distance(a, b) == pytest.approx(5 + ((scale - other) ** 2).sum(), rel=0.01)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def plain_precision_recall(real, generated, k):
    def inside(points, members):
        found = 0
        for point in points:
            for i, member in enumerate(members):
                to_others = sorted(np.linalg.norm(member - other) for j, other in enumerate(members) if j != i)
                if np.linalg.norm(point - member) <= to_others[k - 1]:
                    found += 1
                    break
        return found / len(points)

    return inside(generated, real), inside(real, generated)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_the_plain_ones(k):
    rng = np.random.default_rng(k)
    real, generated = rng.standard_normal((40, 3)), 0.5 * rng.standard_normal((30, 3)) + 0.4
    found = precision_recall(real, generated, k)
    assert found == pytest.approx(plain_precision_recall(real, generated, k))
    assert 0.1 < found[1] < found[0]  # the generated ones are near the real ones, and of less variety


def test_what_is_wrong_lowers_precision_and_what_is_missing_lowers_recall():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + 20])
    half_missing, half_wrong = (
        rng.standard_normal((400, 2)),
        np.concatenate([real[:200:2], rng.normal(-50, 1, (100, 2))]),
    )
    precision, recall = precision_recall(real, half_missing)
    assert precision > 0.9 and 0.4 < recall < 0.55
    precision, _ = precision_recall(real, half_wrong)
    assert precision == pytest.approx(0.5)


def test_nearest_by_hand():
    index, distance = nearest(np.array([[0.0, 0.0], [5.0, 1.0]]), np.array([[5.0, 0.0], [0.0, 3.0]]))
    assert index.tolist() == [1, 0] and distance.tolist() == [3, 1]


def test_features_that_do_not_fit():
    with pytest.raises(InputError, match=r"got \(3, 2\), \(3, 4\), 3"):
        precision_recall(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(InputError, match="3 and 9 features, expected more than k = 3"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))
