"""The command line: what it passes on, and that each mistake is one line, exit status 2 and nothing written."""

import argparse
import configparser
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff import cli, viz
from tinydiff.cli import doctor
from tinydiff.cli.types import number

ROOT = Path(__file__).parent.parent.parent


class Pipe:
    """Stands for the pipeline: remembers what it was asked and generates grey images."""

    def __init__(self) -> None:
        self.asked: dict = {}

    def check(self, prompts: list[str], steps: int) -> None:
        if "a red zebra" in prompts:
            raise tinydiff.InputError("the word 'zebra' is not known; near it: 'red'")

    def to(self, device: str) -> "Pipe":
        self.device = device
        return self

    def generate(self, prompts: list[str], **options: object) -> np.ndarray:
        self.asked = {"prompts": prompts, **options}
        return np.full((len(prompts), 32, 32, 3), 128, np.uint8)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pipe:
    pipe = Pipe()
    monkeypatch.setitem(vars(tinydiff), "load", lambda weights: pipe)
    monkeypatch.chdir(tmp_path)
    return pipe


def run(*argv: str) -> int:
    try:
        return cli.main(argv)
    except SystemExit as stop:
        return int(stop.code or 0)


def test_generate_writes_a_grid(pipe: Pipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generate", "a red dress", "a blue bag", "-n", "5", "--seed", "7", "--sampler", "ddpm") == 0
    assert pipe.asked == {
        "prompts": ["a red dress"] * 5 + ["a blue bag"] * 5,
        "seed": 7,
        "sampler": "ddpm",
        **{"negative_prompt": None, "height": None, "width": None},
    }
    assert "picture.png" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]
    assert Image.open("picture.png").width == 2 * viz.MARGIN + 5 * (128 + viz.GAP) - viz.GAP  # a row for each prompt


def test_generate_makes_sixteen_of_each_prompt(pipe: Pipe) -> None:
    assert run("generate", "a red dress", "a blue bag") == 0
    assert len(pipe.asked["prompts"]) == 32


def test_each_writes_single_files(pipe: Pipe, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run("generate", "a red dress", "-n", "10", "--each", "-o", "out/dress.png") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"dress-{i:02}.png" for i in range(1, 11)]
    assert Image.open("out/dress-10.png").size == (128, 128)


