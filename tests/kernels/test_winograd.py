"""Winograd's convolution: the algebra is exact, the rounding is bounded, and the way that is chosen is taken."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinydiff
from tinydiff.kernels import constant_weights, cpu, memory, numpy_backend, winograd_allowed
from tinydiff.kernels.cpu import winograd, winograd_transforms
from tinydiff.kernels.cpu.vectors import LANES

PADDING = (1, 1, 1, 1)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def errors(n, height, width, c, k, padding=PADDING):
    """Of y, dx and dw against float64, each relative to the largest value."""
    x, w = normal(n, height, width, c), normal(3, 3, c, k, seed=1) / np.float32(3 * np.sqrt(c))
    exact = numpy_backend.conv2d_forward(x.astype(np.float64), w.astype(np.float64), None, 1, padding)
    dy = normal(*exact.shape, seed=2)
    pairs = (
        (cpu.conv2d_forward(x, w, None, 1, padding), exact),
        (
            cpu.conv2d_input_grad(dy, w, x.shape, 1, padding),
            numpy_backend.conv2d_input_grad(dy.astype(np.float64), w.astype(np.float64), x.shape, 1, padding),
        ),
        (
            cpu.conv2d_weight_grad(x, dy, (3, 3), 1, padding),
            numpy_backend.conv2d_weight_grad(x.astype(np.float64), dy.astype(np.float64), (3, 3), 1, padding),
        ),
    )
    assert all(a.shape == b.shape and a.dtype == np.float32 for a, b in pairs)
    return [float(abs(a - b).max() / abs(b).max()) for a, b in pairs]


def test_the_algebra_is_exact():
    """In float64 a tile's convolution and its gradient come out to rounding."""
    rng = np.random.default_rng(0)
    d, g, dy = rng.standard_normal((6, 6)), rng.standard_normal((3, 3)), rng.standard_normal((4, 4))
    a, b, g_matrix = winograd_transforms.A, winograd_transforms.B, winograd_transforms.G
    windows = np.lib.stride_tricks.sliding_window_view(d, (3, 3))
    y = a.T @ ((g_matrix @ g @ g_matrix.T) * (b @ d @ b.T)) @ a
    np.testing.assert_allclose(y, np.einsum("ijab,ab->ij", windows, g), atol=1e-13)
    dg = g_matrix.T @ ((b @ d @ b.T) * (a @ dy @ a.T)) @ g_matrix
    np.testing.assert_allclose(dg, np.einsum("ijab,ij->ab", windows, dy), atol=1e-13)


@settings(max_examples=25)
@given(
    n=st.integers(1, 3),
    height=st.integers(1, 10),
    width=st.integers(1, 10),
    vectors=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(1, 3)] * 4),
)
def test_any_size_and_padding(n, height, width, vectors, padding):
    c, k = (LANES * count for count in vectors)
    assert winograd.is_supported((3, 3, c, k), 1)
    assert max(errors(n, height, width, c, k, padding)) <= 1e-5


@pytest.mark.parametrize("channels, bound", [(64, 1e-5), (320, 2e-5), (1280, 5e-5)])
def test_error_of_the_largest_value(channels, bound, monkeypatch):
    """Measured: 1.2e-6, 2.9e-6 and 7e-6; the usual points 0, ±1, ±2, ∞ give four times as much."""
    monkeypatch.setattr(winograd, "FEW", 0)
    assert max(errors(1, 8, 8, channels, channels)) <= bound


def test_more_tiles_than_a_slab_of_the_weight_gradient_holds(monkeypatch):
    monkeypatch.setattr(winograd, "SLAB", 1)  # then 64 tiles at a time
    assert max(errors(5, 20, 16, LANES, 2 * LANES)) <= 1e-5


