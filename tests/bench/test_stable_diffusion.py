"""The bench of Stable Diffusion on networks that are small: it writes weights, loads them, and measures."""

import tinydiff
from tinydiff.bench import stable_diffusion as bench
from tinydiff.models import AutoencoderConfig, TextEncoderConfig, UNetConfig

UNET = UNetConfig(4, 4, (8, 16), 1, ("CrossAttnDownBlock2D", "DownBlock2D"), 2, 4, 8)
VAE, TEXT = AutoencoderConfig(3, 4, (8, 8), 1, 4), TextEncoderConfig(49408, 77, 8, 1, 2, "quick_gelu", True)


def test_random_weights_are_written_loaded_and_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "WIDTH", 8)
    monkeypatch.setattr(bench, "SIDE", 16)
    bench.write_random_weights(tmp_path / "weights", UNET, VAE, TEXT)
    pipe = tinydiff.load(tmp_path / "weights")
    assert pipe.generate(["a cat"], 1).std() > 0
    found = bench._measure("tinydiff", tmp_path)
    assert found["step"] > 0 and found["decode"] > 0 and found["memory"] > 1e7
    monkeypatch.setattr(bench, "_is_present", lambda name: name == "diffusers")
    monkeypatch.setattr(bench, "write_random_weights", lambda folder: None)
    monkeypatch.setattr(
        bench,
        "_run",
        lambda name, folder: {"step": 2.0 if name == "diffusers" else 1.0, "decode": 1.0, "memory": 2.0**30},
    )
    monkeypatch.setattr(bench, "_command", lambda weights: 60.0)
    rows = list(bench.stable_diffusion_rows(1))
    assert [row.ratio for row in rows] == [2.0, 1.0, 1.0, None] and rows[0].against == "diffusers"
