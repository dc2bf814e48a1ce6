"""Every op: its gradient against central differences on every float64 backend, and what it says to bad input."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinydiff import ops
from tinydiff.autograd import Tensor
from tinydiff.errors import InputError
from tinydiff.gradcheck import op_errors


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def apart(*shape, seed=0):
    """Numbers at least 0.1 from each other and 0.05 from zero, shuffled: no kink is within the check's step."""
    size = int(np.prod(shape))
    numbers = np.where(np.arange(size) % 2, -1, 1) * (0.05 + 0.1 * np.arange(size))
    return np.random.default_rng(seed).permutation(numbers).reshape(shape)


def norm_arrays(*shape):
    c = shape[-1]
    return normal(*shape), 1 + 0.5 * normal(c, seed=1), normal(c, seed=2)


# Where queries may look: the second image's second query nowhere, if it is causal, too.
LOOKS = np.array([[[True, False, True], [True, True, False]], [[True, True, True], [False, False, True]]])


class Draws:
    """Random numbers that are the same at each call, as a check by differences needs them."""

    def random(self, shape):
        return np.random.default_rng(4).random(shape)


def running():
    return normal(5, seed=3), 1 + abs(normal(5, seed=4))


# op → cases of (arrays, options)
CASES = {
    "add": [((normal(2, 3, 4), normal(3, 1)), {}), ((normal(3), normal(2, 3)), {})],
    "subtract": [((normal(2, 3, 4), normal(3, 1)), {}), ((normal(3), normal(2, 3)), {})],
    "multiply": [
        ((normal(2, 3, 4), normal(3, 1)), {}),
        ((normal(3), normal(2, 3)), {}),
        ((normal(2, 3), normal()), {}),
    ],
    "divide": [
        ((normal(2, 3, 4), 2 + abs(normal(3, 1))), {}),
        ((normal(3), -1 - abs(normal(2, 3))), {}),
        ((normal(2, 3), np.array(1.7)), {}),
    ],
    "power": [((normal(3, 4),), {"exponent": 3}), ((0.5 + abs(normal(3, 2)),), {"exponent": -1.5})],
    "matmul": [
        ((normal(3, 4), normal(4, 2)), {}),
        ((normal(2, 1, 3, 4), normal(5, 4, 2)), {}),
        ((normal(3, 4), normal(2, 4, 1)), {}),
    ],
    "sum": [
        ((normal(2, 3, 4),), {}),
        ((normal(2, 3, 4),), {"axis": (0, -1)}),
        ((normal(2, 3),), {"axis": 1, "keepdims": True}),
    ],
    "mean": [
        ((normal(2, 3, 4),), {}),
        ((normal(2, 3, 4),), {"axis": -2}),
        ((normal(2, 3),), {"axis": (0,), "keepdims": True}),
    ],
    "transpose": [
        ((normal(2, 3, 4),), {}),
        ((normal(2, 3, 4),), {"axes": (1, 2, 0)}),
        ((normal(2, 3),), {"axes": (-1, 0)}),
    ],
    "getitem": [
        ((normal(4, 5),), {"key": (slice(1, 4, 2), slice(None, None, -1))}),
        ((normal(3, 4, 2),), {"key": (..., 1)}),
        ((normal(3, 4),), {"key": -1}),
        ((normal(3, 4),), {"key": (None, slice(2))}),
    ],
    "reshape": [((normal(2, 6),), {"shape": (3, 4)}), ((normal(2, 3, 2),), {"shape": (2, -1)})],
    "relu": [((apart(3, 4),), {}), ((apart(1),), {})],
    "silu": [((3 * normal(3, 4),), {}), ((normal(2, 1, 3, 2),), {})],
    "gelu": [((3 * normal(3, 4),), {}), ((3 * normal(3, 4),), {"approximate": "tanh"}), ((normal(2, 1, 3, 2),), {})],
    "leaky_relu": [((apart(3, 4),), {}), ((apart(5),), {"slope": 0.3})],
    "sigmoid": [((3 * normal(3, 4),), {})],
    "tanh": [((2 * normal(3, 4),), {})],
    "rms_norm": [((normal(2, 3, 5), 1 + normal(5, seed=1)), {}), ((normal(4, 3), normal(3, seed=1)), {"eps": 1e-2})],
    "binary_cross_entropy_loss": [((3 * normal(3, 4), abs(np.tanh(normal(3, 4, seed=1)))), {})],
    "dice_loss": [
        ((abs(np.tanh(normal(2, 3, 4))), abs(np.tanh(normal(2, 3, 4, seed=1)))), {}),
        ((abs(normal(3, 4)), abs(normal(3, 4, seed=1))), {"smooth": 0.1}),
    ],
    "quick_gelu": [((3 * normal(3, 4),), {}), ((normal(2, 1, 3, 2),), {})],
    "geglu": [((2 * normal(3, 8),), {}), ((normal(2, 3, 2),), {}), ((normal(2, 7, 4),), {})],
    "softmax": [((2 * normal(3, 4),), {}), ((normal(2, 2, 5),), {})],
    "conv2d": [
        ((normal(2, 4, 5, 2), normal(3, 3, 2, 3), normal(3)), {"padding": 1}),
        ((normal(1, 5, 4, 3), normal(2, 3, 3, 2), normal(2)), {"stride": 2, "padding": (0, 1, 2, 1)}),
        ((normal(2, 3, 3, 2), normal(1, 1, 2, 4), None), {}),
        ((normal(1, 5, 6, 2), normal(2, 3, 2, 3), normal(3)), {"dilation": 2, "padding": (1, 0, 2, 0)}),
        ((normal(2, 3, 4, 4), normal(2, 2, 2, 6), normal(6)), {"groups": 2, "stride": 2, "padding": 1}),
        ((normal(1, 4, 4, 3), normal(2, 2, 1, 3), None), {"groups": 3, "dilation": 3, "padding": 1}),
    ],
    "conv_transpose2d": [
        ((normal(2, 3, 2, 4), normal(2, 2, 3, 4), normal(3)), {}),
        ((normal(1, 2, 3, 2), normal(3, 2, 1, 2), normal(1)), {"stride": 1}),
        ((normal(1, 2, 2, 3), normal(1, 1, 2, 3), None), {"stride": 3}),
    ],
    "center_crop": [
        ((normal(2, 5, 4, 2),), {"size": (2, 3)}),
        ((normal(1, 3, 3, 1),), {"size": (3, 3)}),
        ((normal(1, 7, 9, 1),), {"size": (1, 5)}),
    ],
    "linear": [
        ((normal(3, 4), normal(4, 2), normal(2)), {}),
        ((normal(2, 3, 4), normal(4, 4), normal(4)), {}),
        ((normal(4), normal(4, 2), None), {}),
    ],
    "group_norm": [
        (norm_arrays(2, 3, 2, 6), {"groups": 3}),
        (norm_arrays(2, 2, 2, 4), {"groups": 1, "silu": True}),
        (norm_arrays(3, 8), {"groups": 2, "eps": 1e-2, "silu": True}),
    ],
    "layer_norm": [(norm_arrays(2, 3, 5), {}), (norm_arrays(4, 6), {"eps": 1e-2})],
    "attention": [
        ((normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 4, seed=2)), {"heads": 2}),
        ((normal(1, 4, 3), normal(1, 4, 3, seed=1), normal(1, 4, 3, seed=2)), {"heads": 1}),
        ((normal(2, 1, 6), normal(2, 3, 6, seed=1), normal(2, 3, 6, seed=2)), {"heads": 6}),
        ((normal(2, 3, 4), normal(2, 3, 4, seed=1), normal(2, 3, 4, seed=2)), {"heads": 2, "causal": True}),
        ((normal(1, 2, 4), normal(1, 3, 4, seed=1), normal(1, 3, 4, seed=2)), {"mask": LOOKS[0]}),
        ((normal(2, 2, 2), normal(2, 3, 2, seed=1), normal(2, 3, 2, seed=2)), {"mask": LOOKS, "causal": True}),
    ],
    "embedding": [((normal(5, 3), np.array([[0, 4, 4], [1, 0, 4]])), {}), ((normal(2, 2), np.array([1])), {})],
    "max_pool2d": [
        ((apart(2, 4, 6, 2),), {}),
        ((apart(1, 3, 3, 3),), {"size": 3}),
        ((apart(1, 5, 7, 2),), {}),
        ((apart(2, 4, 5, 1),), {"size": 3, "stride": 1, "padding": 1}),
        ((apart(1, 6, 5, 2),), {"size": 2, "stride": 3, "padding": 1}),
    ],
    "avg_pool2d": [
        ((normal(2, 4, 6, 2),), {}),
        ((normal(1, 5, 7, 2),), {"size": 3, "stride": 2, "padding": 1}),
        ((normal(1, 4, 3, 2),), {"size": 2, "stride": 1}),
    ],
    "upsample_nearest": [((normal(2, 3, 2, 3),), {}), ((normal(1, 1, 1, 1),), {})],
    "upsample_bilinear": [
        ((normal(2, 3, 2, 3),), {}),
        ((normal(1, 3, 4, 2),), {"size": (5, 2)}),
        ((normal(1, 3, 4, 2),), {"size": (5, 7), "align_corners": True}),
        ((normal(1, 1, 1, 1),), {"size": (1, 3), "align_corners": True}),
    ],
    "batch_norm": [
        (norm_arrays(4, 3, 5), {}),
        (norm_arrays(2, 2, 3, 4), {"eps": 1e-2}),
        (norm_arrays(4, 3, 5), {"training": False, "running": running()}),
    ],
    "dropout": [
        ((normal(3, 4),), {"rng": Draws()}),
        ((normal(3, 4),), {"rng": Draws(), "p": 0.2}),
        ((normal(3, 4),), {"rng": Draws(), "training": False}),
    ],
    "concat": [((normal(2, 3, 2), normal(2, 3, 4)), {}), ((normal(2, 2, 2, 3), normal(2, 2, 2, 1)), {})],
    "slice_channels": [
        ((normal(2, 3, 5),), {"start": 1, "stop": 4}),
        ((normal(2, 4),), {"start": 0, "stop": 2}),
        ((normal(2, 4),), {"start": 3, "stop": 4}),
    ],
    "add_channel_bias": [((normal(2, 3, 2, 4), normal(2, 4)), {}), ((normal(3, 2), normal(3, 2, seed=1)), {})],
    "global_avg_pool": [((normal(2, 3, 4, 5),), {}), ((normal(2, 3),), {})],
    "mse_loss": [((normal(3, 4), normal(3, 4, seed=1)), {}), ((normal(1), normal(1, seed=1)), {})],
    "l1_loss": [((normal(3, 4), normal(3, 4) - apart(3, 4)), {})],
    "cross_entropy_loss": [
        ((2 * normal(4, 3), np.array([0, 2, 2, 1]), None), {}),
        ((normal(1, 2), np.array([1]), None), {}),
        ((normal(2, 5, 3), np.arange(10).reshape(2, 5) % 3, None), {}),
        ((normal(2, 3, 2, 3), np.arange(12).reshape(2, 3, 2) % 3, abs(normal(2, 3, 2, seed=1))), {}),
        ((normal(4, 3), np.array([0, -1, 2, 1]), abs(normal(4, seed=1))), {"ignore_index": -1, "label_smoothing": 0.1}),
        ((normal(4, 3), np.array([0, 1, 2, 1]), None), {"ignore_index": 1}),
    ],
    "kl_loss": [((normal(2, 3, 4), normal(2, 3, 4, seed=1)), {}), ((normal(3, 1), normal(3, 1, seed=1)), {})],
    "reparameterize": [(tuple(normal(2, 3, seed=i) for i in range(3)), {})],
}


