"""One suite over all backends: each kernel equals the definition, in float64 to rounding and in float32 to 1e-5.

The definition itself is held against NumPy's einsum over windows here, and its gradients by tests/ops.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinydiff import kernels, ops
from tinydiff.errors import InputError

# float32: sums of at most a thousand products of order 1, each rounded to 6e-8; float64: the order of the sums differs.
from tinydiff.kernels import numpy_backend, reference

# float32: sums of at most a thousand products of order 1, each rounded to 6e-8; float64: the order of the sums differs.
TOLERANCE = {"reference": 1e-12, "numpy": 1e-12, "cpu": 1e-5}


def dtype(backend):
    return np.float32 if backend == "cpu" else np.float64


def normal(backend, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype(backend))


def assert_close(backend, got, expected):
    assert got.dtype == dtype(backend) and got.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    largest = np.nanmax(abs(expected), initial=1e-3)
    assert np.nanmax(abs(got - expected), initial=0) <= TOLERANCE[backend] * largest


def convolutions(backend, x, w, stride, padding, b=None):
    """y, dx and dw of the current backend, with a random dy."""
    y = kernels.kernel("conv2d_forward", x)(x, w, b, stride, padding)
    dy = normal(backend, *y.shape, seed=1)
    dx = kernels.kernel("conv2d_input_grad", x)(dy, w, x.shape, stride, padding)
    dw = kernels.kernel("conv2d_weight_grad", x)(x, dy, w.shape[:2], stride, padding)
    return dy, (y, dx, dw)


def assert_convolution(backend, x, w, stride, padding, oracle=reference):
    b = None if padding == (0, 0, 0, 0) else normal(backend, w.shape[3], seed=3)
    dy, results = convolutions(backend, x, w, stride, padding, b)
    x, w, dy = (a.astype(np.float64) for a in (x, w, dy))
    expected = (
        oracle.conv2d_forward(x, w, b, stride, padding),
        oracle.conv2d_input_grad(dy, w, x.shape, stride, padding),
        oracle.conv2d_weight_grad(x, dy, w.shape[:2], stride, padding),
    )
    for got, right in zip(results, expected, strict=True):
        assert_close(backend, got, right)


@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 2)])
def test_gradients_by_many_weights(kernel, stride):
    """So many that a task makes a block of channels and filters of one tap."""
    x, w = normal("cpu", 2, 5, 6, 400), normal("cpu", kernel, kernel, 400, 200, seed=1)
    assert_convolution("cpu", x, w, stride, (kernel // 2,) * 4, oracle=numpy_backend)


@st.composite
def convolution_shapes(draw):
    small = st.integers(1, 4)
    kernel = (draw(small), draw(small))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    height = draw(st.integers(max(1, kernel[0] - padding[0] - padding[1]), 6))
    width = draw(st.integers(max(1, kernel[1] - padding[2] - padding[3]), 6))
    channels, filters = draw(small), draw(small)
    return (
        (draw(st.integers(1, 2)), height, width, channels),
        (*kernel, channels, filters),
        draw(st.integers(1, 3)),
        padding,
    )


OTHERS = pytest.mark.parametrize("backend", ["numpy", "cpu"], indirect=True)  # all but the definition


@OTHERS
@settings(max_examples=40)
@given(case=convolution_shapes())
def test_convolution_of_any_shape(backend, case):
    x_shape, w_shape, stride, padding = case
    assert_convolution(backend, normal(backend, *x_shape), normal(backend, *w_shape, seed=2), stride, padding)


@settings(max_examples=40)
@given(case=convolution_shapes())
def test_the_definition_is_a_sum_over_windows(case):
    x_shape, w_shape, stride, (top, bottom, left, right) = case
    x, w = normal("reference", *x_shape), normal("reference", *w_shape, seed=2)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w_shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    b = normal("reference", w_shape[3], seed=3)
    y = reference.conv2d_forward(x, w, b, stride, (top, bottom, left, right))
    np.testing.assert_allclose(y, np.einsum("nijcab,abck->nijk", windows, w) + b, rtol=1e-10, atol=1e-12)
    dy = normal("reference", *y.shape, seed=1)
    dw = reference.conv2d_weight_grad(x, dy, w_shape[:2], stride, (top, bottom, left, right))
    np.testing.assert_allclose(dw, np.einsum("nijcab,nijk->abck", windows, dy), rtol=1e-10, atol=1e-12)


# Off the compiled tile (rows 4 to 12, width up to 32) and off its blocks of 48 and 256 positions, 128 columns and
# 256 steps; checked against the NumPy kernels, which the tests above hold against the loops.
@pytest.mark.parametrize("channels", [1, 3, 17, 33])
@pytest.mark.parametrize("filters", [1, 3, 17, 33])
def test_channels_off_the_tile(channels, filters):
    x, w = normal("cpu", 2, 5, 4, channels), normal("cpu", 3, 3, channels, filters, seed=2)
    assert_convolution("cpu", x, w, 1, (1, 1, 1, 1), oracle=numpy_backend)


@pytest.mark.parametrize("positions", [1, 47, 48, 49, 97, 255, 256, 257, 523])
def test_positions_off_the_block(positions):
    x, w = normal("cpu", 1, 1, positions, 5), normal("cpu", 1, 3, 5, 7, seed=2)
    assert_convolution("cpu", x, w, 1, (0, 0, 1, 1), oracle=numpy_backend)


@pytest.mark.parametrize("channels, filters", [(80, 2), (300, 5), (20, 140)])
def test_a_patch_longer_than_the_first_cache(channels, filters):
    x, w = normal("cpu", 2, 4, 4, channels), normal("cpu", 3, 3, channels, filters, seed=2)
    assert_convolution("cpu", x, w, 2, (0, 1, 0, 1), oracle=numpy_backend)


def test_convolution_takes_arrays_in_any_memory_order(backend):
    x, w = normal(backend, 5, 2, 8, 6)[:, :, ::2].transpose(1, 0, 2, 3), normal(backend, 3, 2, 5, 6, seed=2).T[:3, :3].T
    x, w = x[..., :3], w.transpose(1, 0, 2, 3)[:, :, :3]
    assert not x.flags.c_contiguous and not w.flags.c_contiguous
    shape = numpy_backend.conv2d_forward(x, w, None, 1, (1, 0, 0, 1)).shape
    dy = normal(backend, 3, *shape[1:], 2).transpose(4, 1, 2, 3, 0)[..., 0]
    for name, args in {
        "conv2d_forward": (x, w, w[0, 0, 0], 1, (1, 0, 0, 1)),
        "conv2d_input_grad": (dy, w, x.shape, 1, (1, 0, 0, 1)),
        "conv2d_weight_grad": (x, dy, w.shape[:2], 1, (1, 0, 0, 1)),
    }.items():
        copies = [np.array(a, np.float64, order="C") if isinstance(a, np.ndarray) else a for a in args]
        assert_close(backend, kernels.kernel(name, x)(*args), getattr(reference, name)(*copies))


def test_nan_in_gives_nan_out_where_it_reaches(backend):
    x, w = normal(backend, 2, 5, 5, 2), normal(backend, 3, 3, 2, 3, seed=2)
    x[0, 1, 2, 1] = np.nan
    dy, (y, _, dw) = convolutions(backend, x, w, 2, (1, 1, 1, 1))
    expected = reference.conv2d_forward(x.astype(np.float64), w, None, 2, (1, 1, 1, 1))
    assert 0 < np.isnan(y).sum() < y.size
    assert_close(backend, y, expected)
    assert_close(backend, dw, reference.conv2d_weight_grad(x.astype(np.float64), dy, (3, 3), 2, (1, 1, 1, 1)))
    dy[1, 0, 0, 0] = np.nan
    dx = kernels.kernel("conv2d_input_grad", x)(dy, w, x.shape, 2, (1, 1, 1, 1))
    assert 0 < np.isnan(dx).sum() < dx.size
    assert_close(backend, dx, reference.conv2d_input_grad(dy.astype(np.float64), w, x.shape, 2, (1, 1, 1, 1)))


@OTHERS
@given(
    n=st.integers(1, 2), height=st.integers(1, 3), width=st.integers(1, 3), c=st.integers(1, 5), size=st.integers(1, 3)
)
@settings(max_examples=25)
def test_max_pool(backend, n, height, width, c, size):
    rng = np.random.default_rng(n + 7 * height + 49 * width)
    x = rng.integers(0, 3, (n, height * size, width * size, c)).astype(dtype(backend))  # few values: many ties
    x[rng.random(x.shape) < 0.1] = np.nan
    y, argmax = kernels.kernel("max_pool2d_forward", x)(x, size)
    expected_y, expected_argmax = reference.max_pool2d_forward(x, size)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(argmax, expected_argmax)
    assert y.dtype == x.dtype and argmax.dtype == np.int32
    dy = normal(backend, *y.shape)
    dx = kernels.kernel("max_pool2d_backward", x)(dy, argmax, size)
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(dy, argmax, size))
    assert dx.dtype == dy.dtype


def test_max_pool_ties_and_nan_by_hand(backend):
    first, nan = np.float64(0), np.nan
    x = np.array([[first, 1, 5, nan], [1, 1, nan, 9]], dtype(backend)).reshape(1, 2, 4, 1)
    y, argmax = kernels.kernel("max_pool2d_forward", x)(x, 2)
    np.testing.assert_array_equal(y.ravel(), [1, nan])
    np.testing.assert_array_equal(argmax.ravel(), [1, 1])  # the first of the equal ones, the first NaN
    dx = kernels.kernel("max_pool2d_backward", x)(np.array([7, 8], dtype(backend)).reshape(1, 1, 2, 1), argmax, 2)
    np.testing.assert_array_equal(dx.reshape(2, 4), [[0, 7, 0, 8], [0, 0, 0, 0]])


@given(n=st.integers(1, 2), height=st.integers(1, 4), width=st.integers(1, 4), c=st.integers(1, 5))
@settings(max_examples=20)
def test_upsample(backend, n, height, width, c):
    x, dy = normal(backend, n, height, width, c), normal(backend, n, 2 * height, 2 * width, c, seed=1)
    y = kernels.kernel("upsample_nearest_forward", x)(x)
    np.testing.assert_array_equal(y, np.kron(x, np.ones((1, 2, 2, 1))))
    assert y.dtype == x.dtype
    dx = kernels.kernel("upsample_nearest_backward", dy)(dy)
    assert_close(backend, dx, sum(dy[:, a::2, b::2].astype(np.float64) for a in (0, 1) for b in (0, 1)))


def test_pool_and_upsample_take_any_memory_order_and_keep_nan(backend):
    x = normal(backend, 3, 4, 2, 8)[..., ::2].transpose(2, 1, 3, 0)  # (2, 4, 4, 3)
    x[0, 0, 0, 0] = np.nan
    assert not x.flags.c_contiguous
    y, argmax = kernels.kernel("max_pool2d_forward", x)(x, 2)
    expected_y, expected_argmax = reference.max_pool2d_forward(x, 2)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(argmax, expected_argmax)
    dy = x[:, ::2, ::2]
    dx = kernels.kernel("max_pool2d_backward", x)(dy, argmax, 2)
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(dy, argmax, 2))
    np.testing.assert_array_equal(kernels.kernel("upsample_nearest_forward", x)(x), x.repeat(2, 1).repeat(2, 2))
    dx = kernels.kernel("upsample_nearest_backward", x)(x)
    assert np.isnan(dx).sum() == 1
    assert_close(backend, dx, reference.upsample_nearest_backward(x.astype(np.float64)))


@pytest.mark.parametrize("axis", range(4))
def test_nothing_in_gives_a_clear_error(backend, axis):
    shape = [2, 4, 4, 3]
    shape[axis] = 0
    x = np.zeros(shape, dtype(backend))
    w = np.zeros((3, 3, shape[3], 2), dtype(backend))
    with pytest.raises(InputError, match="^conv2d: [xw] .* is empty"):
        ops.conv2d.forward(x, w, stride=1, padding=0)
    with pytest.raises(InputError, match="^max_pool2d: x .* is empty"):
        ops.max_pool2d.forward(x)
    with pytest.raises(InputError, match="^upsample_nearest: x .* is empty"):
        ops.upsample_nearest.forward(x)
