"""A training step recorded and replayed: its loss with all gradients; `training/optim.py` has the update."""

from collections.abc import Callable

from tinydiff import kernels
from tinydiff.autograd import Array, Tensor
from tinydiff.nn.module import Module, hooked
from tinydiff.replay import Replay


class ReplayedLoss:
    """`loss(*arrays)`, a scalar, for the training of `model`, as `Replay` has it: forward and backward in one.

    The next call overwrites the gradients that `backward` left, unless they are still some parameter's `grad`.

    loss = ReplayedLoss(model, lambda x, y: ops.mse_loss(model(Tensor(x)), Tensor(y)))
    loss(x, y).backward()
    """

    def __init__(self, model: Module, loss: Callable[..., Tensor]) -> None:
        self.model, self.loss = model, loss
        self._replay = Replay("record_step", most=1)  # a record takes as much memory as a step

    def __call__(self, *arrays: Array) -> Tensor:
        parameters = self.model.parameters()
        weights = [p.data for p in parameters]
        recorded = kernels.find_kernel("record_step", weights[0]) is not None and kernels.replay_allowed()
        if not recorded or hooked():  # a hook wants to see every layer
            return self.loss(*arrays)
        for p in parameters:  # of a step before, and still wanted: it might be overwritten
            p.grad = None if p.grad is None else p.grad.copy()
        loss, gradients = self._replay(self._loss_and_gradients, weights, *arrays)
        return _Differentiated(loss.copy(), parameters, gradients)

    def _loss_and_gradients(self, *arrays: Array) -> tuple[Array, list[Array | None]]:
        parameters = self.model.parameters()
        before = [p.grad for p in parameters]
        try:
            for p in parameters:
                p.grad = None
            loss = self.loss(*arrays)
            loss.backward()
            return loss.data, [p.grad for p in parameters]
        finally:
            for p, grad in zip(parameters, before, strict=True):
                p.grad = grad


class _Differentiated(Tensor):
    """A loss whose gradients are there already, one for each parameter or None."""

    def __init__(self, loss: Array, parameters: list, gradients: list[Array | None]) -> None:
        pairs = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
        self.pairs = pairs
        self._keep(loss, True, [p for p, _ in pairs], lambda dy, _: tuple(g * dy for _, g in pairs))

    def backward(self, dy: Array | None = None) -> None:
        """As Tensor.backward; without an upstream gradient nothing is left to compute."""
        if self._backward is None or dy is not None or any(p.grad is not None for p, _ in self.pairs):
            super().backward(dy)
            return
        for p, gradient in self.pairs:
            p.grad = gradient
        self._backward, self._parents = None, ()
