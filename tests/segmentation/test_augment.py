"""What is done to the image is done to its mask."""

import numpy as np
import pytest
from scipy import ndimage

from tinydiff.segmentation import Augmentation, cut, deformation

STILL = Augmentation(elastic_sigma=0, flips=False, contrast=0, brightness=0)


def smooth_pair():
    """An image whose grey value is 10 × the label: whoever moves them apart is seen."""
    y, x = np.mgrid[0:90, 0:80]
    labels = ((y // 30) * 3 + x // 27 + 1).astype(np.int32)
    return labels[:, :, None].astype(np.float32) * 10, labels, labels.astype(np.float32) * 100


@pytest.mark.parametrize("seed", range(6))
def test_image_labels_and_weights_move_together(seed):
    image, labels, weights = smooth_pair()
    how = Augmentation(elastic_sigma=6, contrast=0, brightness=0)
    piece, part, heavy = cut(np.random.default_rng(seed), image, labels, weights, 48, how)
    assert piece.shape == (48, 48, 1) and part.shape == heavy.shape == (48, 48)
    assert piece.dtype == np.float32 and part.dtype == np.int32
    inside = ndimage.maximum_filter(part, 7) == ndimage.minimum_filter(part, 7)  # between cells grey values are mixed
    assert inside.mean() > 0.4
    assert np.allclose(piece[inside][:, 0], 10 * part[inside], atol=1e-3)
    assert np.allclose(heavy[inside], 100 * part[inside], atol=1e-2)


def test_without_changes_it_is_a_piece_of_the_image():
    rng = np.random.default_rng(0)
    image, labels = rng.standard_normal((40, 50, 3)).astype(np.float32), rng.integers(0, 9, (40, 50))
    piece, part, _ = cut(rng, image, labels, np.ones((40, 50)), 16, STILL)
    places = [
        (top, left)
        for top in range(25)
        for left in range(35)
        if np.array_equal(labels[top : top + 16, left : left + 16], part)
    ]
    ((top, left),) = places
    assert np.allclose(piece, image[top : top + 16, left : left + 16])


def test_a_piece_lies_within_a_large_image():
    labels = np.arange(20 * 30).reshape(20, 30)
    image, corners = np.zeros((20, 30, 1), np.float32), set()
    for seed in range(200):
        _, part, _ = cut(np.random.default_rng(seed), image, labels, np.ones((20, 30)), 16, STILL)
        assert len(np.unique(part)) == 16 * 16  # beyond the border it would go on as in a mirror
        corners.add(divmod(int(part[0, 0]), 30))
    assert {row for row, _ in corners} == set(range(5)) and {column for _, column in corners} == set(range(15))


def test_a_small_image_goes_on_as_in_a_mirror():
    image = np.arange(5, dtype=np.float32)[:, None, None] + np.zeros((5, 5, 1), np.float32)
    piece, *_ = cut(np.random.default_rng(0), image, np.zeros((5, 5), int), np.ones((5, 5)), 12, STILL)
    assert np.allclose(piece[:, 0, 0], [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3])


def test_labels_are_never_mixed():
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:30] = 100
    image, rng = np.zeros((40, 40, 1), np.float32), np.random.default_rng(0)
    for _ in range(5):
        assert set(np.unique(cut(rng, image, labels, np.ones((40, 40)), 32, Augmentation())[1])) <= {0, 100}


def test_every_flip_and_turn_occurs():
    labels = np.arange(16).reshape(4, 4)
    image, rng = labels[:, :, None].astype(np.float32), np.random.default_rng(0)
    how = Augmentation(elastic_sigma=0, contrast=0, brightness=0)
    seen = {tuple(cut(rng, image, labels, np.ones((4, 4)), 4, how)[1].ravel()) for _ in range(100)}
    assert len(seen) == 8


def test_the_deformation_is_smooth_and_as_strong_as_asked():
    fields = np.stack([deformation(np.random.default_rng(seed), 60, 5.0) for seed in range(40)])
    assert fields.shape == (40, 2, 60, 60)
    assert 2.5 < fields.std() < 6
    assert abs(np.diff(fields, axis=2)).max() < 2  # pixels keep their order nearly everywhere
    assert not deformation(np.random.default_rng(0), 8, 0).any()
