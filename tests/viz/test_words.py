"""Words in figures: the right word at the right place, rows that sum to 1 shown as they are."""

import numpy as np
import pytest

from tinydiff.errors import InputError
from tinydiff.viz.words import attention_table, overlay, principal_plane, word_map


def test_the_principal_plane_holds_the_largest_spread():
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((50, 2)) * [5, 2]
    basis = np.linalg.qr(rng.standard_normal((6, 2)))[0]
    places = principal_plane(flat @ basis.T + 3)
    distances = np.linalg.norm(flat[:, None] - flat, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places, axis=-1), distances, atol=1e-9)
    assert places[:, 0].std() > places[:, 1].std()
    np.testing.assert_allclose(principal_plane(flat @ basis.T), places, atol=1e-9)


def test_each_word_stands_at_its_vector():
    vectors = np.array([[0.0, 0, 1], [4, 0, 1], [0, 1, 1], [4.01, 0.01, 1]])
    figure = word_map(vectors, ["a", "b", "c", "d"], {"vowels": ["a"], "others": ["b", "c", "d"]})
    places = principal_plane(vectors)
    for text, place in zip(sorted(figure.axes[0].texts, key=lambda t: t.get_text()), places, strict=True):
        np.testing.assert_allclose(text.xy, place)
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["vowels", "others"]
    labels = np.array([text.get_position() for text in figure.axes[0].texts])
    apart = np.abs(labels[:, None] - labels) / np.ptp(places, axis=0)
    assert ((apart[..., 0] > 0.1) | (apart[..., 1] > 0.031) | np.eye(4, dtype=bool)).all()
    with pytest.raises(InputError, match="1 words for 4 vectors"):
        word_map(vectors, ["a"], {})


def test_the_table_shows_the_weights():
    weights = np.array([[0.9, 0.1], [0.25, 0.75]])
    axes = attention_table(weights, ["x", "y"], ["p", "q"], "t").axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.90", "0.10", "0.25", "0.75"]
    assert [text.get_color() for text in axes.texts] == ["white", "black", "black", "white"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    with pytest.raises(InputError, match=r"weights \(2, 2\) for 1 rows"):
        attention_table(weights, ["x"], ["p", "q"])


def test_the_overlay_dims_where_weights_are_small():
    image = np.full((4, 4, 3), 255, np.uint8)
    shown = overlay(image, np.array([[0.0, 1.0], [0.5, 1.0]]), strength=0.8)
    assert shown[0, 0, 0] == pytest.approx(0.2) and shown[0, 3, 0] == 1 and shown[3, 0, 0] == pytest.approx(0.6)
    np.testing.assert_allclose(overlay(image, np.ones((2, 2))), 1)
    with pytest.raises(InputError, match="do not divide"):
        overlay(image, np.ones((3, 2)))
