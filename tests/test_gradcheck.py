"""The checker is checked: it passes what is right, and finds each classic mistake."""

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.autograd import Tensor, op
from tinydiff.gradcheck import module_errors, numeric, op_errors, relative_error
from tinydiff.nn import Linear


def affine(dx=lambda dy, x, w: dy @ w.T, dw=lambda dy, x, w: x.T @ dy, db=lambda dy: dy.sum(0)):
    """x·w + b with square w, so that a transposed gradient has the right shape; any gradient may be exchanged."""

    @op
    def forward(x, w, b):
        return x @ w + b, lambda dy: (dx(dy, x, w), dw(dy, x, w), db(dy))

    return forward


def arrays():
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape) for shape in [(3, 3), (3, 3), (3,)]]


def test_a_right_gradient_passes():
    assert max(op_errors(affine(), *arrays())) < 1e-8


WRONG = {
    "transposed": (0, {"dx": lambda dy, x, w: dy @ w}),
    "transposed result": (1, {"dw": lambda dy, x, w: dy.T @ x}),
    "summed over the wrong axis": (2, {"db": lambda dy: dy.sum(1)}),
    "a mean instead of a sum": (2, {"db": lambda dy: dy.mean(0)}),
    "a constant factor": (0, {"dx": lambda dy, x, w: 1.001 * dy @ w.T}),
    "the sign": (1, {"dw": lambda dy, x, w: -x.T @ dy}),
    "the upstream gradient forgotten": (2, {"db": lambda dy: np.full(3, 3.0)}),
    "the wrong shape": (2, {"db": lambda dy: dy.sum(0, keepdims=True)}),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_gradient_is_found_where_it_is(mistake):
    place, wrong = WRONG[mistake]
    errors = op_errors(affine(**wrong), *arrays())
    assert errors.pop(place) > 5e-4
    assert max(errors) < 1e-8


def test_a_small_gradient_may_not_be_wrong_either():
    @op
    def small(x):
        return 1e-4 * x, lambda dy: (1.1e-4 * dy,)

    assert op_errors(small, np.ones(3))[0] == pytest.approx(0.1, rel=1e-4)


def test_integers_pass_unchecked():
    assert len(op_errors(ops.embedding, np.ones((3, 2)), np.array([0, 2]))) == 1


def test_x_is_restored_and_inputs_untouched():
    x = np.random.default_rng(0).standard_normal((3, 4))
    before = x.copy()
    gradient = numeric(lambda: float((x**3).sum()), x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(gradient, 3 * x**2, rtol=1e-6, atol=1e-8)
    given = arrays()
    kept = [a.copy() for a in given]
    op_errors(affine(), *given)
    for a, b in zip(given, kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_module_names_the_parameter_that_is_wrong(monkeypatch):
    module = Linear(np.random.default_rng(0), 3, 2).astype(np.float64)
    x = Tensor(np.random.default_rng(1).standard_normal((4, 3)), requires_grad=True)
    state = {name: value.copy() for name, value in module.state_dict().items()}
    right = module_errors(module, lambda: module(x), {"x": x})
    assert set(right) == {"weight", "bias", "x"} and max(right.values()) < 1e-8
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(value, state[name])

    monkeypatch.setattr(ops, "linear", affine(db=lambda dy: dy.mean(0)))
    wrong = module_errors(module, lambda: module(x), {"x": x})
    assert wrong.pop("bias") > 0.1 and max(wrong.values()) < 1e-8


def test_a_missing_gradient_is_an_error():
    module = Linear(np.random.default_rng(0), 3, 2).astype(np.float64)
    unused = Tensor(np.ones(2), requires_grad=True)
    x = Tensor(np.ones((1, 3)))
    assert module_errors(module, lambda: module(x), {"unused": unused})["unused"] == float("inf")


def test_relative_error():
    assert relative_error(np.array([1.0, 0.0]), np.array([2.0, 0.0])) == 0.5
    assert relative_error(np.array([0.5]), np.array([0.0])) == 0.5  # nothing to be relative to: absolute
    assert relative_error(np.array([np.nan]), np.array([1.0])) != 0
