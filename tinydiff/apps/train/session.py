"""What stands around the training loop: checkpoints, resuming, signals, the progress bar, and the hunt for a NaN."""

import csv
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinydiff import checkpoint
from tinydiff.apps.console import progress_bar
from tinydiff.apps.train.folder import difference
from tinydiff.autograd import Array
from tinydiff.device import array_module, to_device_of
from tinydiff.errors import InputError
from tinydiff.files import written_whole
from tinydiff.nn.module import Module, forward_hook
from tinydiff.training.loop import Task, training_loop
from tinydiff.training.optim import AdamW

SAVE_EVERY = 120.0  # seconds
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # of which a system has some


def fit(
    task: Task,
    out: Path,
    *,
    resume: bool = False,
    save_every: float = SAVE_EVERY,
    should_stop: Callable[[int, dict[str, Array]], bool] | None = None,
    on_checkpoint: Callable[[int, dict[str, Array]], None] | None = None,
) -> dict[str, np.ndarray]:
    """Train a task to its last step; returns the exponential moving average (EMA) of its weights.

    `{name}.checkpoint.safetensors`, and the losses in `{name}.csv`, are written to `out` every `save_every` seconds, at
    Ctrl-C, SIGTERM or SIGHUP, and at the end; a resumed run gives the same bits as one that was never stopped.
    `should_stop(steps done, ema)` is asked before every step but the first; `on_checkpoint(steps done, ema)` is called
    after each checkpoint, and once more by a run that resumes there, since a kill may have come between the two.
    Raises FloatingPointError at the first value that is not finite, naming step and layer; the last checkpoint stays.
    After SIGTERM or SIGHUP it ends the process, as after Ctrl-C: SystemExit, status 128 + n.
    """
    config, path = task.optim, out / f"{task.name}.checkpoint.safetensors"
    run_config = {"part": task.name, "optim": asdict(config), "seed": task.seed, **task.run_config}
    optimiser = AdamW(task.model, config)
    rng, start = np.random.default_rng(task.seed), 0
    losses = np.zeros(config.steps, np.float32)
    if resume and path.exists():
        rng, start = _restore(path, optimiser, losses, run_config)

    def report(done: int) -> None:
        _write_losses(out / f"{task.name}.csv", losses[:done])
        if on_checkpoint is not None:
            on_checkpoint(done, optimiser.ema)

    def save(done: int) -> None:
        state = {"step": done, "generator": generator_state(rng), "run_config": run_config}
        checkpoint.save(path, _arrays_of(optimiser, losses), state)
        report(done)

    if start:
        report(start)
    done, saved_at = start, time.monotonic()
    loop = training_loop(task, optimiser, rng, start)
    bar = progress_bar(total=config.steps, initial=start, desc=task.name, unit="step")
    # NumPy need not warn of what is not finite: every step looks for it.
    with np.errstate(all="ignore"), _interruptible() as interrupted, bar:
        while done < config.steps:
            if should_stop is not None and done and should_stop(done, optimiser.ema):
                save(done)
                break
            before = generator_state(rng)
            try:
                step, losses[done] = next(loop)
            except FloatingPointError as error:
                where = _first_non_finite(task, done, restore_generator(before))
                kept = f"the last good checkpoint is {path}" if path.exists() else "no checkpoint was written yet"
                stopped = f"{task.name}: stopped at step {done + 1}"
                raise FloatingPointError(f"{stopped}: {error}; {where}; {kept}") from None
            done = step + 1
            stop = interrupted.signal is not None
            bar.update()
            images = (bar.format_dict["rate"] or 0.0) * config.batch
            recent = losses[max(start, done - 50) : done].mean()
            bar.set_postfix_str(f"loss {recent:.4f}, {images:.0f} images/s", refresh=False)
            if stop or done == config.steps or time.monotonic() - saved_at > save_every:
                save(done)
                saved_at = time.monotonic()
            if stop:
                break
        interrupted.raise_if_set()  # during the last save, too
    return optimiser.ema


def load_ema(model: Module, ema: dict[str, Array]) -> None:
    """Give a model the EMA of its weights in float16, as the file will hold them: what is used is what is loaded."""
    model.load_state_dict({name: a.astype(np.float16).astype(np.float32) for name, a in ema.items()})