def test_every_op_has_a_gradient_check():
    assert set(CASES) == set(ops.__all__)
    assert all(callable(getattr(ops, name).forward) for name in ops.__all__)


@pytest.mark.parametrize("name, case", [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_gradient(float64_backend, name, case):
    arrays, options = CASES[name][case]
    errors = op_errors(getattr(ops, name), *arrays, **options)
    assert len(errors) == sum(getattr(a, "dtype", None) == np.float64 for a in arrays)
    assert max(errors) <= 1e-6


def wrong_where_asked_alone(op, arrays, options):
    """Gradients that an op leaves out or gets wrong where one alone is asked for: [(index asked, what)]."""
    y, backward = op.forward(*arrays, **options)
    if "needs_input_grad" not in inspect.signature(backward).parameters:
        return []
    dy = normal(*np.shape(y), seed=5)
    whole, wrong = backward(dy), []
    for asked in range(len(arrays)):
        alone = backward(dy, tuple(i == asked for i in range(len(arrays))))
        for i, gradient in enumerate(alone):
            expected = whole[i] if i == asked else None
            same = gradient is None if expected is None else np.array_equal(gradient, expected)
            wrong += [] if same else [(asked, i)]
    return wrong


@pytest.mark.parametrize("name, case", [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_a_gradient_that_is_asked_for_alone(float64_backend, name, case):
    arrays, options = CASES[name][case]
    assert wrong_where_asked_alone(getattr(ops, name), arrays, options) == []


@settings(max_examples=15)
@given(data=st.data())
def test_gradient_of_any_convolution(float64_backend, data):
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = data.draw(st.tuples(*[st.integers(0, 2)] * 4))
    height = data.draw(st.integers(max(1, kernel[0] - padding[0] - padding[1]), 4))
    width = data.draw(st.integers(max(1, kernel[1] - padding[2] - padding[3]), 4))
    n, c, k, stride = (data.draw(st.integers(1, top)) for top in (2, 2, 2, 3))
    x, w, b = normal(n, height, width, c), normal(*kernel, c, k, seed=1), normal(k, seed=2)
    assert max(op_errors(ops.conv2d, x, w, b, stride=stride, padding=padding)) <= 1e-6


@settings(max_examples=15)
@given(
    n=st.integers(1, 2),
    length=st.integers(1, 3),
    memory=st.integers(1, 4),
    heads=st.integers(1, 3),
    d=st.integers(1, 3),
)
def test_gradient_of_any_attention(n, length, memory, heads, d):
    q, k, v = (normal(n, m, heads * d, seed=i) for i, m in enumerate([length, memory, memory]))
    assert max(op_errors(ops.attention, q, k, v, heads=heads)) <= 1e-6


@settings(max_examples=15)
@given(
    n=st.integers(1, 2),
    positions=st.integers(2, 3),
    groups=st.integers(1, 3),
    size=st.integers(2, 3),
    silu=st.booleans(),
)
def test_gradient_of_any_group_norm(n, positions, groups, size, silu):
    errors = op_errors(ops.group_norm, *norm_arrays(n, positions, groups * size), groups=groups, silu=silu)
    assert max(errors) <= 1e-6


@pytest.mark.parametrize("name", sorted(set(CASES) - {"add", "subtract", "multiply"}))
def test_float32_stays_float32(name):
    for arrays, options in CASES[name]:
        arrays = [a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a for a in arrays]
        y, backward = getattr(ops, name).forward(*arrays, **options)
        assert y.dtype == np.float32
        for a, dx in zip(arrays, backward(np.ones(y.shape, np.float32)), strict=True):
            assert dx is None or (dx.dtype == np.float32 and dx.shape == a.shape)


def zeros(*shape):
    return np.zeros(shape)


ERRORS = [
    ("conv2d", (zeros(4, 4, 3), zeros(3, 3, 3, 2)), {}, r"x must be \(N, H, W, C\).*x \(4, 4, 3\)"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 4, 2)), {}, r"x has 3 channels but w expects 4 .*w \(3, 3, 4, 2\)"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 3, 2), zeros(3)), {}, r"w has 2 filters but b has shape \(3,\)"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 3, 2).astype("f4")), {}, "x is float64 but w is float32"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 3, 2)), {"stride": 0}, "stride must be ≥ 1"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 3, 2)), {"padding": -1}, "padding one number ≥ 0"),
    (
        "conv2d",
        (zeros(1, 4, 4, 3), zeros(3, 3, 3, 2)),
        {"padding": (1, 1)},
        r"one number ≥ 0 or four, \(top, .*got 1 and \(1, 1\)",
    ),
    (
        "conv2d",
        (zeros(1, 4, 4, 3), zeros(3, 3, 3, 2)),
        {"padding": "same"},
        r"padding one number .*got 1 and \('same', ",
    ),
    ("conv2d", (zeros(1, 3, 8, 8), zeros(3, 3, 3, 2)), {}, r"is x \(N, C, H, W\)\? then x.transpose\(0, 2, 3, 1\)"),
    ("conv2d", (zeros(1, 2, 4, 3), zeros(3, 3, 3, 2)), {}, "2×4 does not hold the kernel"),
    ("conv2d", (zeros(1, 3, 9, 1), zeros(5, 1, 1, 1)), {}, "3×9 does not hold the kernel"),
    ("conv2d", (zeros(1, 9, 3, 1), zeros(1, 5, 1, 1)), {}, "9×3 does not hold the kernel"),
    ("conv2d", (zeros(1, 2, 9, 1), zeros(5, 1, 1, 1)), {"padding": (1, 0, 0, 0)}, "3×9 does not hold the kernel"),
    ("conv_transpose2d", (zeros(2, 2, 3), zeros(2, 2, 4, 3)), {}, r"x \(2, 2, 3\), w \(2, 2, 4, 3\), b None"),
    ("conv_transpose2d", (zeros(1, 2, 2, 3), zeros(2, 2, 3, 4)), {}, r"w \(2, 2, 3, 4\), b None"),
    ("conv_transpose2d", (zeros(1, 2, 2, 3), zeros(2, 2, 4, 3), zeros(3)), {}, r"b \(3,\)"),
    ("conv_transpose2d", (zeros(1, 2, 2, 3), zeros(2, 2, 4, 3)), {"stride": 0}, "stride 0"),
    ("gelu", (zeros(2),), {"approximate": "erf"}, "approximate is 'erf', expected 'none' or 'tanh'"),
    ("rms_norm", (zeros(2, 3), zeros(2)), {}, r"scale \(2,\) must have one number"),
    ("binary_cross_entropy_loss", (zeros(2, 3), zeros(2)), {}, r"shapes \(2, 3\) and \(2,\)"),
    ("dice_loss", (zeros(2, 3), zeros(2)), {}, r"shapes \(2, 3\) and \(2,\)"),
    ("power", (zeros(2),), {"exponent": "2"}, "the exponent is a str, expected a number"),
    ("matmul", (zeros(2, 3), zeros(2, 3)), {}, r"\(…, C, K\), not \(2, 3\) and \(2, 3\)"),
    ("matmul", (zeros(3), zeros(3, 2)), {}, r"not \(3,\) and \(3, 2\)"),
    ("sum", (zeros(2, 3),), {"axis": 2}, r"axis 2 is none of the 2 axes of x \(2, 3\)"),
    ("mean", (zeros(2, 3),), {"axis": (0, -3)}, r"axis \(0, -3\) is none of"),
    ("transpose", (zeros(2, 3),), {"axes": (0, 0)}, r"axes \(0, 0\) are not the 2 axes"),
    ("getitem", (zeros(2, 3),), {"key": np.array([0])}, "a ndarray is no number or slice"),
    ("getitem", (zeros(2, 3),), {"key": (True,)}, "a bool is no number or slice"),
    ("linear", (zeros(2, 3), zeros(4, 5)), {}, r"x \(2, 3\), w \(4, 5\), b None"),
    ("linear", (zeros(2, 4), zeros(4, 5), zeros(4)), {}, r"b \(4,\)"),
    ("linear", (zeros(2, 4), zeros(4)), {}, r"w \(C, K\)"),
    ("group_norm", (zeros(1, 2, 6), zeros(6), zeros(6)), {"groups": 4}, "4 groups must divide the 6 channels"),
    ("group_norm", (zeros(1, 2, 6), zeros(6), zeros(6)), {"groups": 0}, "0 groups"),
    ("group_norm", (zeros(1, 2, 6), zeros(5), zeros(6)), {"groups": 3}, r"scale \(5,\)"),
    ("group_norm", (zeros(0, 2, 6), zeros(6), zeros(6)), {"groups": 3}, r"x \(0, 2, 6\) is empty"),
    ("attention", (zeros(1, 2, 6), zeros(1, 3, 6), zeros(1, 4, 6)), {}, r"k \(1, 3, 6\), v \(1, 4, 6\)"),
    ("attention", (zeros(1, 2, 6), zeros(2, 3, 6), zeros(2, 3, 6)), {}, r"q \(1, 2, 6\)"),
    ("attention", (zeros(1, 2, 6), zeros(1, 3, 6), zeros(1, 3, 6)), {"heads": 4}, "heads 4"),
    ("attention", (zeros(2, 6), zeros(2, 6), zeros(2, 6)), {}, r"q must be \(N, L, D\)"),
    ("attention", (zeros(2, 2, 6),) * 3, {"mask": zeros(2, 2)}, r"mask is float64 \(2, 2\), expected bool \(2, 2\) or"),
    ("attention", (zeros(2, 2, 6),) * 3, {"mask": zeros(2, 3) > 0}, r"mask is bool \(2, 3\)"),
    ("attention", (zeros(1, 2, 6), zeros(1, 0, 6), zeros(1, 0, 6)), {}, r"k \(1, 0, 6\) is empty"),
    ("geglu", (zeros(2, 5),), {}, r"\(2, 5\) must be even"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 3, 2)), {"dilation": 0}, "dilation 0 ≥ 1"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 1, 2)), {"groups": 3}, "groups 3 that divide the filters"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 1, 4)), {"groups": 2}, "x has 3 channels but w expects 2"),
    ("conv2d", (zeros(1, 4, 4, 3), zeros(3, 3, 3, 2)), {"dilation": 2}, "4×4 does not hold the kernel"),
    ("max_pool2d", (zeros(4, 4, 1),), {}, r"x \(4, 4, 1\) must be \(N, H, W, C\)"),
    ("max_pool2d", (zeros(1, 1, 4, 1),), {}, "hold windows of 2"),
    ("max_pool2d", (zeros(1, 4, 4, 1),), {"size": 0}, "windows of 0"),
    ("max_pool2d", (zeros(1, 4, 4, 1),), {"stride": 0}, "stride 0 ≥ 1"),
    ("max_pool2d", (zeros(1, 4, 4, 1),), {"padding": 2}, "padding 2 < size"),
    ("avg_pool2d", (zeros(1, 4, 4, 1),), {"padding": -1}, "padding -1"),
    ("upsample_bilinear", (zeros(4, 4, 1),), {}, r"not \(4, 4, 1\)"),
    ("upsample_bilinear", (zeros(1, 4, 4, 1),), {"size": (0, 3)}, r"and \(0, 3\)"),
    ("batch_norm", (zeros(2, 3), zeros(3), zeros(2)), {}, "one number for each of"),
    ("batch_norm", (zeros(2, 3), zeros(3), zeros(3)), {"running": (zeros(3), zeros(2))}, "one number for each of"),
    ("batch_norm", (zeros(1, 3), zeros(3), zeros(3)), {}, r"x \(1, 3\) needs two values a channel"),
    ("batch_norm", (zeros(2, 3), zeros(3), zeros(3)), {"training": False}, "and `running` without it"),
    ("dropout", (zeros(2, 3),), {"rng": None, "p": 1}, r"p must lie in \[0, 1\); got 1"),
    (
        "cross_entropy_loss",
        (zeros(1, 3), np.array([0])),
        {"class_weights": zeros(2)},
        r"class_weights \(2,\), expected 3",
    ),
    ("cross_entropy_loss", (zeros(1, 3), np.array([9])), {"ignore_index": 9}, "got 9 alone, which is ignored"),
    ("upsample_nearest", (zeros(4, 4, 1),), {}, r"not \(4, 4, 1\)"),
    ("embedding", (zeros(3, 2), np.array([0, 3])), {}, "from 0 to 3, the table has 3 rows"),
    ("embedding", (zeros(3, 2), np.array([-1, 2])), {}, "from -1 to 2"),
    ("concat", (zeros(2, 3, 4), zeros(2, 2, 4)), {}, r"\(2, 3, 4\) and \(2, 2, 4\)"),
    ("slice_channels", (zeros(2, 4),), {"start": 2, "stop": 5}, "2 … 5 is no part of the 4 channels"),
    ("slice_channels", (zeros(2, 4),), {"start": 2, "stop": 2}, "2 … 2 is no part"),
    ("add_channel_bias", (zeros(2, 3, 4), zeros(4)), {}, r"\(2, 3, 4\) and \(4,\)"),
    ("add_channel_bias", (zeros(2, 3, 4), zeros(2, 3)), {}, r"\(2, 3, 4\) and \(2, 3\)"),
    ("mse_loss", (zeros(2, 3), zeros(3)), {}, r"shapes \(2, 3\) and \(3,\)"),
    ("l1_loss", (zeros(2, 3), zeros(2, 1)), {}, r"shapes \(2, 3\) and \(2, 1\)"),
    ("kl_loss", (zeros(2, 3), zeros(3)), {}, r"shapes \(2, 3\) and \(3,\)"),
    ("reparameterize", (zeros(2, 3), zeros(2, 3), zeros(3)), {}, r"shapes \(2, 3\) and \(3,\)"),
    ("reparameterize", (zeros(2, 3), zeros(2, 1), zeros(2, 3)), {}, r"shapes \(2, 3\) and \(2, 1\)"),
    ("cross_entropy_loss", (zeros(2, 3), np.array([0])), {}, r"logits \(2, 3\) must be \(…, K\) and labels \(1,\)"),
    ("cross_entropy_loss", (zeros(2, 3), np.array([0, 1]), zeros(1)), {}, r"weights \(1,\), expected one.*\(2,\)"),
    ("cross_entropy_loss", (zeros(2, 3), np.array([0, 3])), {}, "labels must be 0 … 2; got 0 … 3"),
    ("cross_entropy_loss", (zeros(2, 3), np.array([-1, 0])), {}, "labels must be 0 … 2"),
    ("cross_entropy_loss", (zeros(2, 4, 3), np.array([[0, 3, 0, 0]] * 2)), {}, "labels must be 0 … 2"),
    ("cross_entropy_loss", (zeros(2, 0, 3), np.zeros((2, 0), int)), {}, r"logits \(2, 0, 3\) is empty"),
    ("concat", (zeros(2, 3).astype("f4"), zeros(2, 0).astype("f4")), {}, r"b \(2, 0\) is empty"),
    ("softmax", (zeros(2, 0),), {}, r"x \(2, 0\) is empty"),
    (
        "silu",
        ([1.0, 2.0],),
        {},
        r"x is a list, expected an array of floating-point numbers: np.asarray\(x, np.float32\)",
    ),
    ("silu", (None,), {}, "x is a NoneType, expected an array"),
    ("linear", (zeros(2, 3), zeros(3, 4), [0.0] * 4), {}, "b is a list"),
]


