"""`tinydiff train` from its face: what it writes, resume, kill −9, refusals, the same bits with one thread and two."""

import errno
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import tinydiff
from tinydiff import checkpoint, cli
from tinydiff.apps import console
from tinydiff.apps.train import run, session
from tinydiff.apps.train.folder import folder_lock
from tinydiff.apps.train.run import train
from tinydiff.autograd import no_grad
from tinydiff.datasets import UNSEEN, Fashion, load_fashion
from tinydiff.datasets.pixels import as_floats
from tinydiff.errors import InputError
from tinydiff.files import shipped
from tinydiff.models.autoencoder import Autoencoder
from tinydiff.training import presets, tasks
from tinydiff.training.optim import AdamW
from tinydiff.training.tasks import autoencoder_task
from tinydiff.weights import load_autoencoder, load_classifier, load_denoiser_network, load_words, save_weights

SHIPPED = shipped("fashion-mnist")
TRAINED = ("autoencoder", "denoiser")  # by the loop; the words are done in a second


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A folder that `train all` wrote without being stopped."""
    return train("all", data=data, out=tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def cut(whole, tmp_path):
    """A new folder for one part's run, with the finished parts that it needs."""

    def begin(part):
        if part == "denoiser":
            for name in ("autoencoder", "words"):
                (tmp_path / f"{name}.safetensors").write_bytes((whole / f"{name}.safetensors").read_bytes())
        return tmp_path

    return begin


@pytest.fixture
def saves_every_step(monkeypatch):
    monkeypatch.setattr(run, "fit", lambda *args, **options: session.fit(*args, **options, save_every=0))


@pytest.fixture
def at_step(monkeypatch):
    """Do something when the optimiser is about to take a step."""

    def arrange(chosen, act):
        take = AdamW.step

        def step(optimiser, number):
            if number == chosen:
                act()
            return take(optimiser, number)

        monkeypatch.setattr(AdamW, "step", step)

    return arrange


