"""The training loop, the same for every part: a loss, its gradient, an optimiser's step.

What a run depends on is its step, its generator and its arrays, and nothing else: whoever saves these three can go on
with it as if it had never been stopped (`apps/train/session.py` does).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinydiff.autograd import Tensor
from tinydiff.errors import InputError
from tinydiff.nn.module import Module
from tinydiff.training.optim import AdamW, OptimConfig


@dataclass(frozen=True)
class Task:
    """What is trained, and by which loss."""

    name: str
    model: Module
    loss: Callable[[int, np.random.Generator], Tensor]  # of a step's batch; all that is random comes from the generator
    optim: OptimConfig
    seed: int = 0
    run_config: dict[str, Any] = field(default_factory=dict)  # what tells this run from others


def training_loop(
    task: Task, optimiser: AdamW, rng: np.random.Generator, start: int = 0
) -> Iterator[tuple[int, float]]:
    """Take the steps from `start` on; yield (step, loss) for each.

    Raises FloatingPointError at the first loss or gradient that is not finite, before any weight is changed by it.

        for step, loss in training_loop(task, AdamW(task.model, task.optim), np.random.default_rng(task.seed)):
            print(step, loss)
    """
    for step in range(start, task.optim.steps):
        loss = task.loss(step, rng)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()}")
        loss.backward()
        optimiser.step(step)
        yield step, loss.item()


class Shuffle:
    """Batches in an order that is new in each epoch and depends on the seed and the step alone."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        if count < batch:
            raise InputError(f"training needs at least one batch of {batch} examples; the data has {count}")
        self.count, self.batch, self.seed = count, batch, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def at(self, step: int) -> tuple[int, np.ndarray]:
        """The epoch of a step and its batch's indices; an epoch's last examples, too few for a batch, are left out."""
        epoch, i = divmod(step, self.count // self.batch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.count)
        return epoch, self._order[i * self.batch : (i + 1) * self.batch]
