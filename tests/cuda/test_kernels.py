"""Every kernel for the GPU equals the definition in float64: several blocks, sizes that fill no tile, odd channels.

Each runs three times and must give the same bits: a missing barrier shows up as numbers that change.
"""

import numpy as np
import pytest

import tinydiff
from tinydiff import ops
from tinydiff.device import simulated, to_device, to_numpy
from tinydiff.errors import InputError
from tinydiff.kernels import cuda, reference
from tinydiff.kernels.cuda import conv, launch, naive, norm, product
from tinydiff.training.optim import Update, adamw_step

TOLERANCE = 1e-5  # float32, of the largest value


@pytest.fixture(autouse=True)
def on_the_gpu():
    with tinydiff.use("cuda"):
        yield


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def on_card(function, *arguments):
    """The result of three equal calls, as NumPy's arrays; arrays among the arguments go to the GPU."""
    moved = [to_device(a, "cuda") if isinstance(a, np.ndarray) else a for a in arguments]
    runs = [[to_numpy(a) for a in _as_tuple(function(*moved))] for _ in range(3)]
    for run in runs[1:]:
        for a, b in zip(run, runs[0], strict=True):
            np.testing.assert_array_equal(a, b)
    return runs[0] if len(runs[0]) > 1 else runs[0][0]


def _as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def assert_close(got, expected):
    assert got.shape == expected.shape
    assert abs(got - expected).max() <= TOLERANCE * abs(expected).max()


T = conv.TILE  # positions, channels or filters of a block
# N, H, W, C, K, kernel, stride, padding
CONVOLUTIONS = [
    (2, T // 8 + 1, T // 2 - 1, 9, 5, (3, 3), 1, (1, 1, 1, 1)),  # several blocks of positions, channels left over
    (1, 9, 5, 3, T + 2, (3, 2), 2, (0, 1, 2, 1)),  # two blocks of filters, stride 2, every side padded differently
    (1, 4, 4, T + 3, 4, (1, 1), 1, (0, 0, 0, 0)),  # two blocks of channels
    (3, 3, 3, 1, 1, (2, 2), 3, (1, 1, 1, 1)),  # a stride longer than the kernel: some pixels are never read
    (1, 5, 8, 8, 8, (1, 5), 1, (0, 0, 4, 4)),  # more padding than pixels that a row has left
]


LARGE = CONVOLUTIONS[::4]  # these take the simulator seconds each: with `-m slow`


def param(rung, shape):
    return pytest.param(rung, shape, marks=[pytest.mark.slow] if shape in LARGE else [])


@pytest.mark.parametrize("rung, shape", [param(rung, shape) for rung in (conv, naive) for shape in CONVOLUTIONS])
def test_convolution(rung, shape):
    n, height, width, channels, filters, kernel, stride, padding = shape
    x, w = normal(n, height, width, channels), normal(*kernel, channels, filters, seed=1)
    y = on_card(rung.conv2d_forward, x, w, None, stride, padding)
    wide_x, wide_w = x.astype(np.float64), w.astype(np.float64)
    assert_close(y, reference.conv2d_forward(wide_x, wide_w, None, stride, padding))
    dy = normal(*y.shape, seed=2)
    dx = on_card(rung.conv2d_input_grad, dy, w, x.shape, stride, padding)
    dw = on_card(rung.conv2d_weight_grad, x, dy, kernel, stride, padding)
    wide_dy = dy.astype(np.float64)
    assert_close(dx, reference.conv2d_input_grad(wide_dy, wide_w, x.shape, stride, padding))
    assert_close(dw, reference.conv2d_weight_grad(wide_x, wide_dy, kernel, stride, padding))


@pytest.mark.parametrize("rung", [conv, naive], ids=["tiled", "naive"])
def test_convolution_adds_the_bias(rung):
    x, w, b = normal(1, 3, 3, 2), normal(3, 3, 2, 3, seed=1), normal(3, seed=2)
    y = on_card(rung.conv2d_forward, x, w, b, 1, (1, 1, 1, 1))
    assert_close(y, reference.conv2d_forward(x.astype(np.float64), w.astype(np.float64), b, 1, (1, 1, 1, 1)))


def test_gradient_by_the_weights_in_parts(monkeypatch):
    """Positions in several parts, the last of them shorter."""
    monkeypatch.setattr(conv, "ENOUGH", 5)
    x, dy = normal(1, T, 5, 3), normal(1, T, 5, 2, seed=1)
    dw = on_card(cuda.conv2d_weight_grad, x, dy, (1, 1), 1, (0, 0, 0, 0))
    expected = reference.conv2d_weight_grad(x.astype(np.float64), dy.astype(np.float64), (1, 1), 1, (0, 0, 0, 0))
    assert_close(dw, expected)


def test_the_cards_own_tile_in_the_simulator(monkeypatch):
    """The sizes that the GPU uses, once: with 64 threads a tile's numbers are brought in another pattern."""
    if not simulated():
        pytest.skip("the other tests have run on a GPU with these sizes")
    sizes = {"TILE": 64, "HALF": 32, "DEPTH": 8, "PART": 8, "SIDE": 8, "THREADS": 64, "STEP": 8, "ROWS": 8, "ROW": 68}
    for module in (conv, product):
        for name in sizes.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, sizes[name])
    x, w = normal(1, 9, 8, 9), normal(1, 1, 9, 3, seed=1)
    y = cuda.conv2d_forward(x, w, None, 1, (0, 0, 0, 0))
    assert_close(y, reference.conv2d_forward(x.astype(np.float64), w.astype(np.float64), None, 1, (0, 0, 0, 0)))
    dw = cuda.conv2d_weight_grad(x, y, (1, 1), 1, (0, 0, 0, 0))
    assert_close(dw, reference.conv2d_weight_grad(x.astype(np.float64), y.astype(np.float64), (1, 1), 1, (0, 0, 0, 0)))


