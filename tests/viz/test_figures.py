"""Panels, filmstrips, steppers and animations: the right thing in the right place."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tinydiff import viz
from tinydiff.errors import InputError


def test_panels_choose_colours_by_the_sign():
    figure = viz.panels([np.eye(3), np.eye(3) - 0.5, np.zeros((4, 4, 3))], ["a", "b", "c"], columns=2)
    first, second, third, rest = figure.axes
    assert first.images[0].get_cmap().name == "viridis" and first.images[0].get_clim() == (0, 1)
    assert second.images[0].get_cmap().name == "RdBu_r" and second.images[0].get_clim() == (-0.5, 0.5)
    assert third.images[0].get_array().shape == (4, 4, 3) and not rest.images
    assert [own.get_title() for own in figure.axes] == ["a", "b", "c", ""]


def test_limits_are_for_all_and_a_bar_shows_them():
    figure = viz.panels([np.eye(3), 5 * np.eye(3)], limits=(-1, 5), bar=True)
    assert [own.images[0].get_clim() for own in figure.axes[:2]] == [(-1, 5)] * 2 and len(figure.axes) == 3


@pytest.mark.parametrize(
    "images, options, message",
    [
        ([], {}, "images are none, expected at least one"),
        ([np.zeros((2, 2, 4))], {}, r"images are \(2, 2, 4\), expected"),
        ([np.eye(2)], {"titles": ["a", "b"]}, "2 titles for 1 images"),
        ([np.eye(2)], {"bar": True}, "needs limits"),
    ],
)
def test_panels_refuse(images, options, message):
    with pytest.raises(InputError, match=message):
        viz.panels(images, **options)


def test_a_figure_is_saved_whole(tmp_path):
    viz.save_figure(viz.panels([np.eye(3)]), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as page:
        page.load()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def colour(step):
    return np.full((10, 20, 3), 10 * step, np.uint8)


def test_a_filmstrip_has_each_step_in_its_place():
    page = viz.filmstrip(colour, [0, 3, 7], columns=2)
    height = 10 + 2 * 18
    assert page.size == (2 * 20, 2 * height)
    for i, step in enumerate([0, 3, 7]):
        assert page.getpixel((i % 2 * 20 + 10, i // 2 * height + 36 + 5)) == (10 * step,) * 3
    with pytest.raises(InputError, match="no steps"):
        viz.filmstrip(colour, [])


def test_a_figure_becomes_an_image_of_its_size():
    from matplotlib.figure import Figure

    assert viz.as_image(Figure(figsize=(2, 1)), dpi=50).size == (100, 50)


def test_a_stepper_shows_the_filmstrip_and_a_slider(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda what, **options: shown.append(what))
    viz.stepper(colour, 9)
    assert shown[0].size[0] == 5 * 20
    assert np.array_equal(np.asarray(shown[0]), np.asarray(viz.filmstrip(colour, [0, 2, 4, 6, 8])))
    with pytest.raises(InputError, match="one step or more"):
        viz.stepper(colour, 0)
    with pytest.raises(InputError, match="must lie in 0 … 2"):
        viz.stepper(colour, 3, shown=[0, 3])


def test_the_slider_draws_the_step_that_it_stands_at(monkeypatch):
    ipywidgets = pytest.importorskip("ipywidgets")
    boxes = []

    class Box(ipywidgets.VBox):
        def __init__(self, children):
            boxes.append(children)
            super().__init__(children)

    shown = []
    monkeypatch.setattr("ipywidgets.VBox", Box)
    monkeypatch.setattr("IPython.display.display", lambda what, **options: shown.append(what))
    viz.stepper(colour, 9, start=2)
    assert shown[1]["text/plain"] == "(a slider, where widgets run)"
    ((slider, frame),) = boxes
    assert (slider.min, slider.max, slider.value) == (0, 8, 2)
    for step in (2, 7):
        slider.value = step
        assert Image.open(io.BytesIO(frame.value)).getpixel((5, 5)) == (10 * step,) * 3


def test_a_notebook_shows_a_figure_that_ends_a_cell(monkeypatch):
    from IPython.core.formatters import DisplayFormatter

    class Shell:
        display_formatter = DisplayFormatter()

    monkeypatch.setattr("IPython.get_ipython", Shell)
    with matplotlib.rc_context():
        viz.style()
        data, _ = Shell.display_formatter.format(viz.panels([np.eye(3)]))
    assert data["image/png"].startswith(b"\x89PNG")


def test_an_animation_has_every_frame(tmp_path):
    viz.save_gif([colour(step) for step in range(4)], tmp_path / "a.gif", milliseconds=50, last=200)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 4 and film.info["loop"] == 0
        times = []
        for i in range(4):
            film.seek(i)
            times.append(film.info["duration"])
        assert times == [50, 50, 50, 200]
        assert film.convert("RGB").getpixel((5, 5)) == (30, 30, 30)
    with pytest.raises(InputError, match="no frames"):
        viz.save_gif([], tmp_path / "b.gif")
