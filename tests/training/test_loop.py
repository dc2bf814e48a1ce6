"""The loop by itself, on a network of two layers: order of the data, resume, Ctrl-C, values that are not finite."""

import errno
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

from tinydiff import checkpoint, ops
from tinydiff.apps.train import session
from tinydiff.apps.train.session import fit
from tinydiff.autograd import Tensor, op
from tinydiff.errors import InputError
from tinydiff.nn.layers import Linear
from tinydiff.nn.module import Module
from tinydiff.training.loop import Shuffle, Task
from tinydiff.training.optim import OptimConfig

CONFIG = OptimConfig(steps=12, batch=8, lr=0.01, warmup=2, ema=0.9)
X = np.random.default_rng(1).standard_normal((40, 4)).astype(np.float32)


class Net(Module):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.layers = [Linear(rng, 4, 8), Linear(rng, 8, 8)]
        self.last = Linear(rng, 8, 1)

    def forward(self, x):
        for layer in self.layers:
            x = ops.silu(layer(x))
        return self.last(x)


class Run:
    """One process's worth of training; `at[step]` is called in that step, before its loss is taken."""

    def __init__(self, out, at=None):
        self.out, self.at, self.seen = out, at or {}, []
        self.net, self.batches = Net(), Shuffle(len(X), CONFIG.batch, seed=5)

    def loss(self, step, rng):
        self.at.get(step, lambda: None)()
        indices = self.batches.at(step)[1]
        self.seen.append(indices.tolist())
        x = X[indices] + rng.standard_normal((CONFIG.batch, 4), np.float32)
        return ops.mse_loss(self.net(Tensor(x)), Tensor(np.zeros((CONFIG.batch, 1), np.float32)))

    def __call__(self, **options):
        return fit(Task("net", self.net, self.loss, CONFIG, run_config={"x": 1}), self.out, **options)

    @property
    def path(self):
        return self.out / "net.checkpoint.safetensors"

    def poison(self, layer, value=np.inf):
        weight = layer.weight.data.copy()
        weight[1, 0] = value
        layer.weight.assign(weight)


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def test_every_example_comes_once_an_epoch_in_a_new_order():
    batches = Shuffle(24, 8, seed=0)
    epochs = [np.concatenate([batches.at(3 * epoch + i)[1] for i in range(3)]) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(24))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [batches.at(step)[0] for step in range(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_a_rest_too_small_for_a_batch_is_left_out_and_changes_each_epoch():
    batches = Shuffle(20, 8, seed=0)
    left = []
    for epoch in range(3):
        seen = np.concatenate([batches.at(2 * epoch + i)[1] for i in range(2)])
        assert len(set(seen)) == 16
        left.append(frozenset(range(20)) - set(seen))
    assert len(set(left)) > 1


def test_the_order_depends_on_the_seed_and_the_step_alone():
    straight, jumping, other = Shuffle(40, 8, 3), Shuffle(40, 8, 3), Shuffle(40, 8, 4)
    order = [straight.at(step)[1].tolist() for step in range(15)]
    for step in (14, 2, 7, 0):
        assert jumping.at(step)[1].tolist() == order[step]
    assert [other.at(step)[1].tolist() for step in range(15)] != order


def test_too_few_examples_are_refused():
    Shuffle(8, 8, 0)
    with pytest.raises(InputError, match="one batch of 8 examples; the data has 7"):
        Shuffle(7, 8, 0)


@pytest.mark.parametrize("stop", [0, 6, 11], ids=["in the first step", "in the second epoch", "in the last step"])
def test_ctrl_c_and_resume_equal_an_uninterrupted_run(folders, stop, capfd):
    whole, first = Run(folders[0]), Run(folders[1], at={stop: ctrl_c})
    ema = whole()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        first()
    assert signal.getsignal(signal.SIGINT) is before
    assert checkpoint.load(first.path)[1]["step"] == stop + 1  # the step under way came to its end
    second = Run(folders[1])
    resumed = second(resume=True)
    assert whole.path.read_bytes() == first.path.read_bytes()
    assert first.seen + second.seen == whole.seen and len(second.seen) == 11 - stop
    for name, array in ema.items():
        assert array.tobytes() == resumed[name].tobytes()
    assert (folders[0] / "net.csv").read_text() == (folders[1] / "net.csv").read_text()
    assert sorted(os.listdir(folders[1])) == ["net.checkpoint.safetensors", "net.csv"]
    bar = capfd.readouterr().err
    assert "loss" in bar and "images/s" in bar


def test_ctrl_c_during_the_last_save_is_heeded(tmp_path, monkeypatch):
    run, save = Run(tmp_path), checkpoint.save

    def interrupted_save(*args, **options):
        ctrl_c()
        save(*args, **options)

    monkeypatch.setattr(checkpoint, "save", interrupted_save)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert checkpoint.load(run.path)[1]["step"] == 12


def test_a_run_in_another_thread_takes_no_signals(tmp_path):
    """Only the main thread may set a handler; a notebook's server may train in another."""
    run, before = Run(tmp_path), signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert checkpoint.load(run.path)[1]["step"] == 12 and signal.getsignal(signal.SIGINT) is before


def test_what_stands_in_a_checkpoint(tmp_path):
    run = Run(tmp_path)
    ema = run()
    arrays, config = checkpoint.load(run.path)
    names = [name for name, _ in run.net.named_parameters()]
    assert arrays.keys() == {"losses"} | {f"{kept}/{name}" for kept in ("weights", "m", "v", "ema") for name in names}
    for name, p in run.net.named_parameters():
        np.testing.assert_array_equal(arrays[f"weights/{name}"], p.data)
        np.testing.assert_array_equal(arrays[f"ema/{name}"], ema[name])
        assert (ema[name] != p.data).any()
        assert arrays[f"m/{name}"].any() and (arrays[f"v/{name}"] > 0).any()
    assert config["step"] == 12 and config["generator"]["bit_generator"] == "PCG64"
    rows = (tmp_path / "net.csv").read_text().split()
    assert rows[0] == "step,loss" and len(rows) == 13
    np.testing.assert_allclose([float(row.split(",")[1]) for row in rows[1:]], arrays["losses"], rtol=1e-5)
    assert (arrays["losses"] > 0).all() and len(set(arrays["losses"])) == 12


def test_resume_without_a_checkpoint_begins_at_the_start(folders):
    Run(folders[0])()
    Run(folders[1])(resume=True)
    first, second = (folder / "net.checkpoint.safetensors" for folder in folders)
    assert first.read_bytes() == second.read_bytes()


def test_a_checkpoint_is_written_whenever_it_is_due(tmp_path, monkeypatch):
    saved, save = [], checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda path, a, config: (saved.append(config["step"]), save(path, a, config))
    )
    monkeypatch.setattr(session.time, "monotonic", iter(np.arange(0, 1000, 10.0)).__next__)
    Run(tmp_path)(save_every=25)  # by this clock a step takes ten seconds, and a save another ten
    assert saved == [3, 6, 9, 12]


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"run_config": {"x": 2}}, {"optim": OptimConfig(steps=12, batch=4)}, {"name": "lattice"}]
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, other):
    run = Run(tmp_path)
    run()
    task = replace(Task("net", run.net, run.loss, CONFIG, run_config={"x": 1}), **other)
    run.path.rename(tmp_path / f"{task.name}.checkpoint.safetensors")
    with pytest.raises(InputError, match="checkpoint of another run") as error:
        fit(task, tmp_path, resume=True)
    assert "\n" not in str(error.value) and task.name in str(error.value)


