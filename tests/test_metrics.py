"""Measures of a segmentation, against what can be counted by hand."""

import numpy as np
import pytest

from tinydiff.errors import InputError
from tinydiff.metrics import Objects, objects, overlap


def test_overlap_by_hand():
    a, b = np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([0, 7, 7, 7, 7, 0, 0, 0])
    found = overlap(a, b)
    assert (found.iou, found.dice, found.accuracy) == (2 / 5, 4 / 7, 5 / 8)
    assert overlap(b, a) == found


def test_nothing_agrees_with_nothing():
    assert overlap(np.zeros(4), np.zeros(4)).iou == 1 and overlap(np.zeros(4), np.ones(4)).iou == 0
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
    assert objects(np.ones((4, 4), int), truth).f1 == 0


def test_bad_input():
    with pytest.raises(InputError, match=r"overlap: the two have shapes \(2,\) and \(3,\)"):
        overlap(np.zeros(2), np.zeros(3))
    with pytest.raises(InputError, match="threshold 0.4, expected 0.5 or more"):
        objects(np.zeros((2, 2)), np.zeros((2, 2)), 0.4)