def assert_same_arrays(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes(), name


def assert_same_files(whole, folder, part):
    """Checkpoint (weights, EMA, moments, step, generator, losses), losses, and weights but for the seconds."""
    for name in (f"{part}.checkpoint.safetensors", f"{part}.csv"):
        same = (whole / name).read_bytes() == (folder / name).read_bytes()  # pytest would take minutes to show a diff
        assert same, name
    (a, a_config), (b, b_config) = (checkpoint.load(where / f"{part}.safetensors") for where in (whole, folder))
    for config in (a_config, b_config):
        assert config["training"].pop("seconds") >= 0
    assert a_config == b_config
    assert_same_arrays(a, b)


def last_line(capfd):
    """The one line that the command line said at the end; nothing but progress bars came before it."""
    *bars, line = capfd.readouterr().err.replace("\r", "\n").strip().split("\n")
    assert all("step/s" in bar or "s/step" in bar or not bar.strip() for bar in bars), bars
    return line


# --- what comes out


def test_a_whole_run_writes_files_that_load(whole, tiny, data, capfd):
    assert (whole / "loss.png").stat().st_size > 0
    autoencoder, (denoiser, config), (vectors, words) = (
        load_autoencoder(whole),
        load_denoiser_network(whole),
        load_words(whole),
    )
    assert replace(autoencoder.config, scaling_factor=tiny.autoencoder.scaling_factor) == tiny.autoencoder
    assert denoiser.unet.config == tiny.unet
    scheduler = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    assert config["latent_shape"] == [8, 8, 4] and config["scheduler"] == scheduler
    assert len(vectors) == len(words) + 3
    training = checkpoint.load(whole / "denoiser.safetensors")[1]["training"]
    assert training["preset"] == "quick"
    assert "40 images from" in training["data"] and str(data) in training["data"]


def test_the_weight_file_is_the_moving_average_and_not_the_raw_weights(whole):
    for part in TRAINED:
        shipped, _ = checkpoint.load(whole / f"{part}.safetensors")
        state, _ = checkpoint.load(whole / f"{part}.checkpoint.safetensors")
        assert_same_arrays(shipped, {name: state[f"ema/{name}"].astype(np.float16) for name in shipped})
        raw = {name: state[f"weights/{name}"].astype(np.float16) for name in shipped}
        same = [name for name in shipped if np.array_equal(shipped[name], raw[name])]
        assert len(same) < 0.1 * len(shipped)  # the bias of a key, say, has no gradient: softmax takes it away


def test_the_scaling_factor_is_measured_with_the_weights_that_ship(whole, data, tiny):
    model = load_autoencoder(whole)
    images = Fashion(*load_fashion("train", data), tiny.seed).epoch(0).images
    assert model.config.scaling_factor != tiny.autoencoder.scaling_factor
    assert model.encode(as_floats(images)).std(dtype=np.float64) == pytest.approx(1, rel=1e-5)


def test_the_words_are_where_the_text_encoder_begins(whole, data, cut, tiny, monkeypatch):
    """At a learning rate of nothing the file holds the start: Word2Vec's vectors, scaled."""
    still = replace(tiny, denoiser_optim=replace(tiny.denoiser_optim, steps=1, lr=0.0))
    monkeypatch.setitem(presets.PRESETS, "quick", still)
    folder = train("denoiser", data=data, out=cut("denoiser"))
    table = load_denoiser_network(folder)[0].text_encoder.embeddings.token_embedding.weight.data.ravel()
    vectors = load_words(whole)[0].ravel()
    np.testing.assert_allclose(table, vectors * (0.02 / vectors.std()), rtol=2e-3, atol=1e-6)


def test_the_classifier_is_trained_only_where_it_is_named(whole, data, tmp_path):
    assert not (whole / "classifier.safetensors").exists()
    classifier = load_classifier(train("classifier", data=data, out=tmp_path))
    with no_grad():
        assert [len(answer) for answer in classifier.classify(np.zeros((2, 32, 32, 3), np.float32))] == [2, 2, 2]


def test_finished_parts_are_kept(whole, data, capfd):
    before = {file.name: file.read_bytes() for file in whole.glob("*.safetensors")}
    train("all", data=data, out=whole, resume=True)
    assert {file.name: file.read_bytes() for file in whole.glob("*.safetensors")} == before
    assert capfd.readouterr().out.count("is trained already, kept as it is") == 3


def test_which_data_is_used_is_said(data, tmp_path, capfd):
    train("words", data=data, out=tmp_path)
    assert f"training words (quick) on Fashion-MNIST train, 40 images from {data}" in capfd.readouterr().out


# --- stopped, and resumed


@pytest.mark.parametrize(("part", "stop"), [("autoencoder", 6), ("denoiser", 0), ("denoiser", 8)])
def test_ctrl_c_and_resume_equal_an_uninterrupted_run(whole, data, cut, part, stop, at_step, monkeypatch, capfd):
    folder = cut(part)
    command = ["train", part, "--data", str(data), "--out", str(folder)]
    at_step(stop, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert cli.main(command) == 130
    assert last_line(capfd) == "tinydiff: interrupted"
    assert checkpoint.load(folder / f"{part}.checkpoint.safetensors")[1]["step"] == stop + 1
    assert not (folder / f"{part}.safetensors").exists()
    monkeypatch.undo()
    assert cli.main([*command, "--resume"]) == 0
    assert_same_files(whole, folder, part)


HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)


@pytest.fixture
def hang_up_heard():
    """As in a terminal: whoever runs the tests under `nohup` has it ignored."""
    before = signal.signal(HANGUP, signal.SIG_DFL)
    yield
    signal.signal(HANGUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, HANGUP])
