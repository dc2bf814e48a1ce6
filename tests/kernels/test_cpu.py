"""What only the compiled backend has: its faster forms against float64, and the same bits with one thread and two."""

import math

import numba
import numpy as np
import pytest
from scipy.special import erf, expit

from tinydiff import kernels, ops
from tinydiff.kernels import cpu
from tinydiff.kernels.cpu import conv, elementary
from tinydiff.kernels.cpu.data_movement import transposed
from tinydiff.training.optim import Update, adamw_step


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def error(got, expected):
    """max |got − expected| over max |expected|."""
    assert got.shape == expected.shape and got.dtype == np.float32
    return abs(got - expected).max() / abs(expected).max()


def op_against_float64(op, *arrays, seed=9, **options):
    """The largest error of y and of the gradients: float32 compiled against float64 array code."""
    y, backward = op.forward(*arrays, **options)
    dy = normal(*y.shape, seed=seed)
    with kernels.use("numpy"):
        right, right_backward = op.forward(*(a.astype(np.float64) for a in arrays), **options)
        gradients = right_backward(dy.astype(np.float64))
    return max(error(a, b) for a, b in zip((y, *backward(dy)), (right, *gradients), strict=True))


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape, groups", [((1, 2, 2, 4), 2), ((3, 5, 7, 33), 3), ((33, 4, 4, 16), 16), ((70, 24), 1)])
def test_group_norm(shape, groups, silu):
    c = shape[-1]
    errors = op_against_float64(
        ops.group_norm, normal(*shape), 1 + normal(c, seed=1), normal(c, seed=2), groups=groups, silu=silu
    )
    assert errors <= 2e-6


def test_group_norm_far_from_zero():
    """The variance is taken from deviations: x of order 1000 ± 1 keeps 3 of float32's 7 digits, not none."""
    x = 1000 + normal(2, 8, 8, 4)
    assert op_against_float64(ops.group_norm, x, normal(4, seed=1), normal(4, seed=2), groups=2) <= 3e-4


@pytest.mark.parametrize(
    "n, length, memory, width, heads", [(1, 1, 1, 1, 1), (2, 5, 3, 6, 2), (3, 64, 12, 40, 4), (2, 33, 49, 34, 1)]
)
def test_attention(n, length, memory, width, heads):
    q, k, v = normal(n, length, width), normal(n, memory, width, seed=1), normal(n, memory, width, seed=2)
    if memory == 1:  # softmax of one number is 1: q and k get no gradient
        dq, dk, _ = ops.attention.forward(q, k, v, heads=heads)[1](q)
        assert not dq.any() and not dk.any()
    else:
        assert op_against_float64(ops.attention, q, k, v, heads=heads) <= 3e-6


def test_attention_with_large_scores_does_not_overflow():
    q, k, v = 100 * normal(1, 4, 8), 100 * normal(1, 6, 8, seed=1), normal(1, 6, 8, seed=2)
    y, _ = ops.attention.forward(q, k, v)
    with kernels.use("numpy"):
        assert error(y, ops.attention.forward(*(a.astype(np.float64) for a in (q, k, v)))[0]) <= 1e-4


@pytest.mark.parametrize("shape", [(1, 2), (3, 5, 14), (2, 100, 34), (5, 70, 100)])
@pytest.mark.parametrize("op", [ops.gelu, ops.geglu])
def test_gelu_and_geglu(op, shape):
    assert op_against_float64(op, 3 * normal(*shape)) <= 1e-6


@pytest.mark.parametrize("rows, inner, columns", [(1, 1, 1), (49, 33, 17), (3, 700, 40), (200, 12, 65)])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul(rows, inner, columns, transpose_a, transpose_b):
    a, b = normal(rows, inner), normal(inner, columns, seed=1)
    expected = a.astype(np.float64) @ b
    a, b = (a.T if transpose_a else a), (b.T if transpose_b else b)  # not contiguous either
    assert error(cpu.matmul(a, b, transpose_a, transpose_b), expected) <= 2e-6


