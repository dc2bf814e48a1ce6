"""Training on images with masks."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tinydiff
from tinydiff.apps.data.nuclei import load_nuclei, simulate_nuclei
from tinydiff.errors import InputError, MismatchError
from tinydiff.models.unet2015 import UNet2015Config
from tinydiff.segmentation import Segmenter, training
from tinydiff.segmentation.metrics import objects, overlap
from tinydiff.segmentation.presets import SEGMENTATION, SegmentationPreset, segmentation_preset
from tinydiff.segmentation.training import train_on_pairs
from tinydiff.training.optim import OptimConfig

TINY = SegmentationPreset(
    model=UNet2015Config(block_out_channels=(4, 8)),
    optim=OptimConfig(steps=6, batch=2, lr=2e-3, warmup=2, ema=0.5),
    size=32,
)


@pytest.fixture
def tiny(monkeypatch):
    """`quick` in seconds."""
    monkeypatch.setitem(SEGMENTATION, "quick", TINY)


@pytest.fixture
def folders(tmp_path):
    """Two simulated images with their masks."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir(), masks.mkdir()
    for i in range(2):
        image, mask = simulate_nuclei(np.random.default_rng(i), (80, 70))
        Image.fromarray(image).save(images / f"{i}.png")
        Image.fromarray(mask.astype(np.uint8)).save(masks / f"{i}.png")
    return images, masks


def steps(preset, count):
    return replace(preset, optim=replace(preset.optim, steps=count))


@pytest.mark.parametrize("padded", [True, False])
def test_a_run_writes_weights_that_can_be_loaded(tiny, folders, tmp_path, padded, capsys):
    out = tinydiff.train_segmentation(*folders, out=tmp_path / "run", padded=padded)
    segmenter = tinydiff.load_segmenter(out)
    assert segmenter.model.config == replace(TINY.model, padded=padded)
    found = segmenter.segment(load_nuclei("left")[0])
    assert found.probability.shape == (512, 256) and found.cells.dtype == np.int32
    assert {"loss.png", "segmentation.csv"} <= {path.name for path in out.iterdir()}
    assert "after 6 steps" in capsys.readouterr().out


def test_simulated_pieces_go_with_the_shipped_image_alone(tiny, folders, tmp_path, monkeypatch):
    """Where the one image is all there is; nobody's own cells are mixed with nuclei."""
    shares = []

    def learn(pairs, preset, *args, **options):
        shares.append(preset.augmentation.simulated)
        return train_on_pairs(pairs, preset, *args, **options)

    monkeypatch.setattr(training, "train_on_pairs", learn)
    tinydiff.train_segmentation(out=tmp_path / "shipped")
    tinydiff.train_segmentation(*folders, out=tmp_path / "own")
    assert shares == [training.SIMULATED, 0]


def test_simulated_pieces_have_many_nuclei_few_and_none():
    pieces = [training.simulated(np.random.default_rng(seed), 96, TINY) for seed in range(60)]
    covered = np.array([np.mean(labels > 0) for _, labels, _ in pieces])
    assert 0.25 < np.mean(covered == 0) < 0.55 and np.mean(covered > 0.1) > 0.1
    assert np.mean(covered[covered > 0] < 0.05) > 0.2
    for image, labels, weights in pieces:
        assert image.shape == (96, 96, 1) and image.dtype == weights.dtype == np.float32 and labels.dtype == np.int32
        assert weights.min() == 1 and (weights[labels == 0].max() > 1) <= (labels > 0).any()


def test_grey_and_colour_learn_together(tmp_path):
    image, mask = simulate_nuclei(np.random.default_rng(0), (60, 60))
    colour = np.repeat(image[:, :, None], 3, 2)
    learnt = train_on_pairs([(image, mask), (colour, mask)], TINY, tmp_path)
    one, other = Segmenter(learnt.model).segment(image), Segmenter(learnt.model).segment(colour)
    assert np.array_equal(one.probability, other.probability)


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, monkeypatch):
    pairs = [simulate_nuclei(np.random.default_rng(0), (80, 70))]
    whole = train_on_pairs(pairs, TINY, tmp_path / made(tmp_path, "a")).model.state_dict()
    cut, stopped = training.cut, [0]

    def interrupted(*args):
        stopped[0] += 1
        if stopped[0] == 2 * TINY.optim.batch + 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return cut(*args)

    monkeypatch.setattr(training, "cut", interrupted)
    folder = tmp_path / made(tmp_path, "b")
    with pytest.raises(KeyboardInterrupt):
        train_on_pairs(pairs, TINY, folder)
    monkeypatch.undo()
    resumed = train_on_pairs(pairs, TINY, folder, resume=True).model.state_dict()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def made(folder, name):
    (folder / name).mkdir()
    return name


def test_a_run_is_only_resumed_where_that_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(training, "fit", lambda task, out, *, resume, should_stop: asked.append(resume) or {})
    monkeypatch.setattr(training, "load_ema", lambda *_: None)
    pairs = [simulate_nuclei(np.random.default_rng(0), (80, 70))]
    train_on_pairs(pairs, TINY, tmp_path)
    train_on_pairs(pairs, TINY, tmp_path, resume=True)
    assert asked == [False, True]


