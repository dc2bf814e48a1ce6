"""Against transformers' CLIPTokenizer (5.24), with the merges that come with tinydiff: 10,000 odd strings."""

import json
import os
import random
import unicodedata

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched
transformers = pytest.importorskip("transformers")

from tinydiff.apps.stable_diffusion.byte_pair import CLIPTokenizer  # noqa: E402

COUNT, EMOJI = 10_000, 0x1F300
PIECES = (
    "'s", "it's", "I'LL", "<|startoftext|>", "<|endoftext|>", " ", "  ", "\u3000", "ΣΑΣ", "İ", "ß", "1234", "½", "٣",
    "don't", "'re'", "photo", "HORSE", "\u200d", "👩\u200d🚀", "é", "e\u0301", "<|", "|>", "שלום", "مرحبا", "日本語",
)  # fmt: skip
# (share of the characters, from, to): what is typed, control characters, accents, combining marks, right to left, emoji
RANGES = (
    (0.4, 32, 127),
    (0.05, 0, 32),
    (0.15, 0x80, 0x600),
    (0.05, 0x300, 0x370),
    (0.05, 0x590, 0x700),
    (0.08, EMOJI, 0x1FA00),
    (0.22, 0, 0x110000),
)


def character(rng):
    """Any that was known to Unicode 3.2, or an emoji: what is new is normalised by some libraries and not by others."""
    while True:
        _, low, high = rng.choices(RANGES, [share for share, *_ in RANGES])[0]
        found = chr(rng.randrange(low, high))
        known = unicodedata if low == EMOJI else unicodedata.ucd_3_2_0
        if known.category(found) not in ("Cn", "Cs"):
            return found


def text(rng, number):
    length = rng.randrange(500, 3000) if number % 100 == 0 else rng.randrange(1, 40)
    return "".join(rng.choice(PIECES) if rng.random() < 0.2 else character(rng) for _ in range(length))


def test_ten_thousand_strings(tmp_path):
    ours = CLIPTokenizer()
    lines = ["#version: 0.2", *(" ".join(pair) for pair in ours.merges)]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "vocab.json").write_text(json.dumps(ours.ids), encoding="utf-8")
    theirs = transformers.CLIPTokenizer.from_pretrained(str(tmp_path))
    rng = random.Random(0)
    for number in range(COUNT):
        prompt = text(rng, number)
        expected = theirs(prompt, padding="max_length", truncation=True, max_length=77)["input_ids"]
        assert ours.encode([prompt])[0].tolist() == expected, repr(prompt)
