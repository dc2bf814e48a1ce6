"""The tape: what collects gradients, what is refused and with which advice."""

import inspect
import threading

import numpy as np
import pytest

from tinydiff import autograd, nn, ops
from tinydiff.arithmetic import unbroadcast
from tinydiff.autograd import Tensor, no_grad, op
from tinydiff.gradcheck import numeric, relative_error


def leaf(*values):
    return Tensor(np.array(values, np.float64), requires_grad=True)


def test_a_value_used_twice_collects_both_gradients():
    x = leaf(1.0, 2.0, 3.0)
    (x * x + x).backward(np.array([1.0, 10.0, 100.0]))
    np.testing.assert_array_equal(x.grad, [3.0, 50.0, 700.0])  # dy·(2x + 1)


def test_a_node_runs_once_after_all_of_its_users():
    calls = []

    @op
    def double(x):
        def backward(dy):
            calls.append(dy.copy())
            return (2 * dy,)

        return 2 * x, backward

    x = leaf(1.0)
    y = double(x)
    (y * 3 + y * 5).backward()
    assert x.grad == 16 and len(calls) == 1 and calls[0] == 8


def test_gradients_add_up_over_graphs():
    x = leaf(2.0)
    (x * x).backward()
    (x * 3).backward()
    assert x.grad == 7


def test_backward_twice_is_refused():
    x = leaf(1.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match="walked before.*run the forward again"):
        y.backward()
    with pytest.raises(RuntimeError, match="walked before"):
        (y * 2).backward()
    assert x.grad == 2


def test_a_root_that_is_no_scalar_needs_an_upstream_gradient():
    y = leaf(1.0, 2.0) * 2
    with pytest.raises(RuntimeError, match=r"shape \(2,\).*backward\(dy\)"):
        y.backward()
    with pytest.raises(RuntimeError, match=r"shape \(3,\), expected \(2,\)"):
        y.backward(np.ones(3))
    y.backward(np.ones(2))  # a refusal has not spoilt the graph


def test_a_root_without_history_is_refused():
    with pytest.raises(RuntimeError, match="requires_grad=True"):
        (Tensor(np.ones(1)) * 2).backward()


@pytest.mark.parametrize("change", ["t[0] = 1", "t += 1", "t -= 1", "t *= 2", "t /= 2"])
def test_in_place_is_refused_and_the_alternative_named(change):
    with pytest.raises(TypeError, match=r"in place.*y = x \+ 1"):
        exec(change, {"t": leaf(1.0, 2.0)})


