"""From an image to cells: levels, the shipped weights, the command's files, and its images."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import tinydiff
from tinydiff.apps.data.nuclei import load_nuclei, simulate_nuclei
from tinydiff.cli import main
from tinydiff.errors import InputError
from tinydiff.models.unet2015 import UNet2015, UNet2015Config
from tinydiff.segmentation import Segmenter, normaliser
from tinydiff.segmentation.images import (
    MISSED,
    NOTHING,
    OUTLINE,
    RIGHT,
    TOO_MUCH,
    compared,
    errors,
    overlay,
    shown,
)
from tinydiff.segmentation.metrics import objects, overlap
from tinydiff.segmentation.segmenter import is_bright_and_coloured, levels


@pytest.fixture(scope="module")
def shipped():
    return tinydiff.load_segmenter()


def test_the_shipped_weights_find_nuclei_that_they_never_saw(shipped):
    image, truth = load_nuclei("right")
    found = shipped.segment(image)
    assert overlap(found.mask, truth).iou >= 0.88
    assert objects(found.cells, truth).f1 >= 0.9
    assert found.count == len(np.unique(found.cells)) - 1


def test_gain_and_offset_of_the_camera_do_not_matter(shipped):
    image, _ = load_nuclei("right")
    image = image[:128, :128]
    as_8, as_16 = shipped.segment(image), shipped.segment(image.astype(np.uint16) * 200 + 1000)
    assert abs(as_8.probability - as_16.probability).max() < 1e-3


def test_grey_and_the_same_grey_in_colour_are_one(shipped):
    image = load_nuclei("right")[0][:100, :90]
    assert np.array_equal(shipped.segment(image).cells, shipped.segment(np.repeat(image[:, :, None], 3, 2)).cells)


def test_levels_are_those_of_the_whole_image():
    image, _ = load_nuclei("right")
    low, high = np.percentile(image, (1, 99))
    prepare = normaliser(image)
    piece = prepare(image[:10, :10])
    assert piece.shape == (10, 10, 3) and piece.dtype == np.float32
    expected = 2 * np.sqrt(np.maximum(image[:10, :10] - low, 0) / (high - low)) - 1
    assert np.allclose(piece, expected[:, :, None], atol=1e-6)
    assert (normaliser(np.full((9, 9), 7, np.uint8))(np.full((2, 2), 7, np.uint8)) == -1).all()
    for shape in ((5, 5, 2), (5,), (0, 5)):
        with pytest.raises(InputError, match=r"the image is \(\d.*, expected \(H, W\)"):
            normaliser(np.zeros(shape))


@pytest.mark.parametrize("part", ["all", "left", "right"])
def test_full_images_are_scaled_by_percentiles_alone(part):
    image, _ = load_nuclei(part)
    assert levels(image) == tuple(np.percentile(image, (1, 99)))
    assert levels(np.repeat(image[:, :, None], 3, 2)) == levels(image)


def test_noise_alone_fills_a_part_of_the_range():
    """The 99th percentile of normal noise lies 4.65 standard deviations above the first; high must be 8 above it."""
    for scale, dtype in ((1, np.float32), (300, np.uint16)):
        noise = scale * (50 + np.random.default_rng(0).standard_normal((256, 256))).astype(np.float32)
        low, high = levels(noise.astype(dtype))
        assert (high - low) / scale == pytest.approx(8, rel=0.05)
    assert levels(np.zeros((60, 60), np.uint8)) == (0, 8 * 0.3)  # an integer is rounded: not one grey level is a cell
    assert levels(np.zeros((60, 60))) == (0, 0)


def test_few_cells_set_the_upper_level():
    """Those of one nucleus in a large image, which the 99th percentile does not see."""
    rng = np.random.default_rng(0)
    image = rng.poisson(20, (512, 512))
    image[100:120, 200:220] += rng.poisson(400, (20, 20))
    low, high = levels(image)
    assert low == np.percentile(image, 1) and 410 < high < 440


@pytest.mark.parametrize("size", [128, 256, 600])
@pytest.mark.parametrize("mean", [0.1, 1, 4, 20, 100, 1000])
def test_an_image_without_cells_has_none(shipped, mean, size):
    """A blob of noise now and then, where there were dozens: 27 to 90 at this size before."""
    found = []
    for seed in range(3 if size < 600 else 1):
        counts = np.random.default_rng([seed, size]).poisson(mean, (size, size))
        found.append(shipped.segment(counts.astype(np.uint16)).count)
        if mean < 200:
            found.append(shipped.segment(counts.astype(np.uint8)).count)
    assert max(found) <= 2 and (mean > 20 or max(found) == 0)


def smooth(rng, blur, size=(256, 256)):
    """Light from out of focus: normal noise, blurred, with a standard deviation of 1."""
    light = ndimage.gaussian_filter(rng.standard_normal(size), blur)
    return light / light.std()


@pytest.mark.parametrize("blur", [2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("haze, noise", [(2.5, 5), (10, 5), (40, 5), (20, 0)])
def test_light_out_of_focus_is_no_cell(shipped, blur, haze, noise):
    """Up to 241 were found, as many as there are blobs, before training saw any."""
    found = []
    for seed in range(2):
        rng = np.random.default_rng([21, seed, blur])
        image = 100 + haze * smooth(rng, blur) + noise * rng.standard_normal((256, 256))
        found.append(shipped.segment(image.astype(np.float32)).count)
    assert np.mean(found) <= 5


@pytest.mark.parametrize("mean", [4, 20, 100, 1000])
@pytest.mark.parametrize("shape", ["slope", "dark corners", "a lamp"])
def test_uneven_light_is_no_cell(shipped, mean, shape):
    y, x = np.mgrid[-0.5:0.5:256j, -0.5:0.5:256j]
    light = {"slope": x, "dark corners": -(x**2) - y**2, "a lamp": np.exp(-((x - 0.2) ** 2 + y**2) / 0.02)}[shape]
    image = np.random.default_rng(22).poisson(mean * (1 + light))
    assert shipped.segment(image.astype(np.uint16)).count <= 1


@pytest.mark.parametrize("density, f1", [(0.01, 0.7), (0.03, 0.6), (0.1, 0.75), (0.2, 0.6)])
def test_cells_in_haze_are_found(shipped, density, f1):
    """In haze that varies by half of a nucleus' light: 0.79, 0.69, 0.84 and 0.71, and 0.05 to 0.54 before."""
    reached = []
    for seed in range(6):
        image, truth = simulate_nuclei(np.random.default_rng([23, seed]), (256, 256), density, haze=0.2)
        reached.append(objects(shipped.segment(image).cells, truth).f1)
    assert np.mean(reached) >= f1