BAD = {
    "no prompt": (["generate"], "PROMPT"),
    "empty prompt": (["generate", ""], "empty"),
    "blank prompt": (["generate", "a red dress", "  "], "empty"),
    "unknown word": (["generate", "a red zebra"], "zebra"),
    "no steps": (["generate", "a", "--steps", "0"], "--steps: got 0"),
    "steps in words": (["generate", "a", "--steps", "many"], "--steps: got many"),
    "no images": (["generate", "a", "-n", "0"], "-n: got 0"),
    "fewer than no images": (["generate", "a", "-n", "-3"], "-n: got -3"),
    "negative seed": (["generate", "a", "--seed", "-1"], "--seed: got -1"),
    "guidance is no number": (["generate", "a", "--guidance", "nan"], "--guidance: got nan"),
    "interval beyond the schedule": (["generate", "a", "--interval", "0", "1.5"], "--interval: got 1.5"),
    "half an interval": (["generate", "a", "--interval", "0.5"], "--interval: expected 2 arguments"),
    "unknown sampler": (["generate", "a", "--sampler", "nonsense"], "nonsense"),
    "no such folder": (["generate", "a", "-o", "nowhere/picture.png"], "nowhere is a folder that does not exist"),
    "output is a folder": (["generate", "a", "-o", "folder.png"], "folder.png is a folder"),
    "output in a file": (["generate", "a", "-o", "file/picture.png"], "file is not a folder"),
    "not a PNG": (["generate", "a", "-o", "image.jpg"], "image.jpg"),
    "no such weights": (["generate", "a", "--weights", "nowhere"], "nowhere is a file or folder that does not exist"),
    "unknown part": (["train", "everything"], "everything"),
    "unknown preset": (["train", "--preset", "huge"], "huge"),
    "no such data": (["train", "--data", "nowhere"], "nowhere is a folder that does not exist"),
    "run in a file": (["train", "--out", "file"], "file is not a folder"),
    "nothing to resume": (["train", "--resume"], "no run to resume"),
    "evaluate nothing": (["evaluate", "-n", "0"], "-n: got 0"),
    "figures to nowhere": (["evaluate", "--json", "nowhere/figures.json"], "nowhere is a folder that does not exist"),
    "no command": ([], "COMMAND"),
    "unknown command": (["paint"], "paint"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_status_2(
    name: str, pipe: Pipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    argv, expected = BAD[name]
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith("tinydiff: ") and err.count("\n") == 1 and expected in err
    assert out == "" and pipe.asked == {}
    assert {file.name for file in tmp_path.iterdir()} == {"folder.png", "file"}


def test_a_folder_that_cannot_be_written_is_told(
    pipe: Pipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = Path("/proc") if os.getuid() == 0 else tmp_path / "locked"  # root may write anywhere but there
    if not locked.exists():
        locked.mkdir(mode=0o500)
    for argv in (["generate", "a", "-o", f"{locked}/picture.png"], ["train", "--out", f"{locked}/new/run"]):
        assert run(*argv) == 2
        assert f"cannot write to the folder {locked}" in capsys.readouterr().err
    assert pipe.asked == {}


def test_a_full_disk_leaves_nothing(
    pipe: Pipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, written = Image.Image.save, []

    def full_after_two(image: Image.Image, path: Path, **options: object) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        save(image, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", full_after_two)
    assert run("generate", "a red dress", "-n", "4", "--each") == 2
    assert "No space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_train_passes_its_arguments_on(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list = []
    monkeypatch.setitem(vars(tinydiff), "train", lambda *args, **options: asked.append((args, options)))
    assert run("train") == 0
    options = {"preset": "quick", "data": None, "out": Path("runs/quick"), "resume": False, "device": "cpu"}
    assert asked == [(("all",), {**options, "images": None, "captions": None, "size": 32})]


def test_the_former_name_of_a_part_is_accepted(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list = []
    monkeypatch.setitem(vars(tinydiff), "train", lambda part, **options: asked.append(part))
    assert run("train", "judge") == run("train", "classifier") == 0
    assert asked == ["classifier", "classifier"]


@pytest.mark.parametrize(
    ("asked", "text", "value"),
    [
        (number(0, 1), "0", 0.0),
        (number(0, 1, above=True), "1", 1.0),
        (number(0, 1, above=True, below=True), "0.5", 0.5),
        (number(0), "1e9", 1e9),
    ],
)
def test_a_number_in_its_range_is_read(asked: Callable[[str], float], text: str, value: float) -> None:
    assert asked(text) == value


@pytest.mark.parametrize(
    ("asked", "text", "expected"),
    [
        (number(0, 1), "1.5", "a number of at least 0, at most 1"),
        (number(0, 1, above=True), "0", "a number above 0, at most 1"),
        (number(0, 1, above=True, below=True), "1", "a number above 0, below 1"),
        (number(0), "inf", "a number of at least 0"),
        (number(0), "many", "a number of at least 0"),
    ],
)
def test_another_number_is_refused(asked: Callable[[str], float], text: str, expected: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"got {text}, expected {expected}"):
        asked(text)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (FloatingPointError("step 3: loss"), 1)])
def test_an_interrupted_training_says_so(
    error: BaseException, status: int, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setitem(vars(tinydiff), "train", stop)
    assert run("train") == status
    assert capsys.readouterr().err.count("\n") == 1


def test_evaluate_prints_a_table_and_writes_json(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"data": "shipped", "seen": {"garment": 0.912, "colour": 1.0}, "Fréchet ratio": 5.25, "images": 2000}
    monkeypatch.setitem(vars(tinydiff), "evaluate", lambda weights, **options: figures)
    assert run("evaluate", "--json", "figures.json") == 0
    out = capsys.readouterr().out
    assert "91.2 %" in out and "100.0 %" in out and "5.25" in out and "2000" in out and "shipped" in out
    assert json.loads(Path("figures.json").read_text(encoding="utf-8")) == figures


@pytest.mark.parametrize("argv", [["--help"], ["generate", "--help"], ["generate", "", "-n", "0"]])
def test_help_and_mistakes_import_nothing_heavy(argv: list[str]) -> None:
    script = (
        "import sys, tinydiff.cli\n"
        f"try: tinydiff.cli.main({argv!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'numba', 'scipy', 'PIL', 'matplotlib', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_doctor_looks_at_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor") == 0
    out = capsys.readouterr().out
    for word in ("numba", "threads", "threading layer", "instructions", "micro-kernel", "writable", "cuda"):
        assert word in out
    assert "failed" not in out
    assert out.splitlines()[-1] == "verdict: all is well"


def test_what_doctor_advises_works(capsys: pytest.CaptureFixture[str]) -> None:
    """tinydiff is on no index: its extras come from the clone, and are those that setup.cfg has."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    for file in (*(ROOT / "tinydiff").rglob("*.py"), *(ROOT / "notebooks").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"pip install \W*tinydiff", text), file
        for extras in re.findall(r"pip install -e \W*\[([\w,]+)\]", text):
            assert config["options.extras_require"].keys() >= set(extras.split(",")), file


def test_doctor_survives_a_broken_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert "failed" in out
    assert out.splitlines()[-1].startswith("verdict: processor failed")


def test_doctor_s_verdict_names_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tinydiff.cli.doctor.PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.setattr("tinydiff.cli.doctor.shipped", lambda *names: tmp_path)
    assert run("doctor") == 0
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict.startswith("verdict: no-such-package: missing; pip install no-such-package; none: tinydiff train")


@pytest.mark.parametrize(
    "given, expected",
    [({}, tinydiff.SPINS), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=["unset", "set", "a policy"],
)
def test_waiting_threads_sleep_soon_unless_told_otherwise(given: dict[str, str], expected: str | None) -> None:
    """From the import on, before any library has loaded OpenMP; which the import itself does not."""
    env = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, sys, tinydiff; print(os.environ.get('GOMP_SPINCOUNT'), 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env | given, cwd=ROOT)
    assert done.stdout == f"{expected} False\n", done.stderr


@pytest.mark.parametrize("given", ["NUMBA_NUM_THREADS=0", "NUMBA_NUM_THREADS=two", "NUMBA_THREADING_LAYER=none_such"])
def test_threads_that_cannot_be_had_are_one_line(given: str, tmp_path: Path) -> None:
    name, value = given.split("=")
    command = ["generate", "a red dress on a white background", "-n", "1", "--steps", "1", "-o", tmp_path / "a.png"]
    env = {**os.environ, name: value}
    done = subprocess.run(
        [sys.executable, "-m", "tinydiff", *command], capture_output=True, text=True, env=env, cwd=ROOT
    )
    assert done.returncode == 2 and done.stderr.startswith(f"tinydiff: {given}: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_how_long_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", tinydiff.SPINS)
    monkeypatch.setattr(sys, "modules", {"tinydiff": tinydiff, "torch": None})
    assert doctor._waiting() == "sleep after 5000 turns (GOMP_SPINCOUNT, as tinydiff sets it, before it loads OpenMP)"
    monkeypatch.setattr(sys, "modules", {"torch": None, "tinydiff": tinydiff})
    assert doctor._waiting().startswith("as OpenMP has it: PyTorch came first")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert doctor._waiting() == "sleep after 7 turns (GOMP_SPINCOUNT, as it was set)"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert doctor._waiting() == "as OMP_WAIT_POLICY=passive asks"