def test_other_data_does_not_resume(tmp_path):
    one, other = (simulate_nuclei(np.random.default_rng(seed), (60, 60)) for seed in (0, 1))
    train_on_pairs([one], TINY, tmp_path)
    with pytest.raises(InputError, match="a checkpoint of another run"):
        train_on_pairs([other], TINY, tmp_path, resume=True)


def test_the_validation_strip_is_never_learnt_from(tmp_path):
    """Whatever its image and mask say, the weights are the same."""
    image, mask = simulate_nuclei(np.random.default_rng(0), (70, 100))
    low, high = np.percentile(image, (1, 99))
    other = image.copy(), mask.copy()
    other[0][:, 80:] = np.random.default_rng(1).permutation(image[:, 80:].ravel()).reshape(70, 20)  # the same levels
    other[1][:, 90:] = 0
    assert (np.percentile(other[0], (1, 99)) == (low, high)).all()
    weights = []
    for name, pair in (("a", (image, mask)), ("b", other)):
        weights.append(train_on_pairs([pair], TINY, tmp_path / made(tmp_path, name)).model.state_dict())
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_training_ends_as_soon_as_it_is_good_enough(tiny, folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "VALIDATE_EVERY", 4)
    given = iter([0.3, 0.5, 0.9, 0.95])
    monkeypatch.setattr(training, "validation_iou", lambda model, examples: next(given))
    out = tinydiff.train_segmentation(*folders, out=tmp_path / "run", until_iou=0.85)
    said = capsys.readouterr().out
    assert "intersection over union 0.900 on the validation strip, after 12 steps" in said
    assert len((out / "segmentation.csv").read_text().splitlines()) == 1 + 12


def test_an_accuracy_that_is_not_reached_is_said_and_the_weights_are_kept(tiny, folders, tmp_path):
    with pytest.raises(MismatchError, match=r"after 60 steps; 0.999 was asked for; the weights are in .*segmentation"):
        tinydiff.train_segmentation(*folders, out=tmp_path / "run", until_iou=0.999)
    tinydiff.load_segmenter(tmp_path / "run")


def test_a_finished_run_is_kept_and_another_one_refused(tiny, folders, tmp_path, capsys):
    tinydiff.train_segmentation(*folders, out=tmp_path / "run")
    with pytest.raises(InputError, match="is there already; go on with --resume"):
        tinydiff.train_segmentation(*folders, out=tmp_path / "run")
    (tmp_path / "run" / "loss.png").unlink()  # as a kill between the weights and their curves leaves it
    spelt_otherwise = folders[0] / ".." / "images"
    tinydiff.train_segmentation(spelt_otherwise, folders[1], out=tmp_path / "run", resume=True)
    assert "is trained already" in capsys.readouterr().out
    assert (tmp_path / "run" / "loss.png").stat().st_size > 0
    for other in ({}, {"images": folders[0], "masks": folders[1], "padded": False}):
        with pytest.raises(InputError, match="from another run"):
            tinydiff.train_segmentation(out=tmp_path / "run", resume=True, **other)


def test_bad_input_is_named(tiny, folders, tmp_path):
    images, masks = folders
    with pytest.raises(InputError, match="images and masks belong together"):
        tinydiff.train_segmentation(images, out=tmp_path / "run")
    with pytest.raises(InputError, match="no preset 'full-48' for segmentation; there are quick, full, paper"):
        tinydiff.train_segmentation(preset="full-48", out=tmp_path / "run")
    for folder in folders:
        Image.new("L", (70, 8)).save(folder / "small.png")
    with pytest.raises(InputError, match="images/small.png: 8×70 pixels; the network needs 10 in each direction"):
        tinydiff.train_segmentation(*folders, out=tmp_path / "run")
    small = simulate_nuclei(np.random.default_rng(0), (64, 12))
    with pytest.raises(InputError, match=r"an image of \(64, 12\) pixels; the receptive radius is"):
        train_on_pairs([small], steps(segmentation_preset("full"), 1), tmp_path)
    empty = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.int32)
    with pytest.raises(InputError, match="no mask holds a cell"):
        train_on_pairs([empty], TINY, tmp_path)
    top = simulate_nuclei(np.random.default_rng(0), (60, 60))
    top[1][:, 40:] = 0
    with pytest.raises(InputError, match="no cell lies in the validation strips"):
        train_on_pairs([top], TINY, tmp_path, until_iou=0.5)


def test_presets_have_the_paper_s_widths_and_fit_the_size_that_is_shipped():
    assert segmentation_preset("paper").model == UNet2015Config()
    assert not {name for name, p in SEGMENTATION.items() if p.size % 2 ** (len(p.model.block_out_channels) - 1)}


@pytest.mark.slow
def test_simulated_cells_are_learnt_quickly(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [simulate_nuclei(rng, (192, 192)) for _ in range(4)]
    learnt = train_on_pairs(pairs, steps(segmentation_preset("quick"), 200), tmp_path)
    image, truth = simulate_nuclei(rng, (256, 256))
    found = Segmenter(learnt.model).segment(image)
    assert overlap(found.mask, truth).iou > 0.85
    assert objects(found.cells, truth).f1 > 0.8


@pytest.mark.slow
def test_the_default_run_reaches_what_the_readme_says(tmp_path):
    out = tinydiff.train_segmentation(out=tmp_path / "run")
    image, truth = load_nuclei("right")
    found = tinydiff.load_segmenter(out).segment(image)
    assert overlap(found.mask, truth).iou > 0.84
    assert objects(found.cells, truth).f1 > 0.85
