"""What reads the output: a console of any encoding, a pipe that closes early, a log."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinydiff.apps import console


def run(code, *, out=subprocess.PIPE, **environment):
    program = f"import sys\nfrom tinydiff.apps.console import on_console\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program],
        stdout=out,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_name_that_the_console_cannot_show_is_written_with_escapes():
    done = run("sys.exit(on_console(lambda: print('細胞 café') or 3))", PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (3, rb"\u7d30\u80de caf" + b"\xe9", b"")


def test_a_name_that_is_no_unicode_is_written_with_escapes():
    done = run("sys.exit(on_console(lambda: print('caf\\udce9') or 0))", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, rb"caf\udce9", b"")


@pytest.mark.parametrize("what", ["print('a line') or 0", "print('a line' * 9999) or 0", "sys.exit(print('a line'))"])
def test_a_closed_pipe_is_no_traceback(what):
    reader, writer = os.pipe()
    os.close(reader)
    done = run(f"sys.exit(on_console(lambda: {what}))", out=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (console.CLOSED_PIPE, b"")


@pytest.mark.parametrize("module", ["tinydiff", "tinydiff.exercises"])
def test_both_programs_survive_a_closed_pipe(module, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = {"tinydiff": ["doctor"], "tinydiff.exercises": ["release", str(tmp_path / "out"), "--source", "."]}[
        module
    ]
    (tmp_path / "01_a.ipynb").write_text('{"cells": []}')
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), os.getcwd()]))
    done = subprocess.run(
        [sys.executable, "-m", module, *command],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (console.CLOSED_PIPE, b"")


def test_cells_in_an_image_whose_name_the_console_cannot_show(tmp_path):
    image = tmp_path / "細胞.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(image)
    main = f"from tinydiff.cli import main\nsys.exit(main(['segment', {str(image)!r}, '-o', {str(tmp_path)!r}]))"
    done = run(main, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and done.stdout.count(b"\n") == 1 and rb"\u7d30\u80de.png: " in done.stdout
    assert (tmp_path / "細胞-mask.png").exists()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_writes_a_line_a_minute_to_a_log(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with console.progress_bar(total=3000, desc="denoiser", unit="step") as bar:
        for _ in range(3000):  # ten a second: five minutes
            now[0] += 0.1
            bar.update()
    lines = log.getvalue().splitlines()
    assert "\r" not in log.getvalue() and 5 <= len(lines) <= 7
    assert all(line.startswith("denoiser: ") for line in lines) and "3000/3000" in lines[-1]


def test_the_bar_moves_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with console.progress_bar(total=3, mininterval=0) as bar:
        for _ in range(3):
            bar.update()
    assert terminal.getvalue().count("\r") >= 4