# rows, depth, columns, and which factors come transposed
PRODUCTS = [
    (T + 3, 5, 7, False, False),
    (3, 4 * product.DEPTH + 1, T + 2, True, False),
    (5, 4 * product.DEPTH, 3, False, True),
    (T, 1, 1, True, True),
]


@pytest.mark.parametrize("rows, depth, columns, transpose_a, transpose_b", PRODUCTS)
def test_matmul(rows, depth, columns, transpose_a, transpose_b):
    """Depths in parts, a bias, tiles that are not full."""
    a = normal(*((depth, rows) if transpose_a else (rows, depth)))
    b = normal(*((columns, depth) if transpose_b else (depth, columns)), seed=1)
    bias = normal(columns, seed=2)
    got = on_card(lambda a, b, bias: cuda.matmul(a, b, transpose_a, transpose_b, bias), a, b, bias)
    wide = (x.astype(np.float64) for x in (a, b))
    assert_close(got, reference.matmul(*wide, transpose_a, transpose_b, bias))


@pytest.mark.parametrize("shape", [(2, norm.CHANNELS + 1), (3, 2, 5, 7), (1, 1)])
def test_sum_rows(shape):
    x = normal(*shape)
    assert_close(on_card(cuda.sum_rows, x), reference.sum_rows(x.astype(np.float64)))


def test_square_sums():
    """Arrays of one number and of several blocks, in float64; one that is not finite spoils its own sum alone."""
    arrays = [normal(1), normal(40, 50, seed=1), np.array([1, np.nan], np.float32)]
    sums = on_card(lambda *arrays: cuda.square_sums(list(arrays)), *arrays)
    np.testing.assert_allclose(sums[:2], [(a.astype(np.float64) ** 2).sum() for a in arrays[:2]], rtol=1e-12)
    assert np.isnan(sums[2])


@pytest.mark.parametrize("n, length, other, width, heads", [(2, 3, 5, 8, 2), (1, norm.THREADS + 1, 2, 3, 1)])
def test_attention(n, length, other, width, heads):
    q, k, v = normal(n, length, width), normal(n, other, width, seed=1), normal(n, other, width, seed=2)
    dy = normal(n, length, width, seed=3)

    def both(q, k, v, dy):
        y, backward = ops.attention.forward(q, k, v, heads=heads)
        return y, *backward(dy)

    results = on_card(both, q, k, v, dy)
    with tinydiff.use("numpy"):
        expected = both(*(a.astype(np.float64) for a in (q, k, v, dy)))
    for got, right in zip(results, expected, strict=True):
        assert_close(got, right)