@pytest.mark.parametrize("positions", [1, 5, 40, 100, 500, 900])
@pytest.mark.parametrize("filters", [7, 64, 130])
def test_how_a_convolution_is_shared_out_changes_no_bit(positions, filters, monkeypatch):
    """By positions, by filters, in small tasks and in large ones."""
    x, w, dy = normal(1, 1, positions, 33), normal(1, 3, 33, filters, seed=1), normal(1, 1, positions, filters, seed=2)
    found, before = [], numba.get_num_threads()
    for large in (0, 1 << 30):
        for threads in (1, before):
            monkeypatch.setattr(conv, "LARGE", large)
            numba.set_num_threads(threads)
            y = conv.conv2d_forward(x, w, None, 1, (0, 0, 1, 1))
            found.append((y, conv.conv2d_input_grad(dy, w, x.shape, 1, (0, 0, 1, 1))))
    assert all(np.array_equal(y, found[0][0]) and np.array_equal(dx, found[0][1]) for y, dx in found)
    y, dx = found[0]
    with kernels.use("numpy"):
        x, w, dy = (a.astype(np.float64) for a in (x, w, dy))
        assert error(y, kernels.conv2d_forward(x, w, None, 1, (0, 0, 1, 1))) < 2e-6
        assert error(dx, kernels.conv2d_input_grad(dy, w, x.shape, 1, (0, 0, 1, 1))) < 2e-6


def test_a_convolution_of_many_small_images():
    x, w = normal(60, 4, 4, 20), normal(1, 1, 20, 12, seed=1)
    with kernels.use("numpy"):
        expected = kernels.conv2d_forward(x.astype(np.float64), w.astype(np.float64), None, 1, (0, 0, 0, 0))
    assert error(conv.conv2d_forward(x, w, None, 1, (0, 0, 0, 0)), expected) < 1e-6


def adamw_arrays(n, dtype=np.float32):
    p, g, m, average = (normal(n, seed=i).astype(dtype) for i in range(4))
    return p, g, m, normal(n, seed=4).astype(dtype) ** 2, average


SETTINGS = (1e-2, 0.9, 0.99, 1e-8, 1 / (1 - 0.9**3), 1 / (1 - 0.99**3), 0.5, 0.999)
SIZES, DECAYS = (1, 1000, (1 << 14) + 5), (0.1, 0.0, 0.3)


def adamw_lists(dtype=np.float32):
    """p, g, m, v and average, each a list of arrays of several sizes."""
    return [list(arrays) for arrays in zip(*(adamw_arrays(n, dtype) for n in SIZES), strict=True)]


def test_adamw():
    single, double = adamw_lists(), adamw_lists(np.float64)
    gradients = [g.copy() for g in single[1]]
    cpu.adamw(*single, DECAYS, SETTINGS)
    adamw_step(*double, DECAYS, Update(*SETTINGS))
    for ours, right in zip(single, double, strict=True):
        assert max(error(a, b) for a, b in zip(ours, right, strict=True)) <= 1e-6
    for g, before in zip(single[1], gradients, strict=True):
        np.testing.assert_array_equal(g, before)


@pytest.mark.parametrize("shape", [(3, 17, 20, 33), (1 << 14,), (2, 1 << 13, 1)])
def test_add(shape):
    a, b = normal(*shape), normal(*shape, seed=1)
    np.testing.assert_array_equal(cpu.add(a, b), a + b)
    if len(shape) > 2:  # one row for each image, as the time embedding is
        row = normal(shape[0], *[1] * (len(shape) - 2), shape[-1], seed=2)
        np.testing.assert_array_equal(cpu.add(a, row), a + row)
    if shape[-1] > 1 and len(shape) > 1:
        np.testing.assert_array_equal(cpu.add(a, a[..., :1]), a + a[..., :1])  # another shape
    np.testing.assert_array_equal(cpu.add(a[:1], b[:1]), a[:1] + b[:1])  # too little to be worth a call


def test_sum_positions():
    x = normal(3, 17, 20, 33)
    assert error(cpu.sum_positions(x), x.astype(np.float64).sum((1, 2))) <= 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (3, 2, 40, 18)])
def test_transposed(shape):
    x = normal(*shape)
    for y in (x, x[::-1]):
        np.testing.assert_array_equal(transposed(y), y.swapaxes(-1, -2))
    assert transposed(x).flags.c_contiguous


@pytest.mark.parametrize("shape, cut", [((1, 2), 1), ((3, 7, 5, 40), 17), ((2000, 33), 32)])
def test_concat_and_split(shape, cut):
    y = normal(*shape)
    a, b = cpu.split(y, cut)
    np.testing.assert_array_equal(a, y[..., :cut])
    np.testing.assert_array_equal(b, y[..., cut:])
    np.testing.assert_array_equal(cpu.concat(y[..., :cut], y[..., cut:]), y)


@pytest.mark.parametrize("shape", [(1, 1), (31, 5), (2, 40, 3, 33)])
def test_sum_rows(shape):
    x = normal(*shape)
    assert error(cpu.sum_rows(x), x.astype(np.float64).reshape(-1, shape[-1]).sum(0)) <= 1e-6


