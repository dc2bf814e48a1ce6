"""Pixels as numbers that networks take, and back."""

import numpy as np
import pytest

from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.errors import InputError


def test_black_is_minus_one_and_white_is_one():
    floats = as_floats(np.array([0, 255], np.uint8))
    np.testing.assert_array_equal(floats, [-1, 1])
    assert floats.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int16, np.int64, bool])
def test_only_bytes_and_floats_are_pixels(dtype):
    with pytest.raises(InputError, match=f"must be uint8, or floats .*; these are {np.dtype(dtype)}"):
        as_floats(np.zeros((1, 2, 2, 3), dtype))


def test_every_pixel_comes_back():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(as_pixels(as_floats(every)), every)
    np.testing.assert_array_equal(as_pixels(np.array([-3.0, 3.0])), [0, 255])