def test_one_nucleus_is_one(shipped):
    counts, f1 = [], []
    for seed in range(12):
        image, truth = simulate_nuclei(np.random.default_rng([10, seed]), (256, 256), density=1e-6)
        found = shipped.segment(image)
        counts.append(found.count)
        f1.append(objects(found.cells, truth).f1)
    assert max(counts) <= 2 and counts.count(1) >= 11
    assert np.mean(f1) >= 0.9


@pytest.mark.parametrize("density, f1", [(0.01, 0.9), (0.03, 0.9), (0.1, 0.88), (0.2, 0.8)])
def test_sparse_and_full_simulated_images(shipped, density, f1):
    reached = []
    for seed in range(6):
        image, truth = simulate_nuclei(np.random.default_rng([11, seed]), (256, 256), density)
        reached.append(objects(shipped.segment(image).cells, truth).f1)
    assert np.mean(reached) >= f1


@pytest.mark.parametrize("bad, said", [(np.nan, "1 of the image's 6,400 values"), (-np.inf, "1 of the image's")])
def test_values_that_are_no_numbers_are_refused(shipped, bad, said):
    image = np.random.default_rng(0).random((80, 80))
    with pytest.raises(InputError, match="6,400 of the image's 6,400 values are NaN or infinite, expected none"):
        shipped.segment(np.full((80, 80), bad))
    image[3, 4] = bad
    with pytest.raises(InputError, match=said):
        shipped.segment(image)
    for dtype in (bool, complex, object, "U3"):
        with pytest.raises(InputError, match="expected whole numbers or floats"):
            shipped.segment(np.ones((80, 80)).astype(dtype))