@pytest.mark.parametrize("name, arrays, options, message", ERRORS)
def test_shapes_that_do_not_fit(name, arrays, options, message):
    with pytest.raises(InputError, match=f"(?s)^{name}: .*{message}") as caught:
        getattr(ops, name).forward(*arrays, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.complex64])
@pytest.mark.parametrize("name", ops.__all__)
def test_what_is_no_floating_type_is_refused(name, dtype):
    """silu of [1, 2, 3] would be all zeros, a convolution of uint8 wrap around."""
    arrays, options = CASES[name][0]
    names = list(inspect.signature(getattr(ops, name)).parameters)
    for i, array in enumerate(arrays):
        if getattr(array, "dtype", None) == np.float64:
            others = [abs(a).astype(dtype) if i == j else a for j, a in enumerate(arrays)]
            message = rf"^{name}: {names[i]} is {np.dtype(dtype)} \(.*\), expected floating-point numbers"
            with pytest.raises(InputError, match=message):
                getattr(ops, name).forward(*others, **options)
            with pytest.raises(InputError, match=message):
                getattr(ops, name)(*(Tensor(a) if isinstance(a, np.ndarray) else a for a in others), **options)


@pytest.mark.parametrize("name", ops.__all__)
def test_float16_stays_float16(name):
    """On the backend `numpy`, which takes any float type."""
    for arrays, options in CASES[name]:
        arrays = [a.astype(np.float16) if getattr(a, "dtype", None) == np.float64 else a for a in arrays]
        y, backward = getattr(ops, name).forward(*arrays, **options)
        assert y.dtype == np.float16
        assert all(dx is None or dx.dtype == np.float16 for dx in backward(np.ones(y.shape, np.float16)))


