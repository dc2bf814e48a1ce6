"""Convolutions to a few filters, in bands of rows and slabs of pixels."""

import numpy as np
import pytest

from tinydiff.kernels import cpu, numpy_backend
from tinydiff.kernels.cpu import kn2row


@pytest.mark.parametrize("filters", [1, 3, 4])
@pytest.mark.parametrize("size, kernel, padding", [((33, 20), (3, 3), (1, 1, 1, 1)), ((9, 40), (2, 5), (0, 1, 4, 2))])
def test_against_numpy(monkeypatch, filters, size, kernel, padding):
    monkeypatch.setattr(kn2row, "CACHE", 1 << 14)  # several bands an image
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, *size, 18)), rng.standard_normal((*kernel, 18, filters))
    assert kn2row.is_supported(w.shape, 1)
    y = numpy_backend.conv2d_forward(x, w, None, 1, padding)
    dy = rng.standard_normal(y.shape)
    x32, w32, dy32 = (a.astype(np.float32) for a in (x, w, dy))
    bias = np.arange(filters, dtype=np.float32)
    pairs = (
        (cpu.conv2d_forward(x32, w32, bias, 1, padding), y + bias),
        (
            cpu.conv2d_weight_grad(x32, dy32, kernel, 1, padding),
            numpy_backend.conv2d_weight_grad(x, dy, kernel, 1, padding),
        ),
    )
    for got, right in pairs:
        assert got.shape == right.shape and got.dtype == np.float32
        assert abs(got - right).max() <= 1e-5 * abs(right).max()