def test_a_checkpoint_of_another_network_names_the_array(tmp_path):
    run = Run(tmp_path)
    run()
    run.net.last = Linear(np.random.default_rng(0), 8, 2)
    with pytest.raises(InputError, match=r"weights/last.weight has shape \(8, 1\), expected \(8, 2\)|m/last.weight"):
        run(resume=True)


# --- values that are not finite


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layer", ["layers.0", "layers.1", "last"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_the_first_layer_that_is_not_finite_is_named(tmp_path, layer, value):
    run = Run(tmp_path)
    target = dict(run.net.named_modules())[layer]
    kept = {}

    def poison():
        kept.setdefault("bytes", run.path.read_bytes())
        run.poison(target, value)

    run.at[5] = poison
    with pytest.raises(FloatingPointError) as error:
        run(save_every=0)
    message = str(error.value)
    assert "net: stopped at step 6" in message and f"came out of {layer!r};" in message
    assert f"the last good checkpoint is {run.path}" in message and "\n" not in message
    assert run.path.read_bytes() == kept["bytes"]
    assert checkpoint.load(run.path)[1]["step"] == 5


def test_the_layer_is_found_with_the_numbers_that_were_drawn_in_that_step(tmp_path):
    """A layer that fails for some draws only: looked at again with other numbers it would look well."""
    run, fourth = Run(tmp_path), np.random.default_rng(0).standard_normal(4)[3]

    def loss(step, rng):
        x = np.full((8, 4), np.inf if rng.standard_normal() == fourth else 1, np.float32)
        return ops.mse_loss(run.net(Tensor(x)), Tensor(np.zeros((8, 1), np.float32)))

    with pytest.raises(FloatingPointError, match="step 4: .* came out of 'layers.0'"):
        fit(Task("net", run.net, loss, CONFIG), tmp_path)


