"""What a kill cut off is made up by --resume: losses, sample images, the report; and what damage does not stop it."""

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff import checkpoint
from tinydiff.apps.train import report, run, session
from tinydiff.apps.train.folder import difference, folder_lock
from tinydiff.apps.train.run import train
from tinydiff.cli import main
from tinydiff.errors import InputError

PART = "autoencoder"


class Killed(BaseException):
    """Stands for kill −9: nothing that runs later sees it."""


@pytest.fixture(autouse=True)
def saves_every_step(monkeypatch):
    monkeypatch.setattr(run, "fit", lambda *args, **options: session.fit(*args, **options, save_every=0))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A folder that a run with a checkpoint at every step wrote without being stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "fit", lambda *args, **options: session.fit(*args, **options, save_every=0))
        return train(PART, data=data, out=tmp_path_factory.mktemp("whole") / "run")


def killed_at(monkeypatch, owner, name, call, **options):
    """A run that ends when `owner.name` is called for the `call`-th time."""
    calls, real = [], getattr(owner, name)

    def counted(*args, **kwargs):
        calls.append(0)
        if len(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, counted)
        train(PART, **options)


def assert_same_run(whole, folder):
    for name in (f"{PART}.checkpoint.safetensors", f"{PART}.csv"):
        same = (whole / name).read_bytes() == (folder / name).read_bytes()
        assert same, name
    assert sorted(os.listdir(whole / "samples")) == sorted(os.listdir(folder / "samples"))
    for path in (whole / "samples").iterdir():
        np.testing.assert_array_equal(Image.open(path), Image.open(folder / "samples" / path.name))
    reports = (re.sub(r"[\d.]+ (s|min)", "", (where / "report.md").read_text()) for where in (whole, folder))
    assert len(set(reports)) == 1 and (folder / "loss.png").stat().st_size > 0


@pytest.mark.parametrize("call", [5, 12])
@pytest.mark.parametrize(
    ("owner", "name"), [(session, "_write_losses"), (report.Strips, "__call__")], ids=["losses", "strip"]
)
def test_a_kill_between_a_checkpoint_and_what_follows_it(whole, data, tmp_path, monkeypatch, owner, name, call):
    killed_at(monkeypatch, owner, name, call, data=data, out=tmp_path)
    assert checkpoint.load(tmp_path / f"{PART}.checkpoint.safetensors")[1]["step"] == call
    train(PART, data=data, out=tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_a_kill_between_the_weights_and_their_report(whole, data, tmp_path, monkeypatch):
    killed_at(monkeypatch, run, "write_report", 1, data=data, out=tmp_path)
    assert not (tmp_path / "report.md").exists()
    train(PART, data=data, out=tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an image", None], ids=["empty", "something else", "cut short"])
def test_a_damaged_sample_does_not_stop_a_resume(whole, data, tmp_path, monkeypatch, content):
    killed_at(monkeypatch, session, "_write_losses", 3, data=data, out=tmp_path)
    samples = tmp_path / "samples"
    for number in (1, 3):  # one of a former checkpoint, and that of this one
        path = samples / f"{PART}-{number:06}.png"
        path.write_bytes((whole / "samples" / path.name).read_bytes()[:300] if content is None else content)
    (samples / f"{PART}-mine.png").write_bytes(b"")
    train(PART, data=data, out=tmp_path, resume=True)
    shown = re.findall(r"!\[\]\((.*?)\)", (tmp_path / "report.md").read_text())
    assert shown == [f"samples/{PART}-{number:06}.png" for number in range(2, 13)]
    for name in shown:
        np.testing.assert_array_equal(Image.open(whole / name), Image.open(tmp_path / name))


def test_what_a_killed_strip_left_is_removed(data, tmp_path, monkeypatch):
    killed_at(monkeypatch, report.Strips, "__call__", 2, data=data, out=tmp_path)
    (tmp_path / "samples" / ".tinydiff-0123456789abcdef.partial").write_bytes(b"half an im")
    train(PART, data=data, out=tmp_path, resume=True)
    assert all(name.startswith(PART) for name in os.listdir(tmp_path / "samples"))


def test_a_table_of_yours_beside_the_losses_is_none_of_them(whole, data, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "captions.csv").write_text("a.png,a red dress\n")
    train(PART, data=data, out=tmp_path / "run", resume=True)


# --- the lock on a full disk


def test_a_full_disk_costs_the_holder_s_number_and_no_more(tmp_path, monkeypatch):
    def full(path, *_):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    for _ in range(2):
        with folder_lock(tmp_path), pytest.raises(InputError, match="process unknown"), folder_lock(tmp_path):
            pass
    assert os.listdir(tmp_path) == [".lock"]


def test_the_lock_is_freed_where_nothing_can_be_removed(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch, folder_lock(tmp_path):
        patch.setattr(Path, "unlink", refused)
    with folder_lock(tmp_path):
        pass


# --- the same run, or another one


def test_the_same_data_in_another_place_is_the_same_run(whole, data, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / f"{PART}.safetensors").unlink()
    monkeypatch.chdir(data.parent)
    shutil.copytree(data, tmp_path / "data")
    for where in (data.name, f"{data.name}/../{data.name}", tmp_path / "data"):
        train(PART, data=where, out=tmp_path / "run", resume=True)
        train(PART, data=data, out=tmp_path / "run", resume=True)  # a finished part, too
        (tmp_path / "run" / f"{PART}.safetensors").unlink()


RUN = {
    "part": "denoiser",
    "optim": {"steps": 12, "lr": 0.1},
    "data": "photos",
    "data_digest": "ab",
    "autoencoder": "cd",
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"data": "other/../photos"}, None),
        ({"seed": 1}, "seed None, not 1"),
        ({"optim": {"steps": 13, "lr": 0.1}}, "optim: steps 12, not 13"),
        ({"data": "other", "data_digest": "ef"}, "data 'photos', not 'other'"),
        ({"data_digest": "ef"}, "data_digest 'ab', not 'ef'"),
        ({"autoencoder": "ef"}, "autoencoder 'cd', not 'ef'"),
    ],
)
def test_which_part_of_a_run_differs_is_said(change, why):
    assert difference(RUN, RUN | change) == why


