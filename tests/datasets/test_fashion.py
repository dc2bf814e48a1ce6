"""Images follow the formula, captions follow the images, and training never sees a held-out pair."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tinydiff.apps.data.fashion_subset import EACH, first_of_each, make_subset, write_idx
from tinydiff.datasets import (
    BACKGROUNDS,
    COLOURS,
    GARMENTS,
    UNSEEN,
    captioned_fashion,
    draw_training,
    fashion,
    load_fashion,
    render,
)
from tinydiff.datasets.captions import sentences
from tinydiff.datasets.idx import read_labelled
from tinydiff.errors import InputError

SHIPPED = Path(__file__).parents[2] / "data" / "fashion-mnist"
FULL = pytest.mark.skipif(not fashion.DEBIAN.is_dir(), reason="needs the full set, dataset-fashion-mnist")


@pytest.fixture(scope="module")
def shipped():
    return load_fashion("train", SHIPPED)


@pytest.fixture
def nothing_named(monkeypatch, tmp_path):
    monkeypatch.delenv("TINYDIFF_DATA", raising=False)
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "absent")


def small_set(folder, seed=0, size=28, labels=None, each=40):
    """A folder of the MNIST family with random images, `each` of each garment, shuffled."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for prefix in ("train", "t10k"):
        names = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), each)) if labels is None else labels
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (len(names), size, size), np.uint8))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", names)
    return folder


def test_every_pixel_follows_the_formula():
    """Against a plain loop, exactly, with every grey value in every colour on every background."""
    ramp = np.resize(np.arange(256, dtype=np.uint8), (28, 28))
    pairs = [(c, b) for c in range(len(COLOURS)) for b in range(len(BACKGROUNDS))]
    colour, background = np.array(pairs).T
    images = render(np.stack([ramp] * len(pairs)), colour, background)
    assert images.shape == (32, 32, 32, 3) and images.dtype == np.uint8
    for image, (c, b) in zip(images, pairs, strict=True):
        for i in range(32):
            for j in range(32):
                inside = 2 <= i < 30 and 2 <= j < 30
                g = int(ramp[i - 2, j - 2]) / 255 if inside else 0.0
                m = min(1, 5 * g)
                for channel in range(3):
                    front, behind = list(COLOURS.values())[c][channel], list(BACKGROUNDS.values())[b][channel]
                    assert image[i, j, channel] == round(255 * (m * (0.25 + 0.75 * g) * front + (1 - m) * behind))


def test_render_keeps_pictures_apart_across_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (10, 28, 28), np.uint8)
    colour, background = rng.integers(0, 8, 10), rng.integers(0, 4, 10)
    singly = [render(grey[k : k + 1], colour[k : k + 1], background[k : k + 1])[0] for k in range(10)]
    monkeypatch.setattr(fashion, "CHUNK", 4)
    np.testing.assert_array_equal(render(grey, colour, background), singly)
    assert render(grey[:0], colour[:0], background[:0]).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    "grey, colour, background, message",
    [
        (np.zeros((1, 28, 28)), [0], [0], "grey float64"),
        (np.zeros((1, 32, 32), np.uint8), [0], [0], r"expected uint8 \(N, 28, 28\)"),
        (np.zeros((1, 28, 28), np.uint8), [8], [0], r"colour \(1,\), expected \(1,\) indices from 0 to 7"),
        (np.zeros((1, 28, 28), np.uint8), [0], [-1], r"background \(1,\), expected \(1,\) indices from 0 to 3"),
        (np.zeros((1, 28, 28), np.uint8), [0, 1], [0], r"colour \(2,\), expected \(1,\)"),
    ],
)
def test_render_refuses(grey, colour, background, message):
    with pytest.raises(InputError, match=message):
        render(grey, np.array(colour), np.array(background))


def test_training_draw(shipped):
    grey, labels, source = shipped
    drawn = draw_training(grey, labels, np.random.default_rng(1), source)
    assert drawn.images.shape == (len(grey), 32, 32, 3) and len(drawn) == len(grey) == len(drawn.captions)
    assert drawn.source == source
    assert drawn.names == {"garment": list(GARMENTS), "colour": list(COLOURS), "background": list(BACKGROUNDS)}
    np.testing.assert_array_equal(drawn.garment, labels)
    for indices in (drawn.garment, drawn.colour, drawn.background):
        assert indices.dtype == np.int64
    np.testing.assert_array_equal(drawn.images, render(grey, drawn.colour, drawn.background))
    what = zip(drawn.garment.tolist(), drawn.colour.tolist(), drawn.background.tolist(), strict=True)
    assert all(text in sentences(*indices) for text, indices in zip(drawn.captions, what, strict=True))


def test_training_draws_each_pair_but_the_unseen_evenly(shipped):
    grey, labels, source = shipped
    drawn = draw_training(grey, labels, np.random.default_rng(1), source)
    counts = np.zeros((len(GARMENTS), len(COLOURS)), int)
    np.add.at(counts, (drawn.garment, drawn.colour), 1)
    assert {(int(g), int(c)) for g, c in np.argwhere(counts == 0)} == UNSEEN
    for row in counts:
        expected = row.sum() / np.count_nonzero(row)
        assert np.abs(row[row > 0] - expected).max() < 5 * np.sqrt(expected)
    shares = np.bincount(drawn.background, minlength=len(BACKGROUNDS)) / len(labels)
    assert np.abs(shares - 0.25).max() < 0.02


