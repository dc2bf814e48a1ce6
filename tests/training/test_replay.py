"""A recorded step is the step: same loss, same gradients, and again with other numbers."""

import numpy as np
import pytest

from tinydiff import kernels, nn, ops
from tinydiff.autograd import Tensor
from tinydiff.nn.module import forward_hook
from tinydiff.training.optim import AdamW, OptimConfig
from tinydiff.training.replay import ReplayedLoss


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class Net(nn.Module):
    def __init__(self):
        self.first, self.second = nn.Linear(np.random.default_rng(0), 3, 4), nn.Linear(np.random.default_rng(1), 4, 2)
        self.unused = nn.Linear(np.random.default_rng(2), 1, 1)

    def forward(self, x):
        return nn.chain(x, self.first, ops.silu, self.second)


def flat(results):
    """All arrays among nested results."""
    if isinstance(results, (list, tuple)):
        return [a for part in results for a in flat(part)]
    return [] if results is None else [results]


def filled(results, arrays):
    """The same nesting, of other arrays."""
    if isinstance(results, (list, tuple)):
        return type(results)(filled(part, arrays) for part in results)
    return None if results is None else next(arrays)


@pytest.fixture
def recorder(monkeypatch):
    """A backend that records: it computes again what lies in the inputs, into the arrays that it gave before."""
    calls = []

    def record(work, inputs, memory):
        own = [a.copy() for a in inputs]
        results, outputs = work(*own), []
        outputs = [np.array(a) for a in flat(results)]
        calls.append("record")

        done = [True]  # a record computes nothing yet; what it has computed here stands for the first replay

        def replay():
            calls.append("replay")
            if done:
                done.clear()
                return
            for output, new in zip(outputs, flat(work(*own)), strict=True):
                output[...] = new

        return own, filled(results, iter(outputs)), replay

    find = kernels.find_kernel
    monkeypatch.setattr(kernels, "find_kernel", lambda name, x: record if name.startswith("record_") else find(name, x))
    return calls


def step_of(net):
    return ReplayedLoss(net, lambda x, y: ops.mse_loss(net(Tensor(x)), Tensor(y)))


def gradients_of(net, loss):
    loss.backward()
    found = {name: None if p.grad is None else p.grad.copy() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = None
    return loss.item(), found


def assert_same(net, step, x, y):
    loss, found = gradients_of(net, step(x, y))
    expected_loss, expected = gradients_of(net, ops.mse_loss(net(Tensor(x)), Tensor(y)))
    assert loss == expected_loss and found.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_array_equal(found[name], gradient)  # None for the layer that is not used


def test_replayed_steps_are_the_steps(recorder):
    net = Net()
    step = step_of(net)
    for seed in range(3):
        assert_same(net, step, normal(5, 3, seed=seed), normal(5, 2, seed=10 + seed))
    assert recorder == ["record", "replay", "replay"]  # the first one as it is
    for _ in range(2):
        assert_same(net, step, normal(2, 3), normal(2, 2))  # another shape is another record,
    assert_same(net, step, normal(5, 3), normal(5, 2))  # for which the first one, which takes much memory, has gone
    assert recorder[3:] == ["record", "replay"]


def test_weights_in_other_memory_are_recorded_again(recorder):
    net = Net()
    step = step_of(net)
    for _ in range(2):
        assert_same(net, step, normal(5, 3), normal(5, 2))
    net.load_state_dict({name: a + 1 for name, a in net.state_dict().items()})
    for _ in range(2):
        assert_same(net, step, normal(5, 3), normal(5, 2))
    assert recorder == ["record", "replay"] * 2


def test_a_training_is_the_same(recorder, monkeypatch):
    """The optimiser changes the weights in place: one record serves all steps."""

    def trained():
        net = Net()
        optimiser, step, losses = AdamW(net, OptimConfig(steps=5, batch=4, warmup=1)), step_of(net), []
        for i in range(5):
            loss = step(normal(4, 3, seed=i), normal(4, 2, seed=50 + i))
            loss.backward()
            optimiser.step(i)
            losses.append(loss.item())
        return losses, net.state_dict()

    losses, weights = trained()
    # The loss from the second step on; norm and update from the third, when the recorded gradients come again.
    assert recorder.count("record") == 3 and recorder.count("replay") == 4 + 2 * 3
    monkeypatch.undo()
    expected_losses, expected = trained()
    assert losses == expected_losses
    for name, array in expected.items():
        np.testing.assert_array_equal(weights[name], array)


def test_gradients_add_up_and_are_scaled(recorder):
    """What a loss of the tape does: two backwards add up, and a factor after the loss reaches the gradients."""
    net = Net()
    step, x, y = step_of(net), normal(5, 3), normal(5, 2)
    _, once = gradients_of(net, step(x, y))
    _, other = gradients_of(net, step(x + 1, y))
    step(x, y).backward()
    _, both = gradients_of(net, step(x + 1, y))
    _, tripled = gradients_of(net, step(x, y) * np.float32(3))
    np.testing.assert_allclose(both["first.weight"], once["first.weight"] + other["first.weight"], rtol=1e-6)
    np.testing.assert_allclose(tripled["first.weight"], 3 * once["first.weight"], rtol=1e-6)


def test_one_step_is_differentiated_once(recorder):
    net = Net()
    loss = step_of(net)(normal(5, 3), normal(5, 2))
    loss.backward()
    for p in net.parameters():
        p.grad = None
    with pytest.raises(RuntimeError, match="run the forward again"):
        loss.backward()


def test_a_hook_sees_every_layer(recorder):
    net, seen = Net(), []
    step = step_of(net)
    with forward_hook(lambda layer, inputs, y: seen.append(layer)):
        step(normal(5, 3), normal(5, 2))
    assert net.first in seen and recorder == []