def test_a_loss_that_is_not_finite_though_every_layer_is(tmp_path):
    run = Run(tmp_path)

    def loss(step, rng):
        return run.loss(step, rng) * np.float32(np.nan)

    with pytest.raises(
        FloatingPointError, match="step 1: the loss is nan; every layer's output is finite; no checkpoint"
    ):
        fit(Task("net", run.net, loss, CONFIG), tmp_path)
    assert not any(tmp_path.iterdir())


@op
def spoil(x):
    """The same value; the gradient is lost."""
    return x.copy(), lambda dy: (dy * np.float32(np.nan),)


def test_a_gradient_that_is_not_finite_is_named(tmp_path):
    run, kept = Run(tmp_path), {}

    def loss(step, rng):
        value = run.loss(step, rng)
        if step < 4:
            return value
        kept["bytes"] = run.path.read_bytes()
        return value + ops.mse_loss(spoil(run.net.layers[1].bias), Tensor(np.zeros(8, np.float32)))

    with pytest.raises(FloatingPointError) as error:
        fit(Task("net", run.net, loss, CONFIG), tmp_path, save_every=0)
    message = str(error.value)
    assert "step 5: the gradient of 'layers.1.bias' is not finite" in message and str(run.path) in message
    assert run.path.read_bytes() == kept["bytes"]


def test_a_run_that_stopped_at_a_bad_value_can_go_on(folders):
    """What was bad is mended: the run ends as if nothing had been."""
    whole, broken = Run(folders[0]), Run(folders[1])
    whole()
    broken.at[5] = lambda: broken.poison(broken.net.last)
    with pytest.raises(FloatingPointError):
        broken(save_every=0)
    Run(folders[1])(resume=True)
    assert whole.path.read_bytes() == broken.path.read_bytes()


# --- a disk that is full


@pytest.mark.parametrize("what", ["checkpoint", "losses"])
def test_a_full_disk_stops_with_one_line_and_keeps_the_old_checkpoint(tmp_path, monkeypatch, what):
    run = Run(tmp_path)
    kept = {}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill_up():
        kept["bytes"] = run.path.read_bytes()
        if what == "checkpoint":
            monkeypatch.setattr(os, "fsync", full)
        else:
            monkeypatch.setattr(session.csv, "writer", full)

    run.at[7] = fill_up
    with pytest.raises(InputError) as error:
        run(save_every=0)
    monkeypatch.undo()
    named = run.path if what == "checkpoint" else tmp_path / "net.csv"
    assert str(error.value) == f"{named}: not saved, {os.strerror(errno.ENOSPC)}; an older file there is kept"
    assert sorted(os.listdir(tmp_path)) == ["net.checkpoint.safetensors", "net.csv"]
    if what == "checkpoint":
        assert run.path.read_bytes() == kept["bytes"]
    assert checkpoint.load(run.path)[1]["step"] == (7 if what == "checkpoint" else 8)
    assert Run(tmp_path)(resume=True)
