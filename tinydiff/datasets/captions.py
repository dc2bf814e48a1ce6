"""What an image can show, the sentences that say so, and the words that those are made of."""

import difflib
import itertools
from collections.abc import Sequence
from functools import cache
from typing import Protocol
from unicodedata import normalize

import numpy as np

from tinydiff.errors import InputError

# Fashion-MNIST's classes, in the order of its labels.
GARMENTS = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

# Red, green and blue in [0, 1].
COLOURS = {
    "red": (0.85, 0.10, 0.10),
    "orange": (0.95, 0.55, 0.10),
    "yellow": (0.95, 0.85, 0.15),
    "green": (0.15, 0.65, 0.20),
    "blue": (0.15, 0.30, 0.85),
    "purple": (0.55, 0.20, 0.70),
    "pink": (0.95, 0.45, 0.65),
    "brown": (0.55, 0.35, 0.20),
}
BACKGROUNDS = {
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "grey": (0.5, 0.5, 0.5),
    "sky": (0.65, 0.85, 0.95),
}

# Never in training: whether words combine is seen on these.  For each garment its colour, or None.
_NEVER = ("purple", "pink", "orange", "green", "yellow", "blue", None, "brown", None, "red")
UNSEEN = frozenset((garment, list(COLOURS).index(colour)) for garment, colour in enumerate(_NEVER) if colour)

# Other words for the same thing.  None of them may mean two things: "sky blue" would be two colours.
SYNONYMS = {
    "t-shirt": ("tee", "top"),
    "trousers": ("pants",),
    "pullover": ("sweater", "jumper"),
    "dress": ("gown",),
    "coat": ("jacket",),
    "sneaker": ("trainer",),
    "bag": ("handbag",),
    "ankle boot": ("boot",),
    "purple": ("violet",),
    "grey": ("gray",),
}
PLURAL = ("trousers", "pants")

CANONICAL_SHARE = 1 / 3  # of the captions drawn have the form that the documentation shows, so users write it
PAD, BEGIN, END, SPECIAL = 0, 1, 2, 3  # the ids before the first word, and how many they are
Indices = Sequence[int] | np.ndarray
LENGTH = 16  # tokens in an encoded caption, the begin and the end among them: the longest sentence needs 14


def canonical(garment: int, colour: int, background: int) -> str:
    """The plain caption of three indices: "a red dress on a white background"."""
    return plain_sentences(garment, colour, background)[-1]


def captions(garment: Indices, colour: Indices, background: Indices, rng: np.random.Generator) -> list[str]:
    """A sentence of the grammar for each image, a third of them canonical; the arguments are indices, (N,) each."""
    found, draws = [], rng.random((len(garment), 2)).tolist()
    for indices, (share, which) in zip(np.stack([garment, colour, background], 1).tolist(), draws, strict=True):
        choices = plain_sentences(*indices) if share < CANONICAL_SHARE else sentences(*indices)
        found.append(choices[int(which * len(choices))])
    return found


@cache
def plain_sentences(garment: int, colour: int, background: int) -> tuple[str, ...]:
    """ "a {colour} {garment} on a {background} background", word for word, and with "an" where English wants it."""
    described, ground = f"{list(COLOURS)[colour]} {GARMENTS[garment]}", list(BACKGROUNDS)[background]
    ways = dict.fromkeys((f"a {described}", with_article(described)))
    return tuple(f"{way} on a {ground} background" for way in ways)


@cache
def sentences(garment: int, colour: int, background: int) -> tuple[str, ...]:
    """Every sentence of the grammar for three indices, each once, in a fixed order."""
    names = GARMENTS[garment], list(COLOURS)[colour], list(BACKGROUNDS)[background]
    found = list(plain_sentences(garment, colour, background))
    for words in itertools.product(*((name, *SYNONYMS.get(name, ())) for name in names)):
        found += arrangements(*words)
    return tuple(dict.fromkeys(found))