def test_what_a_former_version_does_not_say_is_not_compared():
    former = {key: value for key, value in RUN.items() if key not in ("data_digest", "autoencoder")}
    assert difference(former, RUN) is None
    assert difference(former, RUN | {"data": "other"}) == "data 'photos', not 'other'"
    text = {"hidden_act": "gelu", "causal": False}
    assert difference(former | {"text": {}}, RUN | {"text": text}) is None
    assert difference(former | {"text": {"causal": True}}, RUN | {"text": text}) == "text: causal True, not False"
    assert difference({**former, "preset": "quick"}, RUN) == "preset 'quick', not None"


@pytest.mark.parametrize("found", [None, [], "run"])
def test_a_description_that_is_none_is_said(found):
    assert difference(found, RUN) == f"described by {found!r}"


# --- an output never replaces an input


@pytest.fixture
def fields(tmp_path, monkeypatch):
    """Images with captions in the folder that is to be the run's."""
    monkeypatch.chdir(tmp_path)
    Path("samples").mkdir()
    for name in ("0.png", "loss.png", f"samples/{PART}-000001.png"):
        Image.new("RGB", (40, 40), (200, 0, 40)).save(name)
    Path("real.png").write_bytes(Path("0.png").read_bytes())
    Path("denoiser.csv").write_text("0.png,a field\nreal.png,a field")
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "table", "replaced"),
    [
        ("0.png,a field", "denoiser.csv", "denoiser.csv"),
        ("0.png,a field", "Denoiser.csv", "denoiser.csv"),
        ("0.png,a field\nloss.png,a field", "captions.csv", "loss.png"),
        (f"samples/{PART}-000001.png,a field", "captions.csv", f"samples/{PART}-000001.png"),
    ],
)
def test_a_run_over_its_own_data_is_refused(fields, lines, table, replaced, capsys):
    Path("denoiser.csv").unlink()
    Path(table).write_text(lines)
    before = {path: path.read_bytes() for path in fields.rglob("*") if path.is_file()}
    assert main(["train", "--images", ".", "--captions", table, "--out", "."]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"the output {replaced} would replace the input" in error
    assert {path: path.read_bytes() for path in before} == before


def test_segmentation_over_its_own_images_is_refused(tmp_path, capsys):
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder in (images, masks):
        folder.mkdir()
        Image.fromarray(np.pad(np.full((40, 40), 255, np.uint8), 30)).save(folder / "loss.png")
    for out in (images, masks):
        before = (out / "loss.png").read_bytes()
        with pytest.raises(InputError, match="would replace the input"):
            tinydiff.train_segmentation(images, masks, out=out)
        assert (out / "loss.png").read_bytes() == before and os.listdir(out) == ["loss.png"]