def test_adamw():
    """Two parameters, one of several blocks; the definition is training/optim.py's array code."""
    update = Update(lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, correct1=1.5, correct2=1.2, scale=0.5, ema=0.7)
    arrays = [[normal(size, seed=seed) ** (2 if seed == 3 else 1) for size in (3, 300)] for seed in range(5)]
    expected = [[a.astype(np.float64) for a in group] for group in arrays]
    with tinydiff.use("numpy"):
        adamw_step(*expected, [0.1, 0.0], update)
    moved = [[to_device(a.copy(), "cuda") for a in group] for group in arrays]
    adamw_step(*moved, [0.1, 0.0], update)
    for got, right in zip(moved, expected, strict=True):
        for a, b in zip(got, right, strict=True):
            assert_close(to_numpy(a), b)


@pytest.mark.parametrize("shape, size", [((2, 4, 6, 3), 2), ((1, 6, 3, 5), 3), ((3, 4, 8, 7), 2)])
def test_max_pool(shape, size):
    x = np.round(normal(*shape))  # with equal values, of which the first wins
    y, argmax = on_card(cuda.max_pool2d_forward, x, size)
    expected, expected_argmax = reference.max_pool2d_forward(x, size)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(argmax, expected_argmax)
    dy = normal(*y.shape, seed=1)
    dx = on_card(cuda.max_pool2d_backward, dy, argmax, size)
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(dy, argmax, size))


def test_max_pool_keeps_nan():
    x = normal(1, 4, 4, 2)
    x[0, 1, 1, 0] = np.nan
    y, _ = on_card(cuda.max_pool2d_forward, x, 2)
    np.testing.assert_array_equal(y, reference.max_pool2d_forward(x, 2)[0])
    assert np.isnan(y).sum() == 1


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 1, 1), (3, 4, 2, 11)])
def test_upsample(shape):
    x, dy = normal(*shape), normal(shape[0], 2 * shape[1], 2 * shape[2], shape[3], seed=1)
    np.testing.assert_array_equal(on_card(cuda.upsample_nearest_forward, x), reference.upsample_nearest_forward(x))
    got = on_card(cuda.upsample_nearest_backward, dy)
    assert_close(got, reference.upsample_nearest_backward(dy.astype(np.float64)))


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape, groups", [((2, 3, 5, 6), 3), ((1, 2, 2, norm.CHANNELS + 3), 1), ((5, 7), 1)])
def test_group_norm(shape, groups, silu):
    """Several groups and one; more numbers in a group than threads; channels over several blocks; no positions."""
    x, scale, shift = normal(*shape) + 1, normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    dy = normal(*shape, seed=3)

    def both(x, scale, shift, dy):
        y, backward = ops.group_norm.forward(x, scale, shift, groups=groups, silu=silu)
        return y, *backward(dy)

    results = on_card(both, x, scale, shift, dy)
    with tinydiff.use("numpy"):
        expected = both(*(a.astype(np.float64) for a in (x, scale, shift, dy)))
    for got, right in zip(results, expected, strict=True):
        assert_close(got, right)


def test_another_type_is_refused():
    x, w = to_device(normal(1, 3, 3, 1).astype(np.float64), "cuda"), to_device(normal(1, 1, 1, 1), "cuda")
    with pytest.raises(TypeError, match="float32, not float64"):
        cuda.conv2d_forward(x, w, None, 1, (0, 0, 0, 0))


def test_more_numbers_than_a_kernel_counts_are_refused(monkeypatch):
    """Read or written: an index would wrap around in silence."""
    monkeypatch.setattr(launch, "MOST", 50)
    x, w = to_device(normal(1, 3, 4, 2), "cuda"), to_device(normal(1, 1, 2, 5), "cuda")
    argmax = to_device(np.zeros((1, 3, 4, 2), np.int32), "cuda")
    for name, call in {
        "conv2d_forward": lambda: cuda.conv2d_forward(to_device(normal(1, 5, 5, 2), "cuda"), w, None, 1, (0, 0, 0, 0)),
        "conv2d": lambda: cuda.conv2d_forward(x, w, None, 1, (0, 0, 0, 0)),
        "upsample_nearest": lambda: cuda.upsample_nearest_forward(x),
        "max_pool2d": lambda: cuda.max_pool2d_backward(x, argmax, 2),
    }.items():
        with pytest.raises(InputError, match=rf"{name}: .*less than 2³¹ numbers, not \d+: \("):
            call()
