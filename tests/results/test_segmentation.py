"""The comparison of segmentations: thresholds, one short training, its table and images."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from tinydiff.apps.data.nuclei import load_nuclei
from tinydiff.models.unet2015 import UNet2015Config
from tinydiff.segmentation.presets import SEGMENTATION, SegmentationPreset
from tinydiff.training.optim import OptimConfig


def test_otsu_is_scikit_image_s(study):
    filters = pytest.importorskip("skimage.filters")
    image, _ = load_nuclei()
    for values in (image, image[:100], np.log1p(image.astype(float))):
        width = (values.max() - values.min()) / 256
        assert study.otsu(values) == pytest.approx(filters.threshold_otsu(values), abs=1.01 * width)


def test_the_threshold_that_learnt_is_the_best_of_the_three(study):
    rows = [row for row, _ in study.thresholds(load_nuclei("left"), load_nuclei("right"))]
    assert len(rows) == 3 and all(0.6 < row.iou < 0.85 for row in rows)
    assert max(rows, key=lambda row: row.iou) is rows[2]


def test_the_whole_comparison_in_seconds(study, tmp_path, monkeypatch, capsys):
    tiny = SegmentationPreset(
        model=UNet2015Config(block_out_channels=(2, 4)), optim=OptimConfig(steps=2, batch=1, warmup=1)
    )
    monkeypatch.setitem(SEGMENTATION, "quick", tiny)
    monkeypatch.setattr(study, "STEPS", (1, 2))
    monkeypatch.setattr(study, "TILES", (1, 32))
    arguments = ["--preset", "quick", "--steps", "1", "--seeds", "1", "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["segmentation", *arguments])
    study.main()
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [row["method"] for row in figures["methods"][3:]] == [
        "without skip connections, 1 steps",
        "U-Net, 1 steps",
        "without skip connections, 2 steps",
        "U-Net, 2 steps",
    ]
    assert list(figures["tiles"]) == ["1", "32"]
    for name in ("methods.png", "tiles.png"):
        Image.open(tmp_path / "out" / name).verify()
    assert "U-Net, 2 steps" in capsys.readouterr().out
