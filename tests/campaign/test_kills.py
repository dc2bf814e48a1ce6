"""Sixty kills at random instants of training, a third of them while a checkpoint is being written, and full disks.

What was killed goes on with `--resume`, is killed again, and ends with the bits of a run that nobody stopped.
"""

import contextlib
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tinydiff import checkpoint
from tinydiff.apps.data.fashion_subset import write_idx
from tinydiff.datasets import load_fashion
from tinydiff.errors import InputError
from tinydiff.files import written_whole
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.training import presets

pytestmark = [pytest.mark.campaign, pytest.mark.skipif(os.name != "posix", reason="kill −9 is POSIX")]

KILLS, STEPS, MEGABYTES = 60, 40, 1000
PART, CHECKPOINT = "autoencoder", "autoencoder.checkpoint.safetensors"
# `tinydiff train --resume` with another preset and a checkpoint at every step.
TRAIN = """
import functools, pickle, sys
from pathlib import Path
from tinydiff import cli
from tinydiff.apps.train import run, session
from tinydiff.training import presets
presets.PRESETS["quick"] = pickle.loads(Path(sys.argv[1]).read_bytes())
run.fit = functools.partial(session.fit, save_every=0)
Path(sys.argv[3]).mkdir(parents=True, exist_ok=True)
sys.exit(cli.main(["train", "autoencoder", "--data", sys.argv[2], "--out", sys.argv[3], "--resume"]))
"""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A preset that takes a second, and forty garments to learn from: what every run is told."""
    folder = tmp_path_factory.mktemp("given")
    quick = presets.PRESETS["quick"]
    small = AutoencoderConfig(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4)
    optim = replace(quick.autoencoder_optim, steps=STEPS, batch=8, warmup=3, ema=0.9)
    (folder / "preset").write_bytes(pickle.dumps(replace(quick, autoencoder=small, autoencoder_optim=optim)))
    grey, labels, _ = load_fashion("train")
    write_idx(folder / "train-images-idx3-ubyte", grey[:40])
    write_idx(folder / "train-labels-idx1-ubyte", labels[:40])
    return [folder / "preset", folder]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """The folder of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert ended(started(arguments, out))[0] == 0
    return out


def started(arguments, out, limit="true"):
    command = ["bash", "-c", f'{limit}; exec "$@"', "bash", sys.executable, "-c", TRAIN, *arguments, out]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    """Exit status, and the last line that it said."""
    out, said = process.communicate(timeout=600)
    assert "Traceback" not in said, said[-2000:]
    return process.returncode, (said.strip().replace("\r", "\n").splitlines() or [""])[-1]


def assert_same(whole, folder):
    """The same files, with the same bits but for how many seconds it took and which process it was."""
    names = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == names
    for name in names:
        if name.name != ".lock.holder":
            assert content(whole / name) == content(folder / name), name


def content(path):
    """What of a file is the same in every run."""
    if path.suffix == ".safetensors" and path.name != CHECKPOINT:
        arrays, config = checkpoint.load(path)
        return {name: array.tobytes() for name, array in arrays.items()}, {**config, "training": None}
    if path.parent.name == "samples":
        return np.asarray(Image.open(path)).tobytes()  # its seconds are in its header
    return re.sub(rb"\d+ s|\d+\.\d min", b"", path.read_bytes()) if path.suffix == ".md" else path.read_bytes()


def partial(folder):
    """What is written beside files until it takes their place."""
    return list(folder.glob(".tinydiff-*.partial"))


def partial_of(path):
    with contextlib.suppress(InputError), written_whole(path) as beside:
        raise OSError  # nothing is written: only the name was asked for
    return beside


def test_sixty_kills(arguments, whole, tmp_path):
    rng, kills, in_a_write, runs = np.random.default_rng(0), 0, 0, 0
    while kills < KILLS:
        out, reached = tmp_path / str(runs), 0
        beside = partial_of(out / CHECKPOINT)
        while True:
            process = started(arguments, out)
            path, before = out / CHECKPOINT, time.monotonic()
            old = path.read_bytes() if path.exists() else b""
            while process.poll() is None and time.monotonic() < before + 300:
                if path.exists() and path.read_bytes() != old:
                    break
                time.sleep(0.005)
            aimed = kills % 3 == 0  # at a write that has just begun: the next one, whenever it comes
            instant = time.monotonic() + (30 if aimed else rng.uniform(0, 1))
            while time.monotonic() < instant and process.poll() is None:
                if aimed and beside.exists():
                    break
            if process.poll() is not None:
                assert ended(process)[0] == 0
                break
            process.send_signal(signal.SIGKILL)
            assert ended(process)[0] == -signal.SIGKILL
            kills, in_a_write = kills + 1, in_a_write + bool(partial(out))
            step = checkpoint.load(path)[1]["step"]
            assert reached < step <= STEPS and len(partial(out)) <= 1
            reached = step
        assert_same(whole, out)
        runs += 1
    print(f"{kills} kills, {in_a_write} of them within a write, {runs} runs ended with the same bits")
    assert in_a_write >= KILLS // 10
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1000 * MEGABYTES


@pytest.mark.parametrize("blocks", [0, 1, 4, 20, 60, 100, 150, 250, 400])
def test_a_disk_that_fills_up(arguments, whole, tmp_path, blocks):
    """No file longer than so many blocks of 1,024 bytes: one line, what was there stays, and a resume makes it up."""
    out = tmp_path / "run"
    begun = started(arguments, out)
    while not (out / CHECKPOINT).exists():
        time.sleep(0.01)
    begun.send_signal(signal.SIGTERM)
    assert ended(begun)[0] == 128 + signal.SIGTERM
    step = checkpoint.load(out / CHECKPOINT)[1]["step"]
    status, line = ended(started(arguments, out, f"ulimit -f {blocks}; trap '' XFSZ"))
    assert status == 0 or (status == 2 and line.startswith("tinydiff: ") and "File too large" in line), line
    assert checkpoint.load(out / CHECKPOINT)[1]["step"] >= step and not partial(out)
    assert ended(started(arguments, out))[0] == 0
    assert_same(whole, out)
    print(f"{blocks} KB: {line}")


def test_the_smallest_limit_is_met(arguments, tmp_path):
    status, line = ended(started(arguments, tmp_path / "run", "ulimit -f 1; trap '' XFSZ"))
    assert status == 2 and line.startswith("tinydiff: ") and "File too large" in line
    assert [path for path in (tmp_path / "run").rglob("*") if path.suffix == ".safetensors"] == []
