"""Classes and border weights, against the plain formula."""

import numpy as np
import pytest

from tinydiff.apps.data.nuclei import load_nuclei, simulate_nuclei
from tinydiff.segmentation import border_weights, classes


def plain_weights(labels, w0, sigma):
    """Equation 2 as it stands, one pixel after another."""
    part = classes(labels)
    cells = [np.argwhere((labels == number) & (part == 1)) for number in np.unique(labels)[1:]]
    cells = [places for places in cells if len(places)]
    weights = np.ones(labels.shape)
    for y, x in np.argwhere(part == 0):
        distances = sorted(np.sqrt(((places - (y, x)) ** 2).sum(1).min()) for places in cells)
        if len(distances) > 1:
            weights[y, x] += w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return weights


@pytest.mark.parametrize("w0, sigma", [(10.0, 5.0), (3.0, 2.0)])
def test_border_weights_are_the_paper_s(w0, sigma):
    _, labels = simulate_nuclei(np.random.default_rng(4), (60, 50), density=0.3)
    got = border_weights(labels, w0, sigma)
    assert got.dtype == np.float32 and got.max() > 0.5 * w0
    assert abs(got - plain_weights(labels, w0, sigma)).max() < 1e-4


def test_numbers_may_have_gaps_and_one_cell_has_no_border():
    labels = np.zeros((30, 30), np.int32)
    assert (border_weights(labels) == 1).all()
    labels[3:9, 3:9] = 7
    assert (border_weights(labels) == 1).all()
    labels[3:9, 12:18] = 40
    weights = border_weights(labels)
    assert weights[5, 10] == pytest.approx(1 + 10 * np.exp(-((2 + 2) ** 2) / 50))
    assert (weights[labels > 0] == 1).all()


def test_touching_cells_are_parted_and_no_others_lose_a_pixel():
    labels = np.zeros((8, 9), np.int32)
    labels[1:4, 1:4], labels[1:4, 4:7], labels[4:7, 1:4] = 1, 2, 3
    part = classes(labels)
    assert part.dtype == np.int64
    for number in (2, 3):
        assert part[labels == number].all()
    lost = np.argwhere((labels > 0) & (part == 0)).tolist()
    assert lost == [[1, 3], [2, 3], [3, 1], [3, 2], [3, 3]]


def test_no_two_real_nuclei_touch_once_parted():
    _, labels = load_nuclei()
    part = np.where(classes(labels) == 1, labels, 0)
    for a, b in ((part[:, :-1], part[:, 1:]), (part[:-1], part[1:])):
        assert not ((a != b) & (a > 0) & (b > 0)).any()