def test_add_broadcasts_as_numpy_does():
    """Large arrays of shapes that the kernel does not take: NumPy's answer, or its refusal."""
    a = normal(1, 100, 400)
    b = normal(5, 1, 400)
    np.testing.assert_array_equal(cpu.add(a, b), a + b)
    a, b = normal(2, 1 << 13, 1), normal(2, 1, 3)
    np.testing.assert_array_equal(cpu.add(a, b), a + b)
    a, b = normal(3, 100, 400), normal(100, 1, 400)
    with pytest.raises(ValueError, match="broadcast"):
        cpu.add(a, b)


def test_square_sums():
    arrays = [normal(n, seed=n) for n in SIZES]
    expected = [np.square(a, dtype=np.float64).sum() for a in arrays]
    np.testing.assert_allclose(cpu.square_sums(arrays), expected, rtol=1e-6)
    arrays[1][7] = np.nan
    np.testing.assert_array_equal(np.isnan(cpu.square_sums(arrays)), [False, True, False])


NUMBERS = np.concatenate([np.linspace(-20, 20, 1500), np.linspace(-87, 88, 500)]).astype(np.float32)


def test_exp_is_right_to_three_in_ten_million():
    got = np.array([elementary.exp(x) for x in NUMBERS])
    expected = np.exp(NUMBERS.astype(np.float64))
    assert (abs(got - expected) / expected).max() <= 3e-7


def test_sigmoid_is_right_to_two_in_ten_million():
    got = np.array([elementary.sigmoid(x) for x in NUMBERS])
    assert abs(got - expit(NUMBERS.astype(np.float64))).max() <= 2e-7


def test_normal_cdf_is_right_to_two_in_ten_million():
    got = np.array([elementary.normal_cdf(x) for x in NUMBERS])
    assert abs(got - (1 + erf(NUMBERS.astype(np.float64) / math.sqrt(2))) / 2).max() <= 2e-7


@pytest.mark.parametrize("function", [elementary.exp, elementary.sigmoid, elementary.normal_cdf])
def test_elementary_functions_at_the_ends(function):
    ends = [function(np.float32(x)) for x in (-np.inf, -1e30, -200, 200, 1e30, np.inf)]
    assert np.isfinite(ends).all() and np.allclose(ends[:3], 0, atol=1e-35)
    assert np.isnan(function(np.float32(np.nan)))


def test_nan_in_gives_nan_out():
    x = normal(2, 4, 4, 6)
    x[0, 0, 0, 0] = np.nan
    y, backward = ops.group_norm.forward(x, np.ones(6, np.float32), np.zeros(6, np.float32), groups=2, silu=True)
    assert np.isnan(y[0, ..., :3]).all() and np.isfinite(y[0, ..., 3:]).all() and np.isfinite(y[1]).all()
    rows = x.reshape(2, 16, 6)
    y, _ = ops.attention.forward(rows, rows[1:].repeat(2, 0), rows[1:].repeat(2, 0))
    assert np.isnan(y[0, 0]).all() and np.isfinite(y[0, 1:]).all() and np.isfinite(y[1]).all()
    y, _ = ops.attention.forward(rows[1:], rows[:1], rows[1:])
    assert np.isnan(y).all()
    y, backward = ops.geglu.forward(rows)
    assert np.isnan(y).sum() == 1 and np.isnan(backward(np.ones_like(y))[0]).sum() == 1
    for flipped in (False, True):
        product = cpu.matmul(rows[0].T if flipped else rows[0], np.ones((6, 2), np.float32), flipped)
        assert np.isnan(product[0]).all() and np.isfinite(product[1:]).all()


def gradients(op, *arrays, **options):
    y, backward = op.forward(*arrays, **options)
    return [a for a in (y, *backward(normal(*y.shape, seed=9))) if a is not None]


def updated():
    lists = adamw_lists()
    sums = cpu.square_sums(lists[1])
    cpu.adamw(*lists, DECAYS, SETTINGS)
    return [sums, *(a for arrays in lists for a in arrays)]


def products():
    a, b = normal(517, 70), normal(70, 43, seed=1)
    return [
        cpu.matmul(a, b),
        cpu.matmul(np.ascontiguousarray(a.T), b, transpose_a=True),
        cpu.matmul(a, np.ascontiguousarray(b.T), transpose_b=True),
        cpu.matmul(np.ascontiguousarray(a.T), np.ascontiguousarray(b.T), True, True),
    ]