def test_a_signal_saves_and_ends_as_ctrl_c_does(whole, data, cut, number, at_step, monkeypatch, hang_up_heard):
    folder = cut("autoencoder")
    command = ["train", "autoencoder", "--data", str(data), "--out", str(folder)]
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, HANGUP)}
    at_step(6, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == 128 + number
    assert checkpoint.load(folder / "autoencoder.checkpoint.safetensors")[1]["step"] == 7
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    assert not (folder / ".lock.holder").exists()
    monkeypatch.undo()
    assert cli.main([*command, "--resume"]) == 0
    assert_same_files(whole, folder, "autoencoder")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_terminal_that_is_gone_does_not_stop_the_save(data, tmp_path, at_step, monkeypatch, hang_up_heard):
    """Whoever writes to it gets an error; the progress bar would."""

    class Gone(io.StringIO):
        closed_ = False

        def write(self, text):
            if self.closed_:
                raise OSError(errno.EIO, "Input/output error")
            return len(text)

    def hang_up():
        sys.stderr.closed_ = True
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(console, "EVERY", 0)
    at_step(3, hang_up)
    with pytest.raises(SystemExit):
        train("autoencoder", data=data, out=tmp_path)
    assert checkpoint.load(tmp_path / "autoencoder.checkpoint.safetensors")[1]["step"] == 4


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_what_nohup_ignores_stays_ignored(whole, data, cut, at_step):
    folder = cut("autoencoder")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        at_step(3, lambda: os.kill(os.getpid(), signal.SIGHUP))
        train("autoencoder", data=data, out=folder)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert_same_files(whole, folder, "autoencoder")


def test_stopped_between_the_last_step_and_the_weight_file(whole, data, cut, monkeypatch):
    folder = cut("denoiser")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tinydiff.apps.train.run.save_weights", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train("denoiser", data=data, out=folder)
    train("denoiser", data=data, out=folder, resume=True)
    assert_same_files(whole, folder, "denoiser")


# Trains as the tests do, in a process of its own: with another preset, and a checkpoint at every step if told so.
TRAIN = """
import functools, pickle, sys
from pathlib import Path
from tinydiff.training import presets, tasks
from tinydiff.apps.train import run, session
presets.PRESETS["quick"] = pickle.loads(Path(sys.argv[1]).read_bytes())
run.fit = functools.partial(session.fit, save_every=0)
run.train(sys.argv[2], data=sys.argv[3], out=sys.argv[4], resume=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill −9 is POSIX")
def test_kill_9_loses_no_more_than_a_step(data, tmp_path, tiny, monkeypatch):
    longer = replace(tiny, autoencoder_optim=replace(tiny.autoencoder_optim, steps=40))
    monkeypatch.setitem(presets.PRESETS, "quick", longer)
    preset, killed = tmp_path / "preset", tmp_path / "killed"
    preset.write_bytes(pickle.dumps(longer))
    path = killed / "autoencoder.checkpoint.safetensors"
    rng, reached = np.random.default_rng(0), 0
    for _ in range(2):
        before = path.read_bytes() if reached else b""
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, preset, "autoencoder", data, killed], stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + 300
            while process.poll() is None and time.monotonic() < until:
                if path.exists() and path.read_bytes() != before:
                    break
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))  # somewhere in a step, or in a save
        finally:
            process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        _, state = checkpoint.load(path)
        assert reached < state["step"] < 40
        reached = state["step"]
    train("autoencoder", data=data, out=killed, resume=True)
    assert_same_files(train("autoencoder", data=data, out=tmp_path / "whole"), killed, "autoencoder")


# --- values that are not finite


def test_a_poisoned_weight_stops_the_run_and_names_the_layer(data, tmp_path, saves_every_step, monkeypatch, capfd):
    """One in the middle turns infinite at the fifth batch, in place: a step that is replayed reads it."""
    made, batches = [], []

    class Kept(Autoencoder):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    def poisoned_at_the_fifth(images):
        batches.append(images)
        if len(batches) == 5:
            weight = made[0].decoder.mid_block.resnets[1].conv1.weight.data
            weight.setflags(write=True)
            weight[1, 1, 3, 2] = np.inf
            weight.setflags(write=False)
        return as_floats(images)

    monkeypatch.setattr(tasks, "Autoencoder", Kept)
    monkeypatch.setattr(tasks, "as_floats", poisoned_at_the_fifth)
    assert cli.main(["train", "autoencoder", "--data", str(data), "--out", str(tmp_path / "run")]) == 1
    line = last_line(capfd)
    path = tmp_path / "run" / "autoencoder.checkpoint.safetensors"
    assert line.startswith("tinydiff: autoencoder: stopped at step 5: the loss is nan; the first value that is not")
    assert "came out of 'decoder.mid_block.resnets.1.conv1'" in line and str(path) in line
    arrays, config = checkpoint.load(path)
    assert config["step"] == 4 and all(np.isfinite(a).all() for a in arrays.values())
    assert not (tmp_path / "run" / "autoencoder.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_the_run(whole, data, cut, saves_every_step, monkeypatch, capfd):
    folder = cut("denoiser")
    path, kept, take = folder / "denoiser.checkpoint.safetensors", {}, AdamW.step

    def spoilt(optimiser, step):
        if step == 3:
            kept["bytes"] = path.read_bytes()
            p = optimiser.parameters["unet.mid_block.resnets.0.conv1.bias"]
            p.grad = np.where(np.arange(p.grad.size) == 2, np.float32(np.nan), p.grad)
        return take(optimiser, step)

    monkeypatch.setattr(AdamW, "step", spoilt)
    assert cli.main(["train", "denoiser", "--data", str(data), "--out", str(folder)]) == 1
    line = last_line(capfd)
    assert "denoiser: stopped at step 4: the gradient of 'unet.mid_block.resnets.0.conv1.bias' is not finite" in line
    assert path.read_bytes() == kept["bytes"]


def test_a_full_disk_in_training_keeps_the_old_checkpoint(
    data, tmp_path, saves_every_step, at_step, monkeypatch, capfd
):
    path, kept = tmp_path / "autoencoder.checkpoint.safetensors", {}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill_up():
        kept["bytes"] = path.read_bytes()
        monkeypatch.setattr(os, "fsync", full)

    at_step(4, fill_up)
    assert cli.main(["train", "autoencoder", "--data", str(data), "--out", str(tmp_path)]) == 2
    assert last_line(capfd) == f"tinydiff: {path}: not saved, {os.strerror(errno.ENOSPC)}; an older file there is kept"
    assert path.read_bytes() == kept["bytes"] and checkpoint.load(path)[1]["step"] == 4


# --- refused


def refused(capfd, *argv):
    try:
        status = cli.main(["train", *map(str, argv)])
    except SystemExit as stop:  # from argparse
        status = stop.code
    lines = capfd.readouterr().err.strip().split("\n")
    assert status == 2 and len(lines) == 1
    return lines[0]


def test_a_second_training_in_one_folder_is_refused(data, tmp_path, capfd):
    with folder_lock(tmp_path):
        line = refused(capfd, "words", "--data", data, "--out", tmp_path)
    assert f"another training (process {os.getpid()}) is at work here" in line
    assert sorted(os.listdir(tmp_path)) == [".lock"]


def test_the_folder_is_locked_while_it_trains(data, tmp_path, at_step):
    refusals = []

    def second():
        try:
            train("words", data=data, out=tmp_path)
        except InputError as error:
            refusals.append(str(error))

    at_step(1, second)
    train("autoencoder", data=data, out=tmp_path)
    assert len(refusals) == 1 and "another training" in refusals[0]
    with folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("left", ["words.safetensors", "autoencoder.checkpoint.safetensors"])
def test_a_folder_with_a_run_in_it_is_refused_without_resume(whole, data, tmp_path, left, capfd):
    (tmp_path / left).write_bytes((whole / left).read_bytes())
    line = refused(capfd, "all", "--data", data, "--out", tmp_path)
    assert left in line and "--resume" in line
    assert sorted(os.listdir(tmp_path)) == [".lock", left]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("preset", "optim: steps 12, not 13"),
        ("data", "data 'Fashion-MNIST train, 40 images"),
        ("seed", "seed 0, not 1"),
    ],
)
def test_an_unfinished_run_of_another_kind_is_refused(whole, data, tmp_path, tiny, change, why, monkeypatch, capfd):
    path = tmp_path / "autoencoder.checkpoint.safetensors"
    path.write_bytes((whole / path.name).read_bytes())
    others = {"preset": {"autoencoder_optim": replace(tiny.autoencoder_optim, steps=13)}, "seed": {"seed": 1}}
    monkeypatch.setitem(presets.PRESETS, "quick", replace(tiny, **others.get(change, {})))
    if change == "data":
        data = shutil.copytree(data, tmp_path / "data")
        labels = data / "train-labels-idx1-ubyte"
        labels.write_bytes(labels.read_bytes()[:-1] + b"\x09")  # the last garment is a boot now
    before = path.read_bytes()
    line = refused(capfd, "autoencoder", "--data", data, "--out", tmp_path, "--resume")
    assert str(path) in line and f"another run ({why}" in line
    assert path.read_bytes() == before


@pytest.mark.parametrize(("key", "other"), [("preset", "full"), ("data_digest", "0123456789ab")])
def test_a_finished_part_of_another_run_is_refused(whole, data, tmp_path, key, other, capfd):
    """Or the parts of one folder would not belong together."""
    arrays, config = checkpoint.load(whole / "autoencoder.safetensors")
    config["training"][key] = other
    checkpoint.save(tmp_path / "autoencoder.safetensors", arrays, config)
    line = refused(capfd, "all", "--data", data, "--out", tmp_path, "--resume")
    assert f"from another run ({key} {other!r}, not " in line


def test_the_denoiser_knows_the_autoencoder_that_it_was_trained_with(whole, data, tiny, cut, monkeypatch, capfd):
    """A folder of two runs' parts loads nowhere, and its denoiser is not resumed."""
    folder = cut("denoiser")
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    tinydiff.load(folder)
    config = checkpoint.load(folder / "autoencoder.safetensors")[1]
    other = Autoencoder(tiny.autoencoder, np.random.default_rng(5)).state_dict()
    save_weights(folder, "autoencoder", other, {"model": config["model"], "training": config["training"]})
    with pytest.raises(InputError) as error:
        tinydiff.load(folder)
    assert all(str(folder / f"{part}.safetensors") in str(error.value) for part in TRAINED)
    (folder / "denoiser.safetensors").unlink()
    line = refused(capfd, "denoiser", "--data", data, "--out", folder, "--resume")
    assert "denoiser.checkpoint.safetensors: a checkpoint of another run (autoencoder " in line


def test_a_truncated_checkpoint_is_refused(whole, data, tmp_path, capfd):
    path = tmp_path / "autoencoder.checkpoint.safetensors"
    path.write_bytes((whole / path.name).read_bytes()[:-100])
    assert "truncated" in refused(capfd, "autoencoder", "--data", data, "--out", tmp_path, "--resume")


def test_the_denoiser_needs_the_other_parts(data, tmp_path, capfd):
    line = refused(capfd, "denoiser", "--data", data, "--out", tmp_path)
    assert "autoencoder.safetensors: no such checkpoint" in line


@pytest.mark.parametrize(
    ("options", "words"), [({"part": "decoder"}, "no part 'decoder'"), ({"preset": "slow"}, "'slow'")]
)
def test_unknown_names_are_refused(data, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        train(**{"part": "words", "data": data, "out": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_cannot_be_made_is_refused(data, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    for out in ("file", "file/run"):
        with pytest.raises(InputError, match="cannot be made"):
            train("words", data=data, out=tmp_path / out)
        refused(capfd, "words", "--data", data, "--out", tmp_path / out)
    assert os.listdir(tmp_path) == ["file"]


def test_too_little_data_is_refused(data, tmp_path, tiny, monkeypatch, capfd):
    monkeypatch.setitem(
        presets.PRESETS, "quick", replace(tiny, autoencoder_optim=replace(tiny.autoencoder_optim, batch=41))
    )
    assert "one batch of 41 examples; the data has 40" in refused(
        capfd, "autoencoder", "--data", data, "--out", tmp_path
    )


# --- images


def test_as_floats_maps_bytes_to_minus_one_and_one():
    x = as_floats(np.arange(256, dtype=np.uint8))
    assert x.dtype == np.float32 and x[0] == -1 and x[255] == 1
    np.testing.assert_allclose(x, np.arange(256) / 127.5 - 1, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_as_floats_takes_floats_as_they_are(dtype):
    x = as_floats(np.array([-1, 0.25, 1], dtype))
    assert x.dtype == np.float32 and x.tolist() == [-1, 0.25, 1]


BAD_IMAGES = {
    "0 to 255": (np.float32([0, 255]), "from 0 to 255"),
    "a little above": (np.float64([0, 1.001]), "from 0 to 1.001"),
    "below": (np.float32([-1.5, 0]), "from -1.5 to 0"),
    "NaN": (np.float32([0, np.nan]), "nan"),
    "infinite": (np.float32([0, np.inf]), "inf"),
    "another integer": (np.array([0, 255]), "int64"),
    "signed bytes": (np.int8([0, 1]), "int8"),
    "truth values": (np.array([True, False]), "bool"),
}


@pytest.mark.parametrize(("values", "words"), BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_pictures_that_do_not_fit_are_refused(tmp_path, tiny, values, words):
    with pytest.raises(InputError, match=words):
        as_floats(values)
    task = autoencoder_task(Plain(np.resize(values, (8, 32, 32, 3))), tiny)
    with pytest.raises(InputError, match=words) as error:
        session.fit(task, tmp_path)
    assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


class Plain:
    """The same images in every epoch."""

    source = "images of ours"

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def epoch(self, number):
        return self


def test_an_epoch_depends_on_the_seed_and_its_number_alone(data):
    one, two, other = (Fashion(*load_fashion("train", data), seed) for seed in (0, 0, 1))
    first = one.epoch(0)
    second = one.epoch(1)
    assert (first.images != second.images).any() and first.captions != second.captions
    assert (other.epoch(0).images != first.images).any()
    for number, expected in ((1, second), (0, first)):  # in another order
        drawn = two.epoch(number)
        assert drawn.captions == expected.captions
        np.testing.assert_array_equal(drawn.images, expected.images)
        np.testing.assert_array_equal(drawn.colour, expected.colour)


def test_no_epoch_has_an_unseen_pair(data):
    fashion, seen = Fashion(*load_fashion("train", data), 0), set()
    for number in range(25):
        drawn = fashion.epoch(number)
        seen |= set(zip(drawn.garment.tolist(), drawn.colour.tolist(), strict=True))
    assert not seen & UNSEEN and len(seen) > 60


# --- threads

# Two threads want a process that has two, which NUMBA_NUM_THREADS decides at the start.
THREADS = """
import pickle, sys
from pathlib import Path
import numba
from tinydiff.training import presets, tasks
from tinydiff.apps.train import run
presets.PRESETS["quick"] = pickle.loads(Path(sys.argv[1]).read_bytes())
for count in (1, 2):
    numba.set_num_threads(count)
    run.train("all", data=sys.argv[2], out=Path(sys.argv[3]) / str(count))
    assert numba.get_num_threads() == count
"""


def test_one_thread_and_two_give_the_same_bits(data, tmp_path, tiny):
    short = {name: replace(getattr(tiny, name), steps=3) for name in ("autoencoder_optim", "denoiser_optim")}
    (tmp_path / "preset").write_bytes(pickle.dumps(replace(tiny, **short)))
    subprocess.run(
        [sys.executable, "-c", THREADS, tmp_path / "preset", data, tmp_path],
        check=True,
        capture_output=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
    )
    for part in TRAINED:
        assert_same_files(tmp_path / "1", tmp_path / "2", part)


def test_training_in_another_thread(whole, data, tmp_path):
    thread = threading.Thread(target=train, kwargs={"part": "autoencoder", "data": data, "out": tmp_path})
    thread.start()
    thread.join(300)
    assert_same_files(whole, tmp_path, "autoencoder")


# --- the real thing


@pytest.mark.slow
def test_the_quick_preset_on_the_shipped_subset(tmp_path, quick, monkeypatch):
    """Nothing but what the repository holds: it ends, it learns, and what it learnt draws what it is told."""
    monkeypatch.setitem(presets.PRESETS, "quick", quick)
    folder = train("all", data=SHIPPED, out=tmp_path / "run")
    for part in TRAINED:
        losses = checkpoint.load(folder / f"{part}.checkpoint.safetensors")[0]["losses"]
        assert losses[-50:].mean() < 0.7 * losses[:50].mean()
    grounds = ("black", "white")
    images = tinydiff.load(folder).generate([f"a red dress on a {ground} background" for ground in grounds] * 4)
    assert images.shape == (8, 32, 32, 3) and images.dtype == np.uint8
    corners = images[:, :4, :4].mean((1, 2, 3))
    assert corners[::2].max() < 64 and corners[1::2].min() > 192


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("step", None, "step is None, expected a whole number"),
        ("step", 2.5, "step is 2.5"),
        ("step", -1, "step is -1"),
        ("step", 10**9, "step is 1000000000"),
        ("generator", [1, 2], "the state is of None"),
        ("generator", {"bit_generator": "PCG64", "state": 3}, "damaged PCG64 state"),
    ],
)
def test_a_damaged_state_is_one_line(whole, data, tmp_path, entry, value, message):
    path = tmp_path / "autoencoder.checkpoint.safetensors"
    arrays, state = checkpoint.load(whole / path.name)
    checkpoint.save(path, arrays, {**state, entry: value})
    before = path.read_bytes()
    with pytest.raises(InputError, match=message) as error:
        train("autoencoder", data=data, out=tmp_path, resume=True)
    assert "\n" not in str(error.value) and path.read_bytes() == before
