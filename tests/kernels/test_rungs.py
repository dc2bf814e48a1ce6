"""The rungs below the micro-kernel, compiled loops and im2col, equal the definition."""

import numpy as np
import pytest

from tinydiff.kernels import reference
from tinydiff.kernels.cpu import im2col, naive


@pytest.mark.parametrize("rung", [naive, im2col])
@pytest.mark.parametrize(
    "shape, w_shape, stride, padding, bias",
    [
        ((2, 5, 4, 3), (3, 3, 3, 5), 1, (1, 1, 1, 1), True),
        ((1, 7, 6, 9), (3, 2, 9, 4), 2, (0, 1, 2, 1), False),  # 54 steps of a sum, every side padded differently
        ((2, 3, 3, 70), (1, 1, 70, 2), 3, (1, 1, 1, 1), True),  # more steps than a block; pixels that are never read
    ],
)
def test_against_the_definition(rung, shape, w_shape, stride, padding, bias):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s) for s in (shape, w_shape, w_shape[3:]))
    b = b if bias else None
    y = reference.conv2d_forward(x, w, b, stride, padding)
    dy = rng.standard_normal(y.shape)
    np.testing.assert_allclose(rung.conv2d_forward(x, w, b, stride, padding), y, atol=1e-12)
    dx = reference.conv2d_input_grad(dy, w, x.shape, stride, padding)
    np.testing.assert_allclose(rung.conv2d_input_grad(dy, w, x.shape, stride, padding), dx, atol=1e-12)
    dw = reference.conv2d_weight_grad(x, dy, w_shape[:2], stride, padding)
    np.testing.assert_allclose(rung.conv2d_weight_grad(x, dy, w_shape[:2], stride, padding), dw, atol=1e-12)
