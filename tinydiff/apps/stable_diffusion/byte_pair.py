"""Byte-pair encoding: common words become one token, rare ones several, and no text is unknown.

A word begins as its bytes.  The pair of neighbours that is most frequent in a corpus is merged into a new symbol, and
so on; whoever encodes a word applies the same merges in the order in which they were learnt.
(Gage 1994; Sennrich 2016, arXiv:1508.07909; on bytes: Radford 2019, "Language models are unsupervised multitask
learners"; CLIP's: Radford 2021, arXiv:2103.00020)
"""

import functools
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from unicodedata import category, normalize

import numpy as np

from tinydiff.errors import InputError
from tinydiff.files import shipped

END = "</w>"  # marks the last symbol of a word
SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")  # Unicode's white space
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
Pair = tuple[str, str]


def train_merges(words: Iterable[str], count: int) -> list[Pair]:
    """The `count` merges that a corpus teaches, or fewer where nothing is left to merge.

    >>> train_merges(["low"] * 5 + ["lower"] * 2, 2)
    [('l', 'o'), ('lo', 'w</w>')]
    """
    counts = Counter(words)
    parts = {word: symbols(word) for word in counts}
    merges: list[Pair] = []
    while len(merges) < count:
        seen: Counter[Pair] = Counter()
        for word, own in parts.items():
            for pair in pairwise(own):
                seen[pair] += counts[word]
        if not seen:
            break
        merges.append(max(seen, key=seen.__getitem__))  # of equals the first that was seen
        parts = {word: merged(own, merges[-1]) for word, own in parts.items()}
    return merges


def symbols(word: str) -> list[str]:
    """A word's bytes as characters, with the end marked."""
    characters = [byte_characters()[byte] for byte in word.encode("utf-8", "surrogatepass")]
    return [*characters[:-1], characters[-1] + END]


def merged(parts: Sequence[str], pair: Pair) -> list[str]:
    """The symbols with each occurrence of the pair made one, from the left."""
    made: list[str] = []
    for part in parts:
        if made and (made[-1], part) == pair:
            made[-1] += part
        else:
            made.append(part)
    return made


@functools.cache
def byte_characters() -> dict[int, str]:
    """A printable character for each byte: its own where it has one, else one from beyond 255 (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


class CLIPTokenizer:
    """CLIP's tokenizer, as that of transformers 5.24: token ids of any text, with the 48,894 merges of OpenAI's CLIP.

    merges: others, in the order in which they were learnt;  length: tokens of a prompt, the rest is cut off.

    >>> CLIPTokenizer().encode(["a photo of a cat"])[0, :8].tolist()
    [49406, 320, 1125, 539, 320, 2368, 49407, 49407]
    """

    def __init__(self, merges: Sequence[Pair] | None = None, length: int = 77) -> None:
        self.length = length
        self.merges = clip_merges() if merges is None else list(merges)
        characters = list(byte_characters().values())
        self.tokens = [*characters, *(c + END for c in characters), *map("".join, self.merges), *SPECIAL]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.rank = {pair: i for i, pair in enumerate(self.merges)}
        self.begin, self.end = len(self.tokens) - 2, len(self.tokens) - 1
        self._word = functools.lru_cache(1 << 16)(self._encode_word)

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.tokens)

    def encode(self, prompts: Sequence[str]) -> np.ndarray:
        """Token ids, int64 (N, length): begin, the text's, end, and end again as padding."""
        if isinstance(prompts, str):
            raise InputError(f"encode: one string {prompts!r}, expected a list of prompts")
        encoded = np.full((len(prompts), self.length), self.end, np.int64)
        for row, prompt in zip(encoded, prompts, strict=True):
            ids = [self.begin, *self.text_ids(prompt)[: self.length - 2]]
            row[: len(ids)] = ids
        return encoded

    def split(self, prompt: str) -> list[str]:
        """A prompt's tokens, as far as they go in."""
        return [self.tokens[i].removesuffix(END) for i in self.text_ids(prompt)[: self.length - 2]]

    def unconditional(self, n: int) -> np.ndarray:
        """The empty prompt n times, int64 (n, length): what guidance leads away from."""
        return self.encode([""] * n)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, without begin, end and padding; in lower case, with one space between words."""
        text = "".join(self.tokens[i] for i in ids if i not in (self.begin, self.end)).replace(END, " ")
        back = {character: byte for byte, character in byte_characters().items()} | {" ": 32}
        return bytes(back[character] for character in text).decode("utf-8", "replace").strip()

    def text_ids(self, text: str) -> list[int]:
        """The ids of a text of any length, without begin and end."""
        pieces = re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text)
        return [i for piece in pieces for i in ([self.ids[piece]] if piece in SPECIAL else self._plain_ids(piece))]

    def _plain_ids(self, text: str) -> Iterator[int]:
        text = SPACE.sub(" ", normalize("NFC", text))
        for word in split("".join(character.lower() for character in text)):  # by itself: ς is no other σ here
            yield from self._word(word)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        parts = symbols(word)
        while found := [pair for pair in pairwise(parts) if pair in self.rank]:
            parts = merged(parts, min(found, key=self.rank.__getitem__))
        return tuple(self.ids[part] for part in parts)


def split(text: str) -> Iterator[str]:
    """Words, single digits, runs of other characters, and English endings such as 's; spaces are dropped."""
    at = 0
    while at < len(text):
        ending = next((e for e in ENDINGS if text.startswith(e, at)), "")
        kind, end = _kind(text[at]), at + max(1, len(ending))
        while not ending and kind in "LX" and end < len(text) and _kind(text[end]) == kind:
            end += 1
        if kind != " ":
            yield text[at:end]
        at = end


@functools.cache
def _kind(character: str) -> str:
    """L letter, N number, X any other, or a space."""
    if SPACE.match(character):
        return " "
    return found if (found := category(character)[0]) in "LN" else "X"


def clip_merges() -> list[Pair]:
    """The merges that come with tinydiff, OpenAI's."""
    lines = gzip.decompress(shipped("clip", "merges.txt.gz").read_bytes()).decode().splitlines()
    return [_pair(line) for line in lines]


def read_tokenizer(folder: str | Path, length: int = 77) -> CLIPTokenizer:
    """CLIP's tokenizer in a folder, as `tokenizer.json` or as `vocab.json` and `merges.txt`; InputError without one."""
    folder = Path(folder)
    try:
        if (folder / "merges.txt").exists():
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
            merges: list = [line for line in lines if line and not line.startswith("#version")]
            vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        else:
            model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
            merges, vocabulary = model["merges"], model["vocab"]
        tokenizer = CLIPTokenizer([_pair(merge) for merge in merges], length)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: no tokenizer that can be read ({error})") from None
    if vocabulary != tokenizer.ids:
        raise InputError(f"{folder}: its merges and its vocabulary are not of CLIP's kind of tokenizer")
    return tokenizer


def _pair(merge: str | list[str]) -> Pair:
    first, second = merge.split() if isinstance(merge, str) else merge
    return first, second
