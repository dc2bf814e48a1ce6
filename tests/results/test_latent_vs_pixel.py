"""Pixels against latents: the whole comparison."""

import json
import sys

import pytest


@pytest.mark.slow
def test_the_whole_comparison(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "IMAGES", 2)
    monkeypatch.setattr(sys, "argv", ["latent_vs_pixel", "-n", "4", "--json", str(tmp_path / "s.json")])
    study.main()
    latents, pixels = json.loads((tmp_path / "s.json").read_text())
    assert latents["numbers"] == 256 and pixels["numbers"] == 3072
    assert pixels["gmac_step"] > latents["gmac_step"] > 0 and pixels["megabytes"] > 0
    assert "12.00 ×" in capsys.readouterr().out
