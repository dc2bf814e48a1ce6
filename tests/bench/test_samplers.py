"""The comparison of samplers: its rows, its figures, and what it refuses."""

import json
import sys

import pytest
from PIL import Image

from tinydiff.bench import samplers
from tinydiff.errors import InputError
from tinydiff.weights import shipped


def test_the_whole_comparison(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(samplers, "GUIDANCE", (1.0, 3.0))
    monkeypatch.setattr(samplers, "SAMPLERS", ("ddim", "heun"))
    monkeypatch.setattr(sys, "argv", ["samplers", "-n", "4", "--steps", "1", "2", "-o", str(tmp_path)])
    assert samplers.main() == 0
    rows = json.loads((tmp_path / "samplers.json").read_text())
    settings = [(row["sampler"], row["steps"], row["guidance"]) for row in rows]
    assert settings == [(name, steps, 3.0) for name in ("ddim", "heun") for steps in (1, 2)] + [
        ("ddim", 25, 1.0),
        ("ddim", 25, 3.0),
    ]
    assert all(row["frechet_ratio"] > 0 and 0 <= row["garment"] <= 1 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 1
    for name in ("samplers.png", "guidance.png"):
        with Image.open(tmp_path / name) as page:
            page.load()


def test_weights_that_did_not_learn_to_deblend_are_refused():
    rows = samplers.compare(4, [1], None, shipped())
    with pytest.raises(InputError, match="learnt 'v', not to deblend"):
        list(rows)
