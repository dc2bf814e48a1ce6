"""The report that every training leaves behind."""

import re

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff.apps.train.report import EXAMPLES, Strips, strips
from tinydiff.apps.train.run import examples, train
from tinydiff.datasets import Fashion, load_fashion
from tinydiff.viz import grid


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A folder that `train all` wrote: so short a run has a checkpoint at its end alone."""
    return train("all", data=data, out=tmp_path_factory.mktemp("whole") / "run")


def test_the_report_names_every_part_and_shows_what_exists(whole, data):
    text = (whole / "report.md").read_text()
    assert f"40 images from {data}" in text
    for part, steps in (("autoencoder", "12"), ("words", ""), ("denoiser", "12")):
        (row,) = re.findall(rf"^\| {part} \| quick \| (\d*) \| [\d.]+ (?:s|min) \| [\d,]+ \|$", text, re.MULTILINE)
        assert row == steps
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert "loss.png" in shown and len(shown) == 1 + 2 and all((whole / name).is_file() for name in shown)


def test_the_last_strip_is_what_the_weights_draw(whole, data):
    captions = examples(Fashion(np.zeros(0), np.zeros(0), "", 0))
    drawn = tinydiff.load(whole).generate(captions)
    step, _, path = strips(whole, "denoiser")[-1]
    assert step == 12
    with Image.open(path) as page:
        np.testing.assert_array_equal(np.asarray(page), np.asarray(grid(drawn, columns=EXAMPLES, scale=2)))


def test_the_strips_of_the_autoencoder_have_the_pictures_above(whole, data, tiny):
    ((_, _, path),) = strips(whole, "autoencoder")
    images = Fashion(*load_fashion("train", data), tiny.seed).epoch(0).images[:EXAMPLES]
    above = np.asarray(grid(np.concatenate([images, np.zeros_like(images)]), columns=EXAMPLES, scale=2))
    with Image.open(path) as page:
        shown = np.asarray(page)
    half = len(above) // 2
    np.testing.assert_array_equal(shown[: half - 8], above[: half - 8])
    assert (shown[half + 8 :] != above[half + 8 :]).any()


def test_the_time_goes_on_after_a_pause_and_begins_anew_with_a_new_run(tmp_path):
    def draw(average):
        return np.zeros((2, 4, 4, 3), np.uint8)

    first = Strips(tmp_path, "denoiser", False, draw)
    first.began -= 100  # a run of a hundred seconds
    first(5, {})
    Strips(tmp_path, "denoiser", True, draw)(9, {})
    assert [(step, round(seconds, -1)) for step, seconds, _ in strips(tmp_path, "denoiser")] == [(5, 100), (9, 100)]
    Strips(tmp_path, "denoiser", False, draw)(3, {})
    assert [(step, round(seconds, -1)) for step, seconds, _ in strips(tmp_path, "denoiser")] == [(3, 0)]