def test_class_weights_are_shares():
    """The sum is divided by what the labels' classes weigh; no gradient is asked for by the weights."""
    logits, labels, classes = 2 * normal(5, 3), np.array([0, 2, 2, 1, 0]), np.array([0.5, 1.0, 3.0])
    loss, backward = ops.cross_entropy_loss.forward(logits, labels, class_weights=classes)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(classes[labels] * log_p[np.arange(5), labels]).sum() / classes[labels].sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    dlogits, *others = backward(np.float64(1.0))
    assert others == [None, None]
    for place in np.ndindex(logits.shape):
        moved = logits.copy()
        moved[place] += 1e-6
        slope = (ops.cross_entropy_loss.forward(moved, labels, class_weights=classes)[0] - loss) / 1e-6
        np.testing.assert_allclose(dlogits[place], slope, atol=1e-5)


def test_leaky_relu_bends_at_zero():
    y, backward = ops.leaky_relu.forward(np.array([-2.0, -0.5, 0.0, 0.5, 2.0]), slope=0.1)
    np.testing.assert_array_equal(y, [-0.2, -0.05, 0.0, 0.5, 2.0])
    np.testing.assert_array_equal(backward(np.ones(5))[0], [0.1, 0.1, 0.1, 1.0, 1.0])


def test_two_values_are_enough_for_a_batch_norm():
    y, _ = ops.batch_norm.forward(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), eps=0.0)
    np.testing.assert_array_equal(y, [[-1.0], [1.0]])


