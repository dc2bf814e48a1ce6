"""The training loop: the same for every part.

What a run depends on is its step, its generator and its arrays, and all three stand in its checkpoint: a resumed run
gives the same bits as one that was never stopped.
"""

from __future__ import annotations

import csv
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tinydiff import checkpoint
from tinydiff.autograd import Array, Tensor
from tinydiff.device import array_module, beside
from tinydiff.errors import InputError
from tinydiff.files import written_whole
from tinydiff.kernels import reuse_memory
from tinydiff.nn.module import Module, watching
from tinydiff.training.optim import AdamW, OptimConfig

SAVE_EVERY = 120.0  # seconds


@dataclass(frozen=True)
class Position:
    """Where a run stands in its data: the epoch, and the examples of this batch."""

    epoch: int
    indices: np.ndarray


class Shuffle:
    """Batches in an order that is new in each epoch and depends on the seed and the step alone."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        if count < batch:
            raise InputError(f"training needs at least one batch of {batch} examples; the data has {count}")
        self.count, self.batch, self.seed = count, batch, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def at(self, step: int) -> Position:
        """The batch of a step; an epoch's last examples, too few for a batch, are left out."""
        epoch, place = divmod(step, self.count // self.batch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.count)
        return Position(epoch, self._order[place * self.batch : (place + 1) * self.batch])


Loss = Callable[[int, np.random.Generator], Tensor]


def fit(
    name: str,
    module: Module,
    loss_of: Loss,
    config: OptimConfig,
    out: Path,
    *,
    identity: dict[str, Any],
    seed: int = 0,
    resume: bool = False,
    save_every: float = SAVE_EVERY,
    enough: Callable[[int, dict[str, Array]], bool] | None = None,
    watch: Callable[[int, dict[str, Array]], None] | None = None,
) -> dict[str, np.ndarray]:
    """Train `module` for `config.steps` steps of `loss_of(step, generator)`; returns the moving average of its weights.

    A checkpoint `{name}.checkpoint.safetensors` is written to `out` every `save_every` seconds, at Ctrl-C and at the
    end; `identity` says what the run is, and a checkpoint of another run is refused.  The losses go to `{name}.csv`.
    `enough(step, average)` is asked before every step but the first, and ends the training where it says so;
    `watch(steps done, average)` is called after each checkpoint.
    Raises FloatingPointError at the first value that is not finite, naming step and layer; the last checkpoint stays.
    """
    reuse_memory()
    path = out / f"{name}.checkpoint.safetensors"
    identity = {"part": name, "optim": asdict(config), "seed": seed, **identity}
    optimiser = AdamW(module, config)
    rng, start = np.random.default_rng(seed), 0
    losses = np.zeros(config.steps, np.float32)
    if resume and path.exists():
        rng, start = _restore(path, optimiser, losses, identity)

    def save(step: int) -> None:
        arrays = {"losses": losses}
        for kind in ("m", "v", "average"):
            arrays |= {f"{kind}/{key}": a for key, a in getattr(optimiser, kind).items()}
        arrays |= {f"weights/{key}": p.data for key, p in optimiser.parameters.items()}
        state = {"step": step, "generator": checkpoint.generator_state(rng), "identity": identity}
        checkpoint.save(path, arrays, state)
        _write_losses(out / f"{name}.csv", losses[:step])
        if watch is not None:
            watch(step, optimiser.average)

    saved_at = time.monotonic()
    bar = tqdm(total=config.steps, initial=start, desc=name, unit="step")
    # NumPy need not warn of what is not finite: every step looks for it.
    with np.errstate(all="ignore"), _interruptible() as interrupted, bar:
        for step in range(start, config.steps):
            if enough is not None and step and enough(step, optimiser.average):
                save(step)
                break
            before = checkpoint.generator_state(rng)
            loss = loss_of(step, rng)
            if not math.isfinite(loss.item()):
                where = _first_non_finite(module, loss_of, step, checkpoint.restore_generator(before))
                raise FloatingPointError(_stopped(name, step, f"the loss is {loss.item()}; {where}", path))
            loss.backward()
            try:
                optimiser.step(step)
            except FloatingPointError as error:
                raise FloatingPointError(_stopped(name, step, str(error), path)) from None
            losses[step] = loss.item()
            bar.update()
            bar.set_postfix_str(_progress(losses[start : step + 1], config.batch, bar), refresh=False)
            stop, last = interrupted.is_set(), step + 1 == config.steps
            if stop or last or time.monotonic() - saved_at > save_every:
                save(step + 1)
                saved_at = time.monotonic()
            if stop:
                break
        if interrupted.is_set():  # during the last save, too
            raise KeyboardInterrupt
    return optimiser.average


def _restore(
    path: Path, optimiser: AdamW, losses: np.ndarray, identity: dict[str, Any]
) -> tuple[np.random.Generator, int]:
    arrays, state = checkpoint.load(path)
    if state.get("identity") != _as_json(identity):
        raise InputError(
            f"{path}: a checkpoint of another run (part, preset, data or seed differ); choose another --out"
        )
    expected = {"losses": losses.shape}
    for kind in ("m", "v", "average", "weights"):
        expected |= {f"{kind}/{key}": p.shape for key, p in optimiser.parameters.items()}
    checkpoint.fit_state(arrays, expected, path)
    losses[:] = arrays["losses"]
    for key, p in optimiser.parameters.items():
        for kind in ("m", "v", "average"):
            getattr(optimiser, kind)[key] = beside(arrays[f"{kind}/{key}"], p.data)
        p.assign(beside(arrays[f"weights/{key}"], p.data))
    return checkpoint.restore_generator(state["generator"]), state["step"]


def _first_non_finite(module: Module, loss_of: Loss, step: int, rng: np.random.Generator) -> str:
    """Run the step again, watching every layer, to name the first one whose output is not finite."""
    names = {id(m): name or "the model" for name, m in module.named_modules()}
    found: list[str] = []

    def watch(layer: Module, y: Any) -> None:
        outputs = y if isinstance(y, tuple) else (y,)
        if not found and not all(array_module(o.data).isfinite(o.data).all() for o in outputs):
            found.append(names.get(id(layer), type(layer).__name__))

    with watching(watch):
        loss_of(step, rng)
    return f"the first value that is not finite came out of {found[0]!r}" if found else "every layer's output is finite"


def _stopped(name: str, step: int, why: str, path: Path) -> str:
    kept = f"the last good checkpoint is {path}" if path.exists() else "no checkpoint was written yet"
    return f"{name}: stopped at step {step + 1}: {why}; {kept}"


def _progress(losses: np.ndarray, batch: int, bar: tqdm) -> str:
    rate = bar.format_dict["rate"] or 0.0
    return f"loss {losses[-50:].mean():.4f}, {rate * batch:.0f} images/s"


def _write_losses(path: Path, losses: np.ndarray) -> None:
    try:
        with written_whole(path) as temporary, open(temporary, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["step", "loss"])
            rows.writerows((i + 1, f"{loss:.6g}") for i, loss in enumerate(losses))
    except OSError as error:
        raise InputError(f"{path}: not saved, {error.strerror or error}; an older file there is kept") from error


def _as_json(value: Any) -> Any:
    """As it looks after a trip through JSON: tuples are lists."""
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items()}
    return [_as_json(inner) for inner in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C sets a flag, so that the step under way ends and a whole state is saved."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = signal.signal(signal.SIGINT, lambda *_: flag.set())
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
