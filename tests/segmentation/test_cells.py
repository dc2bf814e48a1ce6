"""From probabilities to cells."""

import numpy as np
from scipy import ndimage

from tinydiff.segmentation import find_cells
from tinydiff.segmentation.cells import h_maxima


def discs(*places, size=(60, 80)):
    """Probabilities: 0.9 within discs (y, x, radius), 0.1 outside."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    inside = np.zeros(size, bool)
    for cy, cx, radius in places:
        inside |= (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    return np.where(inside, 0.9, 0.1)


def test_each_disc_is_a_cell():
    cells = find_cells(discs((15, 15, 8), (40, 60, 10)))
    assert cells.dtype == np.int32 and np.array_equal(np.unique(cells), [0, 1, 2])
    assert cells[15, 15] == 1 and cells[40, 60] == 2 and cells[0, 0] == 0


def test_touching_discs_are_parted_at_the_waist():
    cells = find_cells(discs((30, 20, 10), (30, 38, 10), (30, 56, 10)))
    assert cells.max() == 3
    assert len({cells[30, 20], cells[30, 38], cells[30, 56]}) == 3
    assert cells[30, 26] == cells[30, 20] and cells[30, 32] == cells[30, 38]
    assert np.array_equal(cells > 0, discs((30, 20, 10), (30, 38, 10), (30, 56, 10)) > 0.5)  # no pixel is lost


def test_a_large_cell_and_a_small_one_meet_where_it_is_narrowest():
    """Not in the middle between them, at x = 32: the circles cross at x = 34."""
    cells = find_cells(discs((30, 20, 14), (30, 40, 7)))
    assert cells.max() == 2 and cells[30, 33] == cells[30, 20] and cells[30, 36] == cells[30, 40]


def test_where_two_of_unequal_size_meet():
    """Found with steps of half a pixel; with whole ones the smaller keeps 258, with quarters it gets 286."""
    assert np.count_nonzero(find_cells(discs((30, 20, 14), (30, 42, 9))) == 2) == 268


def test_an_ellipse_is_one_cell():
    y, x = np.mgrid[0:40, 0:60]
    for angle in np.linspace(0, np.pi, 7):
        a, b = np.cos(angle), np.sin(angle)
        u, v = a * (y - 20) + b * (x - 30), a * (x - 30) - b * (y - 20)
        assert find_cells(np.where((u / 15) ** 2 + (v / 7) ** 2 <= 1, 0.9, 0.1)).max() == 1


def test_a_ragged_border_does_not_part_a_cell():
    """Pixels that are missing along the border make hills in the distance to it, which smoothing takes away."""
    y, x = np.mgrid[0:40, 0:70]
    radius = np.hypot((y - 20) / 9, (x - 35) / 16)
    for seed in range(20):
        missing = (radius > 0.8) & (np.random.default_rng(seed).random(radius.shape) < 0.3)
        cells = find_cells(np.where((radius <= 1) & ~missing, 0.9, 0.1))
        assert cells.max() == 1, seed


def test_specks_are_dropped_and_holes_are_filled():
    probability = discs((20, 20, 9))
    probability[20, 20] = probability[50, 50] = 0.2
    probability[50, 51:54] = 0.9
    cells = find_cells(probability)
    assert cells.max() == 1 and cells[20, 20] == 1 and cells[50, 52] == 0


def test_nothing_is_no_cell():
    assert not find_cells(np.zeros((20, 30))).any()


def test_everything_is_one_cell():
    assert (find_cells(np.ones((20, 30))) == 1).all()


def test_h_maxima_are_hills_that_rise_high_enough():
    y, x = np.mgrid[0:21, 0:41]
    depth = np.maximum(10 - np.hypot(y - 10, x - 10), 8 - np.hypot(y - 10, x - 26)).clip(0)
    assert depth[10, 19] == 1  # the pass: the second hill rises 7 above it
    for waist, tops in ((6.5, [(10, 10), (10, 26)]), (7.5, [(10, 10)])):
        islands, count = ndimage.label(h_maxima(depth, waist))
        assert count == len(tops) == len({islands[top] for top in tops} - {0})


def test_equal_tops_are_one_unless_the_pass_is_deep():
    """Two discs of one size have the same depth; they are two cells from where their waist is 0.75 pixels less."""
    assert [find_cells(discs((30, 20, 10), (30, 20 + apart, 10))).max() for apart in (8, 10, 11, 14)] == [1, 1, 2, 2]
    assert find_cells(discs((30, 20, 10), (30, 31, 10)), waist=1.0).max() == 1