@pytest.mark.parametrize("filters", [LANES, 3 * LANES, 5 * LANES])
@pytest.mark.parametrize("n, side", [(1, 4), (2, 5), (3, 12)])
def test_whether_threads_share_tiles_or_filters_changes_no_bit(n, side, filters, monkeypatch):
    x, w, b = normal(n, side, side, LANES), normal(3, 3, LANES, filters, seed=1), normal(filters, seed=2)
    results = []
    for split in (0, 100):
        monkeypatch.setattr(winograd, "SPLIT", split)
        results.append(cpu.conv2d_forward(x, w, b, 1, PADDING))
    np.testing.assert_array_equal(*results)
    exact = numpy_backend.conv2d_forward(x.astype(np.float64), w.astype(np.float64), b, 1, PADDING)
    assert abs(results[1] - exact).max() <= 1e-5 * abs(exact).max()


@pytest.mark.parametrize("shape, stride", [((3, 3, LANES, LANES), 2), ((1, 1, LANES, LANES), 1), ((3, 3, 3, LANES), 1)])
def test_where_it_cannot_be_the_direct_way_is_taken(shape, stride):
    assert not winograd.is_supported(shape, stride)


def test_many_kernels_at_few_positions_go_the_direct_way():
    """Whatever the batch: what an image becomes does not depend on those beside it."""
    assert winograd.is_supported((3, 3, 512, 512), 1, 64) and winograd.is_supported((3, 3, 640, 640), 1, 1024)
    assert not winograd.is_supported((3, 3, 640, 640), 1, 256)
    assert winograd.is_supported((3, 3, 1280, 1280), 1)  # the gradient by the weights sums over all positions


def test_use_turns_it_off_and_on(monkeypatch):
    calls = []
    monkeypatch.setattr(cpu.winograd, "convolve", lambda *a: calls.append("convolve"))
    x, w = normal(1, 4, 4, LANES), normal(3, 3, LANES, LANES)
    with tinydiff.use(winograd=False):
        assert not winograd_allowed()
        direct = cpu.conv2d_forward(x, w, None, 1, PADDING)
        with tinydiff.use("cpu", winograd=True):
            cpu.conv2d_forward(x, w, None, 1, PADDING)
        assert not winograd_allowed()
    assert winograd_allowed() and calls == ["convolve"]
    exact = numpy_backend.conv2d_forward(x.astype(np.float64), w.astype(np.float64), None, 1, PADDING)
    assert abs(direct - exact).max() <= 1e-6 * abs(exact).max()


def test_nan_reaches_what_it_must_and_stays_in_its_tile():
    x, w = normal(1, 12, 12, LANES), normal(3, 3, LANES, LANES, seed=1)
    x[0, 5, 6, 3] = np.nan
    y = cpu.conv2d_forward(x, w, None, 1, PADDING)
    assert np.isnan(y[0, 4:7, 5:8]).all()  # the outputs that use it
    y[0, 4:8, 4:8] = 0  # the tile that these lie in
    assert np.isfinite(y).all()


def test_constant_weights_are_transformed_once(monkeypatch):
    made = []
    transform = winograd._transform_weights
    monkeypatch.setattr(winograd, "_transform_weights", lambda w, *rest: (made.append(w.shape), transform(w, *rest)))
    x, w = normal(2, 4, 4, LANES), normal(3, 3, LANES, LANES, seed=1)
    expected = cpu.conv2d_forward(x, w, None, 1, PADDING)
    made.clear()
    with constant_weights():
        results = [cpu.conv2d_forward(x, w, None, 1, PADDING) for _ in range(3)]
        other = cpu.conv2d_forward(x, 2 * w, None, 1, PADDING)
    assert len(made) == 2
    assert all(np.array_equal(result, expected) for result in results) and np.array_equal(other, 2 * expected)
    assert memory._cache.get() is None
    w *= 3  # outside of the block weights may change
    assert np.array_equal(cpu.conv2d_forward(x, w, None, 1, PADDING), cpu.conv2d_forward(x, w.copy(), None, 1, PADDING))


def test_threads_do_not_share_what_they_keep():
    """Two blocks that overlap: the first to begin is the first to end, and nothing is left of either."""
    begun, ended = threading.Event(), threading.Event()
    left = []

    def first():
        with constant_weights():
            begun.set()
            ended.wait(10)
        left.append(memory._cache.get())

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(10)
    assert memory._cache.get() is None
    with constant_weights():
        ended.set()
        thread.join()
        assert memory._cache.get() == {}
    assert memory._cache.get() is None and left == [None]