def test_arithmetic_reads_as_in_numpy():
    """Written as for arrays, and its gradient by central differences."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4))

    def value(a, b):
        inner = a.transpose(0, 2, 1) @ b
        return ((a - b) ** 2).mean() / (3 + inner[:, 1:, ::2].sum(axis=(0, 1)).sum() ** 2) - 2 / (-a * b - 7).mean()

    ta, tb = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    y = value(ta, tb)
    assert y.item() == pytest.approx(value(a, b), rel=1e-12)
    y.backward()
    for x, tensor in ((a, ta), (b, tb)):
        assert relative_error(tensor.grad, numeric(lambda: np.array(value(a, b)), x)) < 1e-7


def test_arrays_on_the_tape_are_read_only():
    t = Tensor(np.ones(3), requires_grad=True)
    for array in (t.data, (t * 2).data, ops.reshape(t, shape=(3, 1)).data):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    with pytest.raises(AttributeError):
        t.data = np.zeros(3)


@pytest.mark.parametrize("seen_through", ["the array", "a view", "a broadcast view", "a read-only view"])
def test_what_the_caller_changes_afterwards_changes_no_gradient(seen_through):
    base = np.full((2, 3), 2.0)
    x = {"a view": base[:, ::2], "a broadcast view": np.broadcast_to(base, (4, 2, 3))}.get(seen_through, base)
    if seen_through == "a read-only view":
        x = base[:1]
        x.setflags(write=False)
    leaf_of_it, plain = Tensor(x, requires_grad=True), Tensor(np.ones(x.shape), requires_grad=True)
    y = leaf_of_it * leaf_of_it + plain * x  # once as a Tensor, once as an array that goes on the tape by itself
    before = y.data.copy()
    base[:] = 100  # it stays the caller's own, to do with as they like
    y.backward(np.ones(x.shape))
    np.testing.assert_array_equal(leaf_of_it.grad, np.full(x.shape, 4.0))
    np.testing.assert_array_equal(plain.grad, np.full(x.shape, 2.0))
    np.testing.assert_array_equal(y.data, before)


def test_an_upstream_gradient_stays_the_callers():
    x, dy = leaf(1.0, 2.0), np.ones(2)
    (x + 1).backward(dy)
    dy[:] = 5
    np.testing.assert_array_equal(x.grad, [1, 1])
    y = Tensor(np.ones(2, np.float32), requires_grad=True)
    (y * 2).backward(np.array([1, 2]))  # integers, and for a float32 result
    assert y.grad.dtype == np.float32 and y.grad.tolist() == [2, 4]


def test_off_the_tape_a_result_is_no_view_of_the_callers_array():
    x = np.arange(6.0)
    y = ops.reshape(x, shape=(2, 3))
    x[0] = 7
    assert y.data[0, 0] == 0


def test_nothing_is_copied_that_nobody_can_change():
    handed_over = autograd.read_only(np.ones(6).reshape(2, 3))
    assert Tensor(handed_over).data is handed_over
    many = nn.module.constant(
        None, (1 << 30,), 1
    )  # a parameter without a generator: one number that pretends to be many
    assert nn.Parameter(many).data is many
    made = []

    @op
    def double(x):
        made.append(2 * x)
        return made[0], lambda dy: (2 * dy,)

    y = double(leaf(1.0, 2.0))
    assert y.data is made[0] and Tensor(y.data).data is made[0] and y.detach().data is made[0]
    parts = ops.silu(Tensor(np.ones((1, 64, 64, 4), np.float32)))  # of the compiled kernels, in a larger room
    assert Tensor(parts.data).data is parts.data


def test_a_parameter_is_no_view_of_the_array_that_it_was_given():
    values = np.ones(3)
    p = nn.Parameter(values)
    values[:] = 2
    p.assign(other := np.full(3, 3.0))
    other[:] = 4
    assert p.data.tolist() == [3, 3, 3]


def test_no_grad_records_nothing_and_ends_with_its_block():
    x = leaf(1.0)
    with no_grad():
        y = x * 2
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    assert not y.requires_grad and y.data == 2
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_no_grad_holds_for_its_own_thread_alone():
    x, recorded = leaf(1.0), []
    with no_grad():
        thread = threading.Thread(target=lambda: recorded.append((x * 2).requires_grad))
        thread.start()
        thread.join()
        assert recorded == [True] and not (x * 2).requires_grad


def test_detach_ends_the_history():
    x = leaf(3.0)
    (x * x.detach()).backward()
    assert x.grad == 3


def test_depth_is_no_limit():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1
    y.backward()
    assert x.grad == 1 and y.data == 20_001
    y = x
    for _ in range(20_000):
        y = y + 1
    del y  # a graph that was never walked goes without recursion too


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (2, 1, 1), (1, 3, 4), (2, 3, 4), (1, 1, 1)])
@pytest.mark.parametrize("operation", [ops.add, ops.subtract, ops.multiply])
def test_broadcasting_is_undone(operation, shape):
    rng = np.random.default_rng(0)
    a, b, dy = rng.standard_normal((2, 3, 4)), rng.standard_normal(shape), rng.standard_normal((2, 3, 4))
    ta, tb = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    operation(ta, tb).backward(dy)
    by_b = {ops.add: dy, ops.subtract: -dy, ops.multiply: dy * a}[operation]
    by_a = dy * b if operation is ops.multiply else dy
    full = (1,) * (3 - len(shape)) + shape
    expected = by_b.sum(axis=tuple(i for i, n in enumerate(full) if n == 1), keepdims=True).reshape(shape)
    assert tb.grad.shape == shape
    np.testing.assert_allclose(tb.grad, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ta.grad, by_a, rtol=1e-12)
    assert unbroadcast(dy, b).shape == shape
    assert unbroadcast(dy, 2.0).shape == ()


def test_numbers_and_arrays_stand_on_either_side():
    x, numbers = leaf(1.0, 2.0), np.array([3.0, 4.0])
    for y in (2 - x, 2 * x, 2 + x, numbers - x, numbers * x, numbers + x, x - 2, x - numbers):
        assert isinstance(y, Tensor) and y.requires_grad
    np.testing.assert_array_equal((numbers - x).data, [2, 2])
    np.testing.assert_array_equal((numbers * x).data, [3, 8])


def test_an_op_on_plain_arrays():
    x = np.array([-1.0, 2.0])
    y, backward = ops.relu.forward(x)
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(backward(np.array([5.0, 7.0]))[0], [0, 7])
    lifted = ops.relu(x)
    assert isinstance(lifted, Tensor) and not lifted.requires_grad
    x[0] = 3  # nothing was recorded, so the array stays the caller's


def test_only_what_asks_for_it_gets_a_gradient():
    x, w = leaf(1.0, 2.0), Tensor(np.ones(2))
    (x * w).backward(np.ones(2))
    assert w.grad is None and x.grad is not None


@pytest.mark.parametrize("call", [(), (None,)])
def test_an_optional_array_may_be_left_out(call):
    rng = np.random.default_rng(0)
    x, w = Tensor(rng.random((1, 3, 3, 2)), requires_grad=True), Tensor(rng.random((1, 1, 2, 2)), requires_grad=True)
    y = ops.linear(ops.conv2d(x, w, *call), Tensor(np.ones((2, 1))), *call)
    y.backward(np.ones(y.shape))
    np.testing.assert_allclose(x.grad, np.broadcast_to(w.data.sum((0, 1, 3)), x.shape))


def test_an_array_may_be_given_by_name():
    bias = leaf(1.0, 2.0)
    ops.linear(np.ones((3, 1)), np.ones((1, 2)), b=bias).backward(np.ones((3, 2)))
    np.testing.assert_array_equal(bias.grad, [3, 3])


def test_gradients_that_nobody_needs_are_not_computed(monkeypatch):
    """The images of the first layer are no parameters; neither is a frozen weight."""
    from tinydiff.kernels import cpu

    called = []
    for name in ("conv2d_input_grad", "conv2d_weight_grad"):
        original = getattr(cpu, name)
        monkeypatch.setattr(cpu, name, lambda *a, name=name, original=original: (called.append(name), original(*a))[1])
    x, w = np.ones((1, 4, 4, 2), np.float32), np.ones((3, 3, 2, 3), np.float32)
    for tensors, expected in (
        ((Tensor(x), Tensor(w, requires_grad=True)), ["conv2d_weight_grad"]),
        ((Tensor(x, requires_grad=True), Tensor(w)), ["conv2d_input_grad"]),
        ((Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)), ["conv2d_input_grad", "conv2d_weight_grad"]),
    ):
        called.clear()
        ops.conv2d(*tensors, padding=1).backward(np.ones((1, 4, 4, 3), np.float32))
        assert called == expected
        assert [t.grad is not None for t in tensors] == [t.requires_grad for t in tensors]


def test_a_selective_op_receives_which_gradients_are_needed():
    seen = []

    @op(selective=True)
    def product(a, b, c=None):
        def backward(dy, needs_input_grad=(True, True, True)):
            seen.append(needs_input_grad)
            return dy * b if needs_input_grad[0] else None, dy * a if needs_input_grad[1] else None, None

        return a * b, backward

    a, b = leaf(2.0), leaf(3.0)
    product(a, Tensor(np.array([5.0]))).backward()
    product(np.array([7.0]), b).backward()
    product(a, b).backward()
    assert seen == [(True, False, False), (False, True, False), (True, True, False)]
    assert a.grad == 5 + 3 and b.grad == 7 + 2
    assert product.forward(2.0, 3.0)[1](1.0) == (3.0, 2.0, None)


def test_a_call_promises_a_tensor_and_forward_a_pair():
    signature = inspect.signature(ops.conv2d)
    assert signature.return_annotation is Tensor and ops.conv2d.__annotations__["return"] is Tensor
    assert list(signature.parameters) == ["x", "w", "b", "stride", "padding", "dilation", "groups"]
    assert inspect.signature(ops.conv2d.forward).return_annotation == tuple[autograd.Array, autograd.Backward]


def test_repr_shows_few_values_and_of_many_the_shape_and_the_range():
    assert repr(leaf(1.0, 2.0)) == "Tensor(array([1., 2.]), requires_grad=True)"
    assert repr(Tensor(np.zeros(12))).startswith("Tensor(array([0., 0.,") and "shape=(13,)" in repr(
        Tensor(np.zeros(13))
    )
    image = Tensor(np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 4, 4, 3))
    assert repr(image) == "Tensor(shape=(1, 4, 4, 3), dtype=float32, min=-1, max=1)"
    assert repr(Tensor(np.zeros((0, 3)))) == "Tensor(array([], shape=(0, 3), dtype=float64))"


def test_an_optional_array_by_its_name_gets_its_gradient():
    x, w, b = leaf([1.0, 2.0]), leaf([1.0], [3.0]), leaf(0.5)
    ops.linear(x, b=b, w=w).backward(np.array([[2.0]]))
    assert b.grad == 2 and w.grad.tolist() == [[2], [4]] and x.grad.tolist() == [[2, 6]]
    with pytest.raises(TypeError):
        ops.linear(x)
