"""Presets and the words of captions are what the shipped weights and published figures were made with: pinned."""

import hashlib
import json
from dataclasses import asdict

import pytest

from tinydiff.datasets import captions
from tinydiff.errors import InputError
from tinydiff.segmentation.presets import SEGMENTATION
from tinydiff.training.presets import PRESETS, preset

DIGESTS = {
    "quick": "84624c9dbbc5",
    "full": "ee54489fd04d",
    "full-48": "10b18b1fc0c8",
    "pixels": "29286cb728c5",
    "full-iadb": "c92ad5bdb342",
    "pixels-iadb": "dd6d30c7d1fa",
}
SEGMENTATION_DIGESTS = {
    "quick": "097d57d5a1aa",
    "full": "074805c38030",
    "paper": "e12a940e7ac3",
}


def digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


@pytest.mark.parametrize("presets, digests", [(PRESETS, DIGESTS), (SEGMENTATION, SEGMENTATION_DIGESTS)])
def test_a_preset_that_changes_makes_other_runs(presets, digests):
    """Where one is meant to change, its digest is written here anew, and what it had made is trained anew."""
    assert {name: digest(asdict(preset)) for name, preset in presets.items()} == digests


def test_a_preset_is_found_by_its_name():
    assert all(preset(name) is PRESETS[name] for name in PRESETS)
    with pytest.raises(InputError, match="no preset 'slow'; there are quick, full"):
        preset("slow")


def test_the_colours_of_captions():
    drawn = captions.GARMENTS, captions.COLOURS, captions.BACKGROUNDS, sorted(captions.UNSEEN)
    assert digest(drawn) == "fbd74ee244c0"