def test_a_batch_norm_keeps_what_it_saw():
    x, scale, shift = norm_arrays(4, 3, 5)
    mean, variance = np.zeros(5), np.ones(5)
    ops.batch_norm(x, scale, shift, running=(mean, variance), momentum=0.3)
    np.testing.assert_allclose(mean, 0.3 * x.mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(variance, 0.7 + 0.3 * x.reshape(-1, 5).var(0, ddof=1), rtol=1e-12)
    alone = [
        ops.batch_norm.forward(x[i : i + 1], scale, shift, running=(mean, variance), training=False)[0] for i in (0, 1)
    ]
    together, _ = ops.batch_norm.forward(x[:2], scale, shift, running=(mean, variance), training=False)
    np.testing.assert_array_equal(np.concatenate(alone), together)


def test_dropout_keeps_the_mean():
    x = np.ones((200, 200))
    y, backward = ops.dropout.forward(x, rng=np.random.default_rng(0), p=0.25)
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert y.mean() == pytest.approx(1, abs=0.01) and (y == 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(backward(x)[0], y)
    np.testing.assert_array_equal(ops.dropout.forward(x, rng=None, training=False)[0], x)


def test_the_middle_is_the_middle():
    x = np.arange(7 * 9.0).reshape(1, 7, 9, 1)
    y = ops.center_crop.forward(x, size=(1, 5))[0]
    np.testing.assert_array_equal(y[0, :, :, 0], [[3 * 9 + 2, 29 + 1, 29 + 2, 29 + 3, 29 + 4]])


def test_values_by_hand():
    x = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(ops.relu.forward(x)[0], [0, 0, 2])
    np.testing.assert_allclose(ops.silu.forward(x)[0], x / (1 + np.exp(-x)), rtol=1e-12)
    np.testing.assert_allclose(ops.softmax.forward(np.array([1000.0, 1000.0]))[0], [0.5, 0.5])
    np.testing.assert_allclose(ops.gelu.forward(np.array([1.0]))[0], 0.8413447460685429, rtol=1e-12)
    assert ops.cross_entropy_loss.forward(np.zeros((3, 4)), np.array([0, 1, 2]))[0] == pytest.approx(np.log(4))
    assert ops.kl_loss.forward(np.zeros((2, 3)), np.zeros((2, 3)))[0] == 0
    assert ops.kl_loss.forward(np.full((2, 3), 2.0), np.zeros((2, 3)))[0] == 6  # ½·3·2² for each example
    x = normal(2, 3, 4, 6)
    y, _ = ops.group_norm.forward(5 + 3 * x, np.ones(6), np.zeros(6), groups=2, eps=0)
    np.testing.assert_allclose(y.reshape(2, 12, 2, 3).mean((1, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.reshape(2, 12, 2, 3).var((1, 3)), 1, rtol=1e-12)


def test_a_query_sees_where_it_may_and_nothing_else():
    q, k, v = (normal(2, 3, 4, seed=i) for i in range(3))
    y = ops.attention.forward(q, k, v, heads=2, causal=True)[0]
    for i in range(3):  # what comes after it is as if it were not there
        upto = ops.attention.forward(q[:, i : i + 1], k[:, : i + 1], v[:, : i + 1], heads=2)[0]
        np.testing.assert_allclose(y[:, i : i + 1], upto, rtol=1e-12)
    mask = np.array([[True, False, True], [False, False, False], [True, True, True]])
    y = ops.attention.forward(q, k, v, mask=mask)[0]
    np.testing.assert_allclose(y[:, :1], ops.attention.forward(q[:, :1], k[:, ::2], v[:, ::2])[0], rtol=1e-12)
    assert not y[:, 1].any()  # it may look nowhere
    np.testing.assert_allclose(y[:, 2:], ops.attention.forward(q[:, 2:], k, v)[0], rtol=1e-12)
    single = [a.astype(np.float32) for a in (q, k, v)]
    np.testing.assert_allclose(ops.attention.forward(*single, mask=mask)[0], y, rtol=1e-5, atol=1e-6)


def test_a_mask_of_each_image_holds_for_all_its_heads():
    q, k, v = (normal(2, 3, 6, seed=i) for i in range(3))
    looks = np.random.default_rng(1).random((2, 3, 3)) < 0.6
    y = ops.attention.forward(q, k, v, heads=3, mask=looks)[0]
    for n in range(2):
        alone = ops.attention.forward(q[n : n + 1], k[n : n + 1], v[n : n + 1], heads=3, mask=looks[n])[0]
        np.testing.assert_allclose(y[n : n + 1], alone, rtol=1e-12)


def test_every_op_says_what_it_is_and_what_a_call_gives():
    for name in ops.__all__:
        last = inspect.getdoc(getattr(ops, name)).splitlines()[-1]
        assert last == f"On Tensors it gives a Tensor; `{name}.forward(…)` on plain arrays gives (y, backward)."
        assert inspect.signature(getattr(ops, name)).return_annotation is Tensor


def test_bilinear_corners_are_not_aligned_unless_told():
    x = np.arange(4.0).reshape(1, 1, 4, 1)
    default, apart, aligned = (
        ops.upsample_bilinear.forward(x, size=(1, 6), **how)[0]
        for how in ({}, {"align_corners": False}, {"align_corners": True})
    )
    np.testing.assert_array_equal(default, apart)
    assert (default != aligned).any()
