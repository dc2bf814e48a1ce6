"""Pixels as numbers that networks take, and back."""

import numpy as np

from tinydiff.datasets.pixels import as_floats, as_pixels


def test_black_is_minus_one_and_white_is_one():
    floats = as_floats(np.array([0, 255], np.uint8))
    np.testing.assert_array_equal(floats, [-1, 1])
    assert floats.dtype == np.float32


def test_every_pixel_comes_back():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(as_pixels(as_floats(every)), every)
    np.testing.assert_array_equal(as_pixels(np.array([-3.0, 3.0])), [0, 255])
