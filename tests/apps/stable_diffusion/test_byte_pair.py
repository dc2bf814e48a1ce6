"""Byte-pair encoding: merges by hand, CLIP's tokens as listed, folders that hold a tokenizer, and none."""

import json

import numpy as np
import pytest

from tinydiff.apps.stable_diffusion import byte_pair
from tinydiff.apps.stable_diffusion.byte_pair import CLIPTokenizer, merged, read_tokenizer, split, symbols, train_merges
from tinydiff.errors import InputError


@pytest.fixture(scope="module")
def tokenizer():
    return CLIPTokenizer()


def test_merges_of_a_toy_corpus():
    """The example of Sennrich 2016: low ×5, lower ×2, newest ×6, widest ×3."""
    corpus = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    # es 9 times, est 9, lo 7, and of those with 6 the first
    assert train_merges(corpus, 5) == [("e", "s"), ("es", "t</w>"), ("l", "o"), ("n", "e"), ("ne", "w")]
    assert len(train_merges(["ab"], 9)) == 1  # nothing is left to merge
    toy = CLIPTokenizer(train_merges(corpus, 12), length=8)
    assert [toy.tokens[i] for i in toy.text_ids("lowest newer")] == ["low", "est</w>", "new", "e", "r</w>"]


def test_each_byte_has_a_character_of_its_own():
    """GPT-2's table: the 68 bytes that print nothing have those from U+0100 on, in order."""
    characters = byte_pair.byte_characters()
    assert len(set(characters.values())) == 256 and characters[ord("!")] == "!" and characters[0xFF] == "ÿ"
    assert [characters[byte] for byte in (0, 32, 127, 160, 173)] == ["Ā", "Ġ", "ġ", "ł", "Ń"]


def test_merged_is_from_the_left():
    assert merged(["a", "a", "a", "b"], ("a", "a")) == ["aa", "a", "b"] and merged([], ("a", "a")) == []
    assert symbols("é") == ["Ã", "©</w>"]


# As transformers 5.24 has them.
LISTED = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "a photograph of an astronaut riding a horse": [320, 8853, 539, 550, 18376, 6765, 320, 4558],
    "": [],
    "<|endoftext|>a": [49407, 320],
}


@pytest.mark.parametrize("text", LISTED)
def test_clips_tokens(tokenizer, text):
    ids = [49406, *LISTED[text], 49407]
    assert tokenizer.encode([text]).tolist() == [ids + [49407] * (77 - len(ids))]
    assert len(tokenizer) == 49408


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("it's 42 c\u0327", ["it", "'s", "4", "2", "c", "\u0327"]),
        ("don't !?x", ["don", "'t", "!?", "x"]),
        ("'ll'x", ["'ll", "'", "x"]),
        ("a\u3000b\x1fc", ["a", "b", "\x1f", "c"]),
    ],
)
def test_where_words_end(text, pieces):
    assert list(split(byte_pair.SPACE.sub(" ", text))) == pieces


def test_a_prompt_is_cut_to_its_length_and_comes_back(tokenizer):
    encoded = tokenizer.encode(["cat " * 100, "A  Cat\u00a0sat on 2 mats, naïvely 🐈"])
    assert encoded.shape == (2, 77) and encoded.dtype == np.int64
    assert encoded[0].tolist() == [49406] + [2368] * 75 + [49407]
    assert tokenizer.decode(encoded[1]) == "a cat sat on 2 mats , naïvely 🐈"
    assert tokenizer.unconditional(2).tolist() == [[49406] + [49407] * 76] * 2
    with pytest.raises(InputError, match="one string 'a', expected a list of prompts"):
        tokenizer.encode("a")


def test_a_long_word_takes_no_minutes(tokenizer):
    word = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 3000))
    assert tokenizer.encode([word])[0, 75] != 49407


def test_a_folder_with_a_tokenizer(tokenizer, tmp_path):
    with pytest.raises(InputError, match="no tokenizer that can be read"):
        read_tokenizer(tmp_path)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer.merges)]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "vocab.json").write_text(json.dumps(tokenizer.ids), encoding="utf-8")
    assert read_tokenizer(tmp_path).ids == tokenizer.ids
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 1}), encoding="utf-8")
    with pytest.raises(InputError, match="not of CLIP's kind"):
        read_tokenizer(tmp_path)
    for damaged in ("{", "[1]"):
        (tmp_path / "vocab.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(InputError, match="tokenizer"):
            read_tokenizer(tmp_path)
    (tmp_path / "merges.txt").unlink()
    model = {"model": {"merges": tokenizer.merges, "vocab": tokenizer.ids}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(model), encoding="utf-8")
    assert read_tokenizer(tmp_path).ids == tokenizer.ids
    (tmp_path / "merges.txt").write_text("a b c\n", encoding="utf-8")
    with pytest.raises(InputError, match="no tokenizer that can be read"):
        read_tokenizer(tmp_path)