def test_same_seed_same_draw_and_the_next_epoch_another(tmp_path):
    folder = small_set(tmp_path / "set")
    first, again, other = (captioned_fashion("train", folder, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.images, again.images)
    assert first.captions == again.captions
    assert (first.colour != other.colour).any() and first.captions != other.captions
    grey, labels, source = load_fashion("train", folder)
    rng = np.random.default_rng(5)
    assert draw_training(grey, labels, rng, source).captions == first.captions
    assert draw_training(grey, labels, rng, source).captions != first.captions


def test_the_test_part_has_one_even_draw_over_all_pairs():
    test, again = captioned_fashion("test", SHIPPED), captioned_fashion("test", SHIPPED, seed=9)
    np.testing.assert_array_equal(test.images, again.images)
    assert test.captions == again.captions
    counts = np.zeros((len(GARMENTS), len(COLOURS), len(BACKGROUNDS)), int)
    np.add.at(counts, (test.garment, test.colour, test.background), 1)
    assert counts.min() >= 9 and counts.max() <= 10  # 300 of each garment over 32 combinations
    assert np.ptp(counts.sum(2)) <= 1
    for garment in range(len(GARMENTS)):  # and a few images of each garment show many of them
        first = np.flatnonzero(test.garment == garment)[:8]
        assert len(set(test.colour[first])) == 8 and len(set(test.background[first])) == 4
    assert len(set(test.colour[:20])) == 8  # garments do not all begin with the same colour
    what = zip(test.garment.tolist(), test.colour.tolist(), test.background.tolist(), strict=True)
    assert all(text in sentences(*indices) for text, indices in zip(test.captions, what, strict=True))


@FULL
def test_a_draw_of_the_full_set_stays_under_a_gigabyte():
    grey, labels, source = load_fashion("train", fashion.DEBIAN)
    assert len(grey) == 60_000
    tracemalloc.start()
    draw_training(grey, labels, np.random.default_rng(0), source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6


def test_lookup_order(tmp_path, monkeypatch, nothing_named):
    named, environment, debian = (small_set(tmp_path / name, each=k) for k, name in enumerate("abc", 1))
    assert load_fashion("test")[2] == "Fashion-MNIST test, 3,000 images from the subset that tinydiff ships"
    monkeypatch.setattr(fashion, "DEBIAN", debian)
    assert load_fashion("test")[2] == f"Fashion-MNIST test, 30 images from {debian}"
    monkeypatch.setenv("TINYDIFF_DATA", str(environment))
    assert load_fashion("test")[2] == f"Fashion-MNIST test, 20 images from {environment}"
    assert load_fashion("test", named)[2] == load_fashion("test", str(named))[2]
    assert load_fashion("test", named)[2] == f"Fashion-MNIST test, 10 images from {named}"


def test_a_named_folder_that_is_missing_is_refused_rather_than_passed_over(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="nowhere: no such folder, expected one with Fashion-MNIST's IDX files"):
        load_fashion("train", tmp_path / "nowhere")
    monkeypatch.setenv("TINYDIFF_DATA", str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="nothing: no such folder"):
        captioned_fashion("train")


def test_other_images_and_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"images of shape \(16, 16\), expected \(28, 28\)"):
        load_fashion("train", small_set(tmp_path / "small", size=16))
    with pytest.raises(InputError, match="label 10, expected 0 to 9"):
        load_fashion("train", small_set(tmp_path / "labels", labels=np.array([3, 10], np.uint8)))


def test_the_subset_does_not_replace_the_set(tmp_path):
    source = small_set(tmp_path / "source")
    before = {path: path.read_bytes() for path in source.iterdir()}
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(InputError, match="would replace the input"):
        make_subset(source, tmp_path / "link")
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_subset_of_a_small_set(tmp_path, monkeypatch):
    monkeypatch.setattr("tinydiff.apps.data.fashion_subset.EACH", {"train": 3, "test": 2})
    source = small_set(tmp_path / "source")
    for name in ("a", "b"):
        make_subset(source, tmp_path / name)
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert written == sorted(path.name for path in source.iterdir())
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for split, n in (("train", 3), ("test", 2)):
        images, labels = read_labelled(source, split)
        kept, kept_labels = read_labelled(tmp_path / "a", split)
        seen = [0] * 10
        expected = []
        for k, label in enumerate(labels):
            seen[label] += 1
            if seen[label] <= n:
                expected.append(k)
        np.testing.assert_array_equal(kept, images[expected])
        np.testing.assert_array_equal(kept_labels, labels[expected])


@FULL
def test_the_shipped_subset_is_the_one_that_the_script_makes():
    for split, n in EACH.items():
        images, labels = read_labelled(fashion.DEBIAN, split)
        kept, kept_labels = read_labelled(SHIPPED, split)
        chosen = first_of_each(labels, n)
        np.testing.assert_array_equal(kept, images[chosen])
        np.testing.assert_array_equal(kept_labels, labels[chosen])


def test_the_shipped_subset_is_small_balanced_and_without_time_stamps():
    files = sorted(SHIPPED.glob("*.gz"))
    assert len(files) == 4 and sum(path.stat().st_size for path in files) <= 7.5e6
    for path in files:
        assert path.read_bytes()[4:8] == bytes(4)
        assert gzip.decompress(path.read_bytes())
    for split, n in EACH.items():
        np.testing.assert_array_equal(np.bincount(read_labelled(SHIPPED, split)[1]), [n] * 10)


def test_every_pair_is_drawn_for_whoever_judges_them():
    labels = np.repeat(np.arange(10, dtype=np.uint8), 200)
    grey = np.zeros((len(labels), 28, 28), np.uint8)
    drawn = draw_training(grey, labels, np.random.default_rng(0), "made up", every_pair=True)
    assert set(zip(drawn.garment, drawn.colour, strict=True)) == {(g, c) for g in range(10) for c in range(8)}
