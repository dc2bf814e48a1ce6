"""The comparison of samplers: its rows, its figures, and what it refuses."""

import json
import sys

import pytest
from PIL import Image

from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.errors import InputError
from tinydiff.weights import shipped_weights


def test_the_whole_comparison(study, tmp_path, monkeypatch, capsys):
    command = "samplers -n 4 --steps 1 2 --samplers ddim heun --scales 1 3"
    monkeypatch.setattr(sys, "argv", [*command.split(), "-o", str(tmp_path)])
    study.main()
    rows = json.loads((tmp_path / "samplers.json").read_text())
    settings = [(row["sampler"], row["steps"], row["guidance"], row["below"]) for row in rows]
    high = GUIDANCE_INTERVAL[1]
    assert settings == [
        *((name, steps, GUIDANCE_SCALE, high) for name in ("ddim", "heun") for steps in (1, 2)),
        *(("ddim", 25, scale, below) for below in (1.0, high) for scale in (1.0, 3.0)),
    ]
    assert rows[0]["frechet_ratio"] == rows[2]["frechet_ratio"]  # one step is the same for both
    assert rows[4]["frechet_ratio"] == rows[6]["frechet_ratio"]  # without guidance there is no difference
    assert rows[5]["frechet_ratio"] != rows[7]["frechet_ratio"]
    assert all(row["frechet_ratio"] > 0 and 0 <= row["garment"] <= 1 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 1
    for name in ("samplers.png", "guidance.png"):
        with Image.open(tmp_path / name) as page:
            page.load()


def test_weights_that_did_not_learn_to_deblend_are_refused(study):
    rows = study.compare(4, [1], iadb=shipped_weights(), samplers=[])
    with pytest.raises(InputError, match="learnt to predict 'v_prediction'"):
        list(rows)