def _arrays_of(optimiser: AdamW, losses: np.ndarray) -> dict[str, Array]:
    """All arrays of a run, by their names in the checkpoint."""
    arrays = {"losses": losses}
    for moment in ("m", "v", "ema"):
        arrays |= {f"{moment}/{key}": a for key, a in getattr(optimiser, moment).items()}
    return arrays | {f"weights/{key}": p.data for key, p in optimiser.parameters.items()}


def _restore(
    path: Path, optimiser: AdamW, losses: np.ndarray, run_config: dict[str, Any]
) -> tuple[np.random.Generator, int]:
    """Put everything back as the checkpoint has it; returns the generator and the number of steps done."""
    arrays, state = checkpoint.load(path)
    if why := difference(state.get("run_config"), _as_json(run_config)):
        raise InputError(f"{path}: a checkpoint of another run ({why}); choose another --out")
    step = state.get("step")
    if type(step) is not int or not 0 <= step <= len(losses):
        raise InputError(f"{path}: its step is {step!r}, expected a whole number from 0 to {len(losses)}")
    expected = {name: a.shape for name, a in _arrays_of(optimiser, losses).items()}
    checkpoint.check_arrays(arrays, expected, path)
    losses[:] = arrays["losses"]
    for key, p in optimiser.parameters.items():
        for moment in ("m", "v", "ema"):
            getattr(optimiser, moment)[key] = to_device_of(arrays[f"{moment}/{key}"], p.data)
        p.assign(to_device_of(arrays[f"weights/{key}"], p.data))
    return restore_generator(state.get("generator")), step


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """Where `rng` stands in its stream, as JSON can hold it; `restore_generator` goes on from there."""
    return _as_json(rng.bit_generator.state)


def restore_generator(state: Any) -> np.random.Generator:
    """A generator that goes on where the one given to `generator_state` stood.  Raises InputError on other input."""
    known = {"PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"}
    name = state.get("bit_generator") if isinstance(state, dict) else None
    if name not in known:
        raise InputError(f"restore_generator: the state is of {name!r}, expected one of {', '.join(sorted(known))}")
    bits = getattr(np.random, name)()
    try:
        bits.state = state
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"restore_generator: damaged {name} state: {error!r}") from error
    return np.random.Generator(bits)


def _first_non_finite(task: Task, step: int, rng: np.random.Generator) -> str:
    """Run the step again with a hook on every layer, to name the first one whose output is not finite."""
    names = {id(m): name or "the model" for name, m in task.model.named_modules()}
    found: list[str] = []

    def look(layer: Module, inputs: tuple, y: Any) -> None:
        outputs = y if isinstance(y, tuple) else (y,)
        if not found and not all(array_module(o.data).isfinite(o.data).all() for o in outputs):
            found.append(names.get(id(layer), type(layer).__name__))

    with forward_hook(look):
        task.loss(step, rng)
    return f"the first value that is not finite came out of {found[0]!r}" if found else "every layer's output is finite"


def _write_losses(path: Path, losses: np.ndarray) -> None:
    with written_whole(path) as temporary, open(temporary, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "loss"])
        rows.writerows((i + 1, f"{loss:.6g}") for i, loss in enumerate(losses))


def _as_json(value: Any) -> Any:
    """As it looks after a trip through JSON: tuples and arrays are lists."""
    return json.loads(json.dumps(value, default=np.ndarray.tolist))


class _Interrupt:
    """Which signal asked to stop, if one did: Ctrl-C, a cancelled job, a closed terminal."""

    signal: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        self.signal = number

    def raise_if_set(self) -> None:
        """KeyboardInterrupt after Ctrl-C, else the end of the process with the signal's exit status, 128 + n."""
        if self.signal is not None:
            raise KeyboardInterrupt if self.signal == signal.SIGINT else SystemExit(128 + self.signal)


@contextmanager
def _interruptible() -> Iterator[_Interrupt]:
    """Signals only leave a note, so that the step under way ends and a whole state is saved.

    One that is ignored, as `nohup` has it, stays so.
    """
    interrupt, before = _Interrupt(), {}
    if threading.current_thread() is threading.main_thread():
        numbers = {getattr(signal, name) for name in STOPPING if hasattr(signal, name)}
        before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
