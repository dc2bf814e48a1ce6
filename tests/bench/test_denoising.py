"""The comparison of denoisers."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from tinydiff.bench import denoising

pytest.importorskip("skimage")
pytest.importorskip("pywt")


def test_measures_are_means_over_images():
    clean = np.full((2, 32, 32, 3), -0.2, np.float32)
    found = clean + np.array([5, 20], np.float32)[:, None, None, None] / np.float32(127.5)
    assert denoising.mean_psnr(found, clean) == pytest.approx(np.mean([10 * np.log10(255**2 / e**2) for e in (5, 20)]))
    assert denoising.ssim(clean, clean) == 1


def test_every_classical_method_takes_noise_away():
    clean = np.full((2, 32, 32, 3), -1, np.float32)
    clean[:, 8:24, 8:24] = 0.6
    y = denoising.noisy(clean, 50, 0)
    for name, methods in denoising.classical(50).items():
        assert len(methods) == 4
        assert max(denoising.mean_psnr(method(y), clean) for method in methods) > denoising.mean_psnr(y, clean) + 4, (
            name
        )


def test_the_whole_comparison(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(denoising, "SIGMAS", (50,))
    monkeypatch.setattr(denoising, "CHOSEN_ON", 2)
    monkeypatch.setattr(sys, "argv", ["denoising", "-n", "4", "-o", str(tmp_path / "out")])
    denoising.main()
    rows = {row["method"]: row for row in json.loads((tmp_path / "out" / "denoising.json").read_text())}
    assert len(rows) == 6 and rows["noisy"]["psnr"] == pytest.approx(14.2, abs=0.2)
    assert rows["diffusion, one step"]["psnr"] > max(rows[m]["psnr"] for m in ("non-local means", "total variation"))
    assert Image.open(tmp_path / "out" / "denoising.png").width > 7 * 96
    assert "diffusion, 50 small steps" in capsys.readouterr().out
