"""The grammar says what it must, means one thing each time, and every word of it has an id."""

import itertools

import numpy as np
import pytest

from tinydiff.datasets import BACKGROUNDS, COLOURS, GARMENTS, UNSEEN, Vocabulary, canonical
from tinydiff.datasets.captions import BEGIN, END, LENGTH, PAD, captions, plain_sentences, sentences, split_words
from tinydiff.errors import InputError

COMBINATIONS = list(itertools.product(range(len(GARMENTS)), range(len(COLOURS)), range(len(BACKGROUNDS))))


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary()


def indices(garment, colour, background):
    return GARMENTS.index(garment), list(COLOURS).index(colour), list(BACKGROUNDS).index(background)


def test_every_literal_form_is_in_the_grammar():
    for garment, colour, background in COMBINATIONS:
        literal = f"a {list(COLOURS)[colour]} {GARMENTS[garment]} on a {list(BACKGROUNDS)[background]} background"
        assert literal in sentences(garment, colour, background)
        assert canonical(garment, colour, background) in sentences(garment, colour, background)


@pytest.mark.parametrize(
    "what, sentence",
    [
        (("dress", "red", "white"), "a red dress on a white background"),
        (("sneaker", "blue", "black"), "a photo of a trainer, blue, on black"),
        (("trousers", "red", "grey"), "a red trousers on a grey background"),
        (("trousers", "red", "grey"), "red trousers on a gray background"),
        (("trousers", "red", "grey"), "a pair of red pants on grey"),
        (("trousers", "red", "grey"), "the trousers are red and the background is grey"),
        (("dress", "orange", "sky"), "an orange dress on a sky background"),
        (("dress", "orange", "sky"), "a orange dress on a sky background"),
        (("ankle boot", "purple", "sky"), "an ankle boot in violet on sky"),
    ],
)
def test_sentences_of_the_grammar(what, sentence):
    assert sentence in sentences(*indices(*what))


def test_canonical_uses_the_right_article():
    assert canonical(*indices("ankle boot", "orange", "grey")) == "an orange ankle boot on a grey background"
    assert canonical(*indices("dress", "red", "white")) == "a red dress on a white background"


def test_no_sentence_means_two_things():
    """Not even with its words in another order."""
    meaning = {}
    for combination in COMBINATIONS:
        for sentence in sentences(*combination):
            assert meaning.setdefault(frozenset(split_words(sentence)), combination) == combination


def test_captions_draw_the_whole_grammar_and_the_plain_form_a_third_of_the_time():
    what, rng, n = indices("sneaker", "blue", "black"), np.random.default_rng(0), 4000
    drawn = captions(*np.tile(what, (n, 1)).T, rng)
    assert set(drawn) == set(sentences(*what))
    plain = sum(sentence in plain_sentences(*what) for sentence in drawn)
    expected = n / 3 + n * 2 / 3 / len(sentences(*what))
    assert abs(plain - expected) < 4 * np.sqrt(n * 2 / 9)


def test_captions_keep_to_their_pictures_and_to_the_seed():
    what = np.array(COMBINATIONS).T
    drawn = captions(*what, np.random.default_rng(3))
    assert drawn == captions(*what, np.random.default_rng(3))
    assert drawn != captions(*what, np.random.default_rng(4))
    for combination, sentence in zip(COMBINATIONS, drawn, strict=True):
        assert sentence in sentences(*combination)


def test_unseen_pairs():
    named = {(GARMENTS[garment], list(COLOURS)[colour]) for garment, colour in UNSEEN}
    assert named == {
        ("t-shirt", "purple"),
        ("trousers", "pink"),
        ("pullover", "orange"),
        ("dress", "green"),
        ("coat", "yellow"),
        ("sandal", "blue"),
        ("sneaker", "brown"),
        ("ankle boot", "red"),
    }


def test_every_sentence_can_be_encoded_and_tells_itself_apart(vocabulary):
    every = [sentence for combination in COMBINATIONS for sentence in sentences(*combination)]
    encoded = vocabulary.encode(every)
    assert encoded.shape == (len(every), LENGTH) and encoded.dtype == np.int64
    assert (encoded[:, 0] == BEGIN).all() and ((encoded == END).sum(1) == 1).all()
    assert encoded.max() == len(vocabulary) - 1


def test_encoding_by_hand():
    vocabulary = Vocabulary(["red", "a", "t-shirt"], length=6)
    assert vocabulary.words == ["a", "red", "t-shirt"] and len(vocabulary) == 6
    expected = [[BEGIN, 3, 5, 4, END, PAD], [BEGIN, 4, END, PAD, PAD, PAD]]
    np.testing.assert_array_equal(vocabulary.encode(["A T-shirt, red.", " red "]), expected)


def test_words_alone_make_the_vocabulary_again(vocabulary):
    again = Vocabulary(vocabulary.words)
    assert again.ids == vocabulary.ids


def test_null_caption():
    np.testing.assert_array_equal(Vocabulary(length=4).unconditional(2), [[BEGIN, END, PAD, PAD]] * 2)


@pytest.mark.parametrize("prompt", ["", "  ", " ,. "])
def test_empty_prompt(vocabulary, prompt):
    with pytest.raises(InputError, match="is empty, expected words such as"):
        vocabulary.encode([prompt])


def test_unknown_word_offers_the_nearest(vocabulary):
    with pytest.raises(InputError, match="unknown word 'drss', nearest known words: dress"):
        vocabulary.encode(["a red dress", "a red drss"])


def test_unknown_word_always_offers_something(vocabulary):
    with pytest.raises(InputError, match=r"unknown word 'ψ', nearest known words: \S+, \S+, \S+$"):
        vocabulary.encode(["ψ"])


def test_longest_prompt_and_one_word_more(vocabulary):
    vocabulary.encode(["red " * (LENGTH - 2)])
    with pytest.raises(InputError, match=f"has {LENGTH - 1} words, expected at most {LENGTH - 2}"):
        vocabulary.encode(["red " * (LENGTH - 1)])


def test_one_string_is_not_a_list_of_prompts(vocabulary):
    with pytest.raises(InputError, match="expected a list of prompts"):
        vocabulary.encode("a red dress")


def test_a_letter_in_two_characters_is_the_same_letter():
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert split_words(f"{composed} {apart.upper()}") == [composed, composed]
    earlier = Vocabulary([apart, "bar"])  # as weights may have it that were trained before
    assert earlier.words == ["bar", apart] and earlier.encode([composed]).tolist() == earlier.encode([apart]).tolist()