def arrangements(noun: str, hue: str, ground: str) -> list[str]:
    """The word orders of one choice of words."""
    described = f"{hue} {noun}"
    verb, ways = "is", [(with_article(described), with_article(noun))]  # "a red dress", "a dress"
    if noun in PLURAL:
        verb, ways = "are", [(described, noun), (f"a pair of {described}", f"a pair of {noun}")]
    orders = [
        f"{described} on a {ground} background",
        f"{described}, {ground} background",
        f"the {noun} {verb} {hue} and the background is {ground}",
    ]
    for coloured, alone in ways:
        orders += [
            f"{coloured} on a {ground} background",
            f"{coloured} on {ground}",
            f"{coloured} against a {ground} backdrop",
            f"a photo of {coloured} on a {ground} background",
            f"a picture of {coloured} on {ground}",
            f"an image of {coloured} against a {ground} background",
            f"a photo of {alone}, {hue}, on {ground}",
            f"{alone}, {hue}, on a {ground} background",
            f"{alone} in {hue} on {ground}",
            f"on a {ground} background, {coloured}",
            f"a {ground} background with {coloured}",
        ]
    return orders


def with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def split_words(text: str) -> list[str]:
    """Lower-case words of a text, é as one character; commas and full stops are dropped, a hyphenated word is one."""
    return normalize("NFC", text.lower()).replace(",", " ").replace(".", " ").split()


def grammar_words() -> set[str]:
    """Every word of the grammar."""
    every = itertools.product(range(len(GARMENTS)), range(len(COLOURS)), range(len(BACKGROUNDS)))
    return {word for indices in every for word in split_words(" ".join(sentences(*indices)))}


class Tokenizer(Protocol):
    """What makes token ids of prompts: `Vocabulary`, or CLIP's of Stable Diffusion."""

    def __len__(self) -> int: ...
    def encode(self, prompts: Sequence[str]) -> np.ndarray: ...
    def split(self, prompt: str) -> list[str]: ...
    def unconditional(self, n: int) -> np.ndarray: ...


class Vocabulary:
    """Words and their ids: 0 pads, 1 begins, 2 ends, and the words follow from 3 in sorted order."""

    def __init__(self, words: Sequence[str] | None = None, length: int = LENGTH) -> None:
        """`words`: the known words, those of the caption grammar if none are given; `length`: tokens of a caption."""
        self.length = length
        self.words = sorted(set(grammar_words() if words is None else words))
        self.ids = {normalize("NFC", word): i for i, word in enumerate(self.words, SPECIAL)}

    def __len__(self) -> int:
        """The number of ids: words and special tokens."""
        return SPECIAL + len(self.words)

    def encode(self, prompts: Sequence[str]) -> np.ndarray:
        """Token ids of prompts, int64 (N, length): begin, the words, end, then padding.

        Raises InputError on a prompt that is empty or too long, or has an unknown word (the nearest are named).
        """
        if isinstance(prompts, str):
            raise InputError(f"encode: one string {prompts!r}, expected a list of prompts")
        encoded = np.full((len(prompts), self.length), PAD, np.int64)
        for row, prompt in zip(encoded, prompts, strict=True):
            words = split_words(prompt)
            if not words:
                raise InputError(f"prompt {prompt!r} is empty, expected words such as {canonical(3, 0, 1)!r}")
            if len(words) > self.length - 2:
                raise InputError(f"prompt {prompt!r} has {len(words)} words, expected at most {self.length - 2}")
            for word in words:
                if word not in self.ids:
                    near = ", ".join(difflib.get_close_matches(word, self.words, n=3, cutoff=0.0))
                    raise InputError(f"prompt {prompt!r}: unknown word {word!r}, nearest known words: {near}")
            row[: len(words) + 2] = [BEGIN, *(self.ids[word] for word in words), END]
        return encoded

    def split(self, prompt: str) -> list[str]:
        """A prompt's words, a token each."""
        return split_words(prompt)

    def unconditional(self, n: int) -> np.ndarray:
        """The empty caption n times, int64 (n, length): what guidance leads away from."""
        return np.array([[BEGIN, END] + [PAD] * (self.length - 2)] * n, np.int64)