def test_every_pixel_of_a_small_image_is_looked_at():
    """Its colour lies in every second row and column: seen, or not, from half of them."""
    image = np.full((64, 64, 3), 110, np.uint8)
    image[1::2] = image[:, 1::2] = (120, 40, 40)
    assert is_bright_and_coloured(image)
    assert not is_bright_and_coloured(image // 2)  # as coloured, too dark


def test_the_colours_are_those_that_the_colour_blind_can_tell_apart():
    """Yellow, vermilion and blue.  (Okabe & Ito 2008)"""
    assert (OUTLINE, MISSED, TOO_MUCH) == ((240, 228, 66), (213, 94, 0), (0, 114, 178))
    assert set(RIGHT) == {225} and set(NOTHING) == {0}


def test_more_than_two_classes_are_refused():
    with pytest.raises(InputError, match="knows 3 classes"):
        Segmenter(UNet2015(UNet2015Config(block_out_channels=(1, 2), num_classes=3), rng=None))


def test_an_outline_lies_on_the_cell():
    cells = np.zeros((20, 30), np.int32)
    cells[4:12, 5:15], cells[4:12, 15:25] = 1, 2
    image = overlay(np.arange(600).reshape(20, 30), cells)
    line = (image == OUTLINE).all(-1)
    assert line[4, 5:25].all() and line[4:12, 14].all() and line[4:12, 15].all()
    assert not line[cells == 0].any() and not line[5:11, 6:14].any()  # one pixel wide


def test_errors_have_a_colour_each():
    found, truth = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 0]])
    assert errors(found, truth)[0].tolist() == [list(c) for c in (RIGHT, TOO_MUCH, MISSED, NOTHING)]


def test_images_of_any_depth_can_be_shown():
    rng = np.random.default_rng(0)
    for image in (rng.integers(0, 256, (9, 8), np.uint8), rng.integers(0, 2**16, (9, 8, 3)), rng.random((9, 8))):
        assert shown(image).shape == (9, 8, 3) and shown(image).dtype == np.uint8
    image, truth = load_nuclei("right")
    page = compared(image, truth, truth, truth > 0)
    assert page.width > 4 * 256 and page.height > 512


def test_segment_writes_mask_cells_and_overlay(tmp_path, capsys):
    image, truth = load_nuclei("right")
    Image.fromarray(image[:160, :140].astype(np.uint16) * 100).save(tmp_path / "one.tif")
    Image.fromarray(image[200:360, :140]).save(tmp_path / "two.png")
    out = tmp_path / "out"
    assert main(["segment", str(tmp_path / "one.tif"), str(tmp_path / "two.png"), "-o", str(out)]) == 0
    names = {f"{stem}-{kind}.png" for stem in ("one", "two") for kind in ("mask", "cells", "overlay")}
    assert {path.name for path in out.iterdir()} == names
    mask, cells = (np.asarray(Image.open(out / f"one-{kind}.png")) for kind in ("mask", "cells"))
    assert set(np.unique(mask)) == {0, 255} and overlap(mask, truth[:160, :140]).iou > 0.8
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'one.tif'}: {cells.max()} cells on ")
    assert Image.open(out / "one-overlay.png").size == (140, 160)