WORK = {
    "conv2d": lambda: gradients(ops.conv2d, normal(5, 13, 11, 19), normal(3, 3, 19, 37), normal(37), padding=1),
    "conv2d, stride 2": lambda: gradients(ops.conv2d, normal(3, 12, 9, 40), normal(3, 2, 40, 21), None, stride=2),
    "group_norm": lambda: gradients(ops.group_norm, normal(67, 5, 5, 24), normal(24), normal(24), groups=3, silu=True),
    "conv2d, Winograd": lambda: gradients(
        ops.conv2d, normal(7, 9, 11, 48), normal(3, 3, 48, 64), normal(64), padding=1
    ),
    "attention": lambda: gradients(ops.attention, *(normal(3, 50, 24, seed=i) for i in range(3)), heads=3),
    "gelu": lambda: gradients(ops.gelu, normal(300, 66)),
    "geglu": lambda: gradients(ops.geglu, normal(300, 66)),
    "max_pool2d": lambda: gradients(ops.max_pool2d, normal(3, 12, 12, 9)),
    "upsample_nearest": lambda: gradients(ops.upsample_nearest, normal(3, 12, 12, 9)),
    "adamw": updated,
    "matmul": products,
    "sum_rows": lambda: [cpu.sum_rows(normal(700, 33))],
    "few filters": lambda: gradients(ops.conv2d, normal(5, 23, 11, 20), normal(3, 3, 20, 3), None, padding=1),
    "data movement": lambda: [
        cpu.add(normal(5, 70, 70, 3), normal(5, 1, 1, 3)),
        cpu.sum_positions(normal(5, 70, 3)),
        transposed(normal(3, 70, 50)),
        *cpu.split(cpu.concat(normal(700, 33), normal(700, 20)), 11),
    ],
}


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads: NUMBA_NUM_THREADS is 1")
@pytest.mark.parametrize("name", WORK)
def test_one_thread_and_two_give_the_same_bits(name):
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = [a.tobytes() for a in WORK[name]()]
        numba.set_num_threads(2)
        for _ in range(3):  # a race does not show every time
            assert [a.tobytes() for a in WORK[name]()] == one
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("silu", [False, True])
def test_a_group_norm_of_few_large_images_is_split_by_positions(silu):
    """The same numbers as the definition's, and the same bits on one thread and on two."""
    rng = np.random.default_rng(3)
    x = 3 * rng.standard_normal((2, 257, 257, 16), np.float32) + 5  # 1,056,784 numbers an image
    scale, shift = rng.standard_normal((2, 16), np.float32)
    y, backward = ops.group_norm.forward(x, scale, shift, groups=4, silu=silu)
    wide = (a.astype(np.float64) for a in (x, scale, shift))
    expected, expected_backward = ops.group_norm.forward(*wide, groups=4, silu=silu)
    assert abs(y - expected).max() <= 1e-6 * abs(expected).max()
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(ops.group_norm.forward(x, scale, shift, groups=4, silu=silu)[0], y)
    finally:
        numba.set_num_threads(before)
    dx, expected_dx = (b(d)[0] for b, d in ((backward, x), (expected_backward, x.astype(np.float64))))
    assert abs(dx - expected_dx).max() <= 1e-5 * abs(expected_dx).max()


@pytest.mark.parametrize("length, memory, heads, depth", [(50, 2100, 3, 8), (7, 1024, 1, 8), (30, 1025, 2, 20)])
def test_attention_over_more_keys_than_are_taken_at_a_time(length, memory, heads, depth):
    rng = np.random.default_rng(4)
    q = 3 * rng.standard_normal((2, length, heads * depth), np.float32)
    k, v = (rng.standard_normal((2, memory, heads * depth), np.float32) for _ in range(2))
    k[:, -1] = 2 * q[:, 0]  # the largest score comes last, and shrinks all that was summed before it
    y, backward = ops.attention.forward(q, k, v, heads=heads)
    expected, expected_backward = ops.attention.forward(*(a.astype(np.float64) for a in (q, k, v)), heads=heads)
    assert abs(y - expected).max() <= 1e-5 * abs(expected).max()
    for ours, right in zip(backward(y), expected_backward(expected), strict=True):
        assert abs(ours - right).max() <= 1e-4 * abs(right).max()


def test_float16_becomes_float32_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]  # subnormal numbers and −0 among them
    y = cpu.from_float16(np.concatenate([every, every])[:-1].reshape(-1, 3))
    expected = np.concatenate([every, every])[:-1].reshape(-1, 3).astype(np.float32)
    np.testing.assert_array_equal(y.view(np.uint32), expected.view(np.uint32))
