"""Plausible wrong answers to section 6: name → (answer, a piece of what must be said)."""

import numpy as np

from tinydiff.apps.stable_diffusion.names import BLOCK
from tinydiff.exercises.stable_diffusion import merged_from_the_right
from tinydiff.ops import gelu, quick_gelu, silu, softmax


def merged_once(symbols, pair):
    for i in range(len(symbols) - 1):
        if tuple(symbols[i : i + 2]) == pair:
            return [*symbols[:i], "".join(pair), *symbols[i + 2 :]]
    return list(symbols)


def merged_in_place(symbols, pair):
    i = 0
    while i < len(symbols) - 1:
        if (symbols[i], symbols[i + 1]) == pair:
            symbols[i : i + 2] = ["".join(pair)]
        i += 1
    return symbols


def merged_as_text(symbols, pair):
    return " ".join(symbols).replace(" ".join(pair), "".join(pair))


def merged_in_either_order(symbols, pair):
    made = []
    for symbol in symbols:
        if made and {made[-1], symbol} == set(pair) and len(set(pair)) == len({made[-1], symbol}):
            made[-1] += symbol
        else:
            made.append(symbol)
    return made


def masked(scores, value, later=None, k=1):
    length = scores.shape[-1]
    later = np.triu(np.ones((length, length), bool), k) if later is None else later
    return np.where(later, value, scores)


def over_queries(scores):
    return softmax.forward(masked(scores, -1e30).swapaxes(1, 2))[0].swapaxes(1, 2)


def masks_itself(scores):
    with np.errstate(all="ignore"):
        powers = np.exp(masked(scores, -np.inf, k=0))
        return powers / powers.sum(-1, keepdims=True)


def sigma(x):
    return 1 / (1 + np.exp(-1.702 * x))


def transferred(x, noise, a, p):
    return p**0.5 * (x - (1 - a) ** 0.5 * noise) / a**0.5 + (1 - p) ** 0.5 * noise


WEIGHTS = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}


def mixed(noises, weights=None):
    return sum(w * noise for w, noise in zip(weights or WEIGHTS[len(noises)], noises, strict=False))


def one_weight(x, noises, a, p):
    """As if there were never more than two."""
    return transferred(x, mixed(noises[:2]), a, p)


def named(name, level=lambda i: (i - 1) // 3, layer=lambda i: (i - 1) % 3, attentions="attentions", known=True):
    _, i, j, *rest = name.split(".")
    i, rest = int(i), ".".join(rest)
    if rest.startswith("op."):
        return f"down_blocks.{level(i)}.downsamplers.0.conv.{rest[3:]}"
    stem, _, kind = rest.rpartition(".")
    if j == "1":
        return f"down_blocks.{level(i)}.{attentions}.{layer(i)}.{rest}"
    return f"down_blocks.{level(i)}.resnets.{layer(i)}.{BLOCK[stem] if known else stem}.{kind}"


WRONG = {
    "6.1": {
        "once": (merged_once, "not the first alone"),
        "from the right": (merged_from_the_right, "from the left to the right"),
        "in place": (merged_in_place, "changes its first argument"),
        "a text": (merged_as_text, "expected ['lo', 'w', '</w>']"),
        "either order": (merged_in_either_order, "a b n b a with n + b: expected"),
        "not yet": (lambda symbols, pair: list(symbols), "expected ['lo', 'w', '</w>']"),
    },
    "6.2": {
        "after the softmax": (lambda s: masked(softmax.forward(s)[0], 0.0), "mask before the softmax"),
        "zero": (lambda s: softmax.forward(masked(s, 0.0))[0], "a score of 0 is no mask"),
        "the other half": (
            lambda s: softmax.forward(masked(s, -1e30, np.tril(np.ones(s.shape[1:], bool), -1)))[0],
            "those *before* it",
        ),
        "none": (lambda s: softmax.forward(s)[0], "nothing is masked yet"),
        "itself": (masks_itself, "only keys j > i are masked"),
        "over queries": (over_queries, "weights: expected"),
    },
    "6.3": {
        "SiLU": (lambda x, dy: (silu.forward(x)[0], silu.forward(x)[1](dy)[0]), "σ(x) alone is SiLU"),
        "GELU": (lambda x, dy: (gelu.forward(x)[0], gelu.forward(x)[1](dy)[0]), "GELU itself"),
        "one term": (lambda x, dy: (x * sigma(x), dy * sigma(x)), "a second term"),
        "inner derivative": (
            lambda x, dy: (x * sigma(x), dy * (sigma(x) + x * sigma(x) * (1 - sigma(x)))),
            "1.702, is missing",
        ),
        "ones": (
            lambda x, dy: (x * sigma(x), quick_gelu.forward(x)[1](np.ones_like(dy))[0]),
            "dy is not used",
        ),
    },
    "6.4": {
        "oldest first": (lambda x, e, a, p: transferred(x, mixed(e[::-1]), a, p), "comes first in the list"),
        "DDIM": (lambda x, e, a, p: transferred(x, e[0], a, p), "is DDIM's step"),
        "a mean": (lambda x, e, a, p: transferred(x, sum(e) / len(e), a, p), "the mean of the ε"),
        "exchanged": (lambda x, e, a, p: transferred(x, mixed(e), p, a), "exchanged"),
        "two at most": (one_weight, "the sample with 3 ε: expected"),
    },
    "6.5": {
        "from 0": (lambda name: named(name, level=lambda i: i // 3), "block 0 is conv_in"),
        "no division": (lambda name: named(name, level=lambda i: i - 1), "by 3"),
        "a third block": (
            lambda name: named(name).replace("downsamplers.0.conv", "resnets.2.op"),
            "is its downsampler",
        ),
        "no transformer": (lambda name: named(name, attentions="resnets"), "stands for a transformer"),
        "old parts": (lambda name: named(name, known=False), "within a block have other names"),
    },
}