def test_the_cells_can_be_a_mask_again(tmp_path):
    image, truth = load_nuclei("right")
    Image.fromarray(image[:200]).save(tmp_path / "i.png")
    Image.fromarray(truth[:200].astype(np.uint8)).save(tmp_path / "m.png")
    assert main(["segment", str(tmp_path / "i.png"), "-o", str(tmp_path)]) == 0
    command = ["segment", str(tmp_path / "i.png"), "--mask", str(tmp_path / "i-cells.png"), "-o"]
    assert main([*command, str(tmp_path)]) == 2  # the cells would replace their own mask
    assert main([*command, str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "i-compared.png").exists()


def test_with_its_mask_an_image_is_measured(tmp_path, capsys):
    image, truth = load_nuclei("right")
    Image.fromarray(image).save(tmp_path / "i.png")
    Image.fromarray(truth.astype(np.uint8)).save(tmp_path / "m.png")
    assert main(["segment", str(tmp_path / "i.png"), "-o", str(tmp_path), "--mask", str(tmp_path / "m.png")]) == 0
    found = tinydiff.load_segmenter().segment(image)
    said = capsys.readouterr().out
    assert f"intersection over union {overlap(found.mask, truth).iou:.3f}" in said
    assert f"F1 of the cells {objects(found.cells, truth).f1:.3f}" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["small.png"], "small.png: the image is 20×20 pixels, smaller than the receptive radius"),
        (["broken.png"], "broken.png: not an image"),
        (["broken.png", "-o", "new"], "broken.png: not an image"),
        (["missing.png"], "missing.png is a file that does not exist"),
        (["a.png", "deeper/a.png"], "would write the same files"),
        (["a.png", "small.png", "--mask", "a.png"], "--mask belongs to one image, not to 2"),
        (["stack.tif", "--mask", "a.png"], "--mask belongs to one image, not to 2; --page takes one of a stack"),
        (["a.png", "--mask", "stack.tif"], "stack.tif: holds 2 images, expected one, or the number of a page"),
        (["stack.tif", "--page", "3"], "stack.tif: has no page 3; it holds 2 images"),
        (["stack.tif", "stack-2.png"], "stack.tif and stack-2.png would write the same files"),
        (["imagej.tif"], "imagej.tif: 3 images by ImageJ's description, but 1 in its directory"),
        (["nan.tif"], "nan.tif: has values that are not finite"),
        (["a.png", "--mask", "small.png"], "small.png: "),
        (["a.png", "--weights", "deeper"], "segmentation.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deeper").mkdir()
    for name, size in (("a.png", 80), ("deeper/a.png", 80), ("small.png", 20)):
        Image.fromarray(np.arange(size * size, dtype=np.uint8).reshape(size, size)).save(tmp_path / name)
    (tmp_path / "broken.png").write_text("no")
    page = Image.new("L", (80, 80))
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page])
    page.save(tmp_path / "stack-2.png")
    page.save(tmp_path / "imagej.tif", description="ImageJ=1.53\nimages=3\nslices=3\n")
    Image.fromarray(np.full((80, 80), np.nan, np.float32)).save(tmp_path / "nan.tif")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) if "missing" in message else _nothing() as raised:
        status = main(["segment", *arguments])
    assert (raised.value.code if raised else status) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_each_page_of_a_stack_is_an_image(tmp_path, capsys):
    image, truth = load_nuclei("right")
    pages = [Image.fromarray(part) for part in (image[:120, :100], image[120:240, :100])]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    masks = [Image.fromarray(part) for part in (truth[:120, :100], truth[120:240, :100])]
    masks[0].save(tmp_path / "truth.tif", save_all=True, append_images=masks[1:])
    stack, out = str(tmp_path / "stack.tif"), tmp_path / "out"
    assert main(["segment", stack, "-o", str(out)]) == 0
    kinds = ("mask", "cells", "overlay")
    assert {path.name for path in out.iterdir()} == {f"stack-{page}-{kind}.png" for page in "12" for kind in kinds}
    assert main(["segment", stack, "--page", "2", "--mask", str(tmp_path / "truth.tif"), "-o", str(out)]) == 0
    assert np.array_equal(*(np.asarray(Image.open(out / f"stack{of}-cells.png")) for of in ("", "-2")))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{stack}, page {page}" for page in (1, 2, 2)]
    assert float(lines[-1].split("union ")[1][:5]) > 0.8


def test_stained_tissue_and_photographs_are_told_from_fluorescence(tmp_path, capsys):
    rng = np.random.default_rng(0)
    grey, mask = simulate_nuclei(rng, (80, 90), density=0.4)
    blue = np.stack([grey // 5, grey // 3, grey], -1)
    tissue = np.where(mask[:, :, None] > 0, (110, 80, 150), (225, 180, 205)).astype(np.uint8)
    assert [is_bright_and_coloured(image) for image in (grey, blue, shown(grey), 255 - shown(grey))] == [False] * 4
    assert is_bright_and_coloured(tissue)
    for name, image in (("blue", blue), ("tissue", tissue)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        assert main(["segment", str(tmp_path / f"{name}.png"), "-o", str(tmp_path)]) == 0
        told = capsys.readouterr().err.splitlines()
        expected = "bright and in colour, as stained tissue or a photograph is; the shipped weights know only"
        assert [f"{name}.png: {expected}" in line for line in told] == ([True] if name == "tissue" else [])


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return False


def test_options_of_segmentation_are_refused_elsewhere(tmp_path, capsys):
    assert main(["train", "words", "--until-iou", "0.5", "--out", str(tmp_path / "run")]) == 2
    assert "--until-iou belongs to `train segmentation`, not to words" in capsys.readouterr().err
    assert main(["train", "segmentation", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "takes --images and --masks" in capsys.readouterr().err
