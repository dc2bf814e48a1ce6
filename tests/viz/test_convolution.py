"""The figures show what the convolution computes: window, products, sum and output in their places."""

import numpy as np
import pytest

from tinydiff import ops
from tinydiff.errors import InputError
from tinydiff.viz import convolution
from tinydiff.viz.convolution import applied, bars, convolved, lines, strides, window

X = np.arange(30.0).reshape(5, 6) ** 2 / 100
W = np.array([[1.0, -2, 3], [0, 0.5, 0], [-4, 0, 1]])


def values(axes):
    return np.ma.filled(axes.images[0].get_array(), np.nan)


def box(axes):
    (patch,) = axes.patches
    return patch.get_xy(), patch.get_width(), patch.get_height()


def test_one_channel_is_the_library_s_convolution():
    for stride, padding in ((1, 0), (2, 1)):
        expected = ops.conv2d.forward(X[None, ..., None], W[..., None, None], stride=stride, padding=padding)[0]
        assert np.array_equal(convolved(X, W, stride, padding), expected[0, ..., 0])


def test_a_step_shows_its_window_products_and_what_is_done():
    figure = window(6, X, W)  # the output is (3, 4), so that this is row 1, column 2
    image, here, kernel, products, output = figure.axes
    assert np.array_equal(values(image), X) and box(image) == ((1.5, 0.5), 3, 3)
    assert np.array_equal(values(here), X[1:4, 2:5]) and np.array_equal(values(kernel), W)
    assert np.array_equal(values(products), X[1:4, 2:5] * W)
    done = values(output)
    assert np.allclose(done.ravel()[:7], convolved(X, W).ravel()[:7]) and np.isnan(done.ravel()[7:]).all()
    assert np.isclose(done[1, 2], np.sum(X[1:4, 2:5] * W)) and box(output) == ((1.5, 0.5), 1, 1)
    total = f"{done[1, 2]:.2f}".rstrip("0").replace("-", "−")
    assert products.get_title() == f"products, sum {total}" and output.get_title() == "output (1, 2)"
    assert [text.get_text() for text in kernel.texts] == ["1", "−2", "3", "0", "0.5", "0", "−4", "0", "1"]
    assert {text.get_color() for text in kernel.texts if text.get_text() == "−4"} == {"white"}  # on dark blue
    assert {text.get_color() for text in kernel.texts if text.get_text() == "0"} == {"black"}


def test_stride_and_padding_move_the_window():
    figure = window(4, X, W, stride=2, padding=1)  # (3, 3): row 1, column 1
    image, here = figure.axes[:2]
    assert np.array_equal(values(image), np.pad(X, 1)) and box(image) == ((1.5, 1.5), 3, 3)
    assert np.array_equal(values(here), np.pad(X, 1)[2:5, 2:5])
    assert image.get_title() == "image, padding 1"


def test_each_kernel_stands_above_what_it_makes():
    difference = W - W.mean()
    figure = applied(X, {"a": W, "b": difference})
    empty, a, b, image, of_a, of_b = figure.axes
    assert not empty.images and np.array_equal(values(image), X) and image.images[0].get_cmap().name == "gray"
    assert (a.get_title(), b.get_title()) == ("a", "b") and np.array_equal(values(a), W)
    assert np.array_equal(values(of_a), convolved(X, W, padding=1)) and of_a.images[0].get_cmap().name == "gray"
    answer = convolved(X, difference, padding=1)
    assert np.array_equal(values(of_b), answer) and of_b.images[0].get_cmap().name == "RdBu_r"
    assert of_b.images[0].get_clim() == (-abs(answer).max(), abs(answer).max())


def test_a_dot_for_each_output_number():
    for axes, (stride, padding), side in zip(
        strides(7, 7, 3, [(1, 0), (2, 1)]).axes, [(1, 0), (2, 1)], [5, 4], strict=True
    ):
        assert axes.get_title() == f"stride {stride}, padding {padding}\n7×7 → {side}×{side}"
        columns, rows = axes.lines[0].get_data()
        assert len(rows) == side * side and rows.min() == columns.min() == 1
        assert set(np.diff(np.unique(rows))) == {stride}
        assert np.array_equal(values(axes), np.pad(np.ones((7, 7)), padding))
        assert [patch.get_xy()[0] for patch in axes.patches] == [-0.5, stride - 0.5]


def test_bars_have_their_values_and_leave_gaps():
    figure = bars(["slow", "fast"], {"a": [0.5, 40], "b": [np.nan, 7]}, "title", "unit", "{:.1f}")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["slow", "fast"]
    assert axes.get_xscale() == "log" and (axes.get_title(), axes.get_xlabel()) == ("title", "unit")
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[:2] == [0.5, 40] and np.isnan(widths[2]) and widths[3] == 7
    assert [text.get_text() for text in axes.texts] == ["0.5", "40.0", "", "7.0"]
    (linear,) = bars(["slow", "fast"], {"a": [0.5, 40]}, "", "", log=False).axes
    assert linear.get_xscale() == "linear" and linear.get_xlim()[0] == 0 and linear.get_xlim()[1] > 40
    first, second, _, fourth = (bar.get_y() + bar.get_height() / 2 for bar in axes.patches)
    assert first < 0 < second < 1 < fourth and axes.yaxis_inverted()  # the first name is on top, its bars around it


def test_lines_are_drawn_by_name():
    (axes,) = lines({"a": ([1, 2, 3], [3, 2, 1]), "b": (range(2), [5, 6])}, "title", "x", "y", log=True).axes
    assert [tuple(line.get_ydata()) for line in axes.lines] == [(3, 2, 1), (5, 6)]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("x", "y", "log")


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: window(12, X, W), r"step 12, expected 0 … 11 for an output of \(3, 4\)"),
        (lambda: window(-1, X, W), "step -1"),
        (lambda: convolved(X[None], W), r"x must be \(H, W\)"),
        (lambda: applied(X, {}), "odd sides, one or more"),
        (lambda: applied(X, {"a": np.ones((2, 3))}), r"\[\(2, 3\)\], expected odd"),
        (lambda: strides(2, 2, 3, [(1, 0)]), "does not hold the kernel"),
        (lambda: bars(["a"], {"b": [1, 2]}, "", ""), "for each of 1 names"),
        (lambda: bars(["a"], {"b": [0]}, "", ""), "above zero"),
        (lambda: bars(["a"], {}, "", ""), "above zero"),
        (lambda: lines({}, "", "", ""), "no curves"),
    ],
)
def test_bad_input_is_refused(draw, message):
    with pytest.raises(InputError, match=message):
        draw()


def test_numbers_are_short():
    assert [convolution._short(value) for value in (0.0, -0.0, -0.004, 1 / 9, -2.0, 1.5)] == [
        "0",
        "0",
        "0",
        "0.11",
        "−2",
        "1.5",
    ]
