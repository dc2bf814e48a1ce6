"""Section 6: byte-pair encoding, a causal text encoder, PLMS, and the names in Stable Diffusion's files."""

import numpy as np

from tinydiff.apps.stable_diffusion.byte_pair import merged
from tinydiff.apps.stable_diffusion.names import unet_name
from tinydiff.diffusion.samplers import State, plms_step
from tinydiff.exercises.checking import Answer, drawn, exercise
from tinydiff.ops import gelu, quick_gelu, silu, softmax

# symbols, pair
MERGES = (
    ("l o w </w>".split(), ("l", "o")),
    ("a n a n a s".split(), ("a", "n")),
    ("a a a a a".split(), ("a", "a")),
    ("a b n b a".split(), ("n", "b")),
    ("th e</w>".split(), ("th", "e</w>")),
    (["x"], ("x", "y")),
)
# of a single file's U-Net, on its way down
NAMES = (
    "input_blocks.1.0.in_layers.0.weight",
    "input_blocks.2.0.out_layers.3.bias",
    "input_blocks.3.0.op.weight",
    "input_blocks.4.0.skip_connection.weight",
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
    "input_blocks.8.1.proj_in.bias",
    "input_blocks.9.0.op.bias",
    "input_blocks.11.0.emb_layers.1.weight",
)


@exercise("6.1", "a merge of byte-pair encoding", points=2)
def merge_pair(answer: Answer) -> None:
    for symbols, pair in MERGES:
        given = list(symbols)
        came, right = answer(given, pair), merged(symbols, pair)
        if given != symbols:
            raise answer.wrong("merge_pair changes its first argument: whoever called it still needs the old symbols")
        first = next((i for i in range(len(symbols) - 1) if tuple(symbols[i : i + 2]) == pair), None)
        once = symbols if first is None else [*symbols[:first], "".join(pair), *symbols[first + 2 :]]
        hints = {
            "every occurrence is merged, not the first alone": once,
            "it goes from the left to the right: of aaaaa the last is left over": merged_from_the_right(symbols, pair),
            "an occurrence is the first symbol and, right behind it, the second": [s for s in symbols if s not in pair],
        }
        answer.expect_same(came, right, f"{' '.join(symbols)} with {' + '.join(pair)}", hints)


def merged_from_the_right(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    turned = merged([s[::-1] for s in symbols[::-1]], (pair[1][::-1], pair[0][::-1]))
    return [s[::-1] for s in turned[::-1]]


@exercise("6.2", "the causal mask", points=2)
def causal_weights(answer: Answer) -> None:
    for seed, (n, length) in enumerate(((2, 4), (3, 6), (1, 1))):
        (scores,) = drawn((n, length, length), seed=600 + seed)
        scores = 2 * scores + 1
        later = np.triu(np.ones((length, length), bool), 1)  # (query, key): the key comes after the query
        right = softmax.forward(np.where(later, -1e30, scores))[0]
        zeroed = np.where(later, 0.0, softmax.forward(scores)[0])
        of_zero = softmax.forward(np.where(later, 0.0, scores))[0]
        hints = {
            "the masked weights are 0, but a row's others must sum to 1: mask before the softmax": zeroed,
            "a score of 0 is no mask, e⁰ is 1: take −∞, or one so far below that its power is 0": of_zero,
            "the other half: a word sees those *before* it": softmax.forward(np.where(later.T, -1e30, scores))[0],
            "nothing is masked yet": softmax.forward(scores)[0],
        }
        if length > 1:
            with np.errstate(all="ignore"):
                came = answer(scores)
            if isinstance(came, np.ndarray) and came.dtype.kind == "f" and np.isnan(came).any():
                raise answer.wrong("nan came\n  Hint: the first word sees itself: only keys j > i are masked")
            answer.expect(came, right, "weights", hints)
        else:
            answer.expect(answer(scores), right, "weights of a single word")


@exercise("6.3", "QuickGELU and its gradient", points=2)
def quick_gelu_and_grad(answer: Answer) -> None:
    for shape in ((3, 5), (2, 4, 3)):
        x, dy = drawn(shape, shape, seed=610)
        x = 2 * x
        y, backward = quick_gelu.forward(x)
        (dx,) = backward(dy)
        sigma = 1 / (1 + np.exp(-1.702 * x))
        hints = {
            "σ(x) alone is SiLU; QuickGELU's σ has 1.702·x in it": (silu.forward(x)[0], silu.forward(x)[1](dy)[0]),
            "that is GELU itself, with the error function": (gelu.forward(x)[0], gelu.forward(x)[1](dy)[0]),
            "x is in two places: the product's rule has a second term": (y, dy * sigma),
            "the inner derivative of σ(1.702·x), 1.702, is missing": (y, dy * (sigma + x * sigma * (1 - sigma))),
            "dy is not used: the gradient that arrives is not all ones": (y, backward(np.ones_like(dy))[0]),
        }
        answer.expect(answer(x, dy), (y, dx), "y, dx", hints)


@exercise("6.4", "a step of PLMS", points=3)
def plms(answer: Answer) -> None:
    for count, (a, p) in ((2, (0.3, 0.5)), (3, (0.05, 0.1)), (4, (0.6, 0.9))):
        x, *noises = drawn(*[(2, 3, 2, 4)] * (count + 1), seed=620 + count)

        def stepped(noises: list[np.ndarray], a: float = a, p: float = p, x: np.ndarray = x) -> np.ndarray:
            newest, *before = noises
            return plms_step(State(x, x, newest, a, p, lambda x: (x, x), noises=tuple(before)))[0]

        newest_alone = stepped([noises[0]] * count)  # any mix of equal ones is that one: DDIM's step
        hints = {
            "the newest ε comes first in the list, and has the largest weight": stepped(noises[::-1]),
            "the newest ε alone is DDIM's step: mix it with those before": newest_alone,
            "that is the mean of the ε: the weights look ahead, 3/2 and −1/2 for two": stepped(
                [sum(noises[1:], noises[0]) / count] * count
            ),
            "a and p are exchanged: a is ᾱ here, p at the next timestep": stepped(noises, p, a),
        }
        answer.expect(answer(x, noises, a, p), stepped(noises), f"the sample with {count} ε", hints)


@exercise("6.5", "a name in Stable Diffusion's file", points=2)
def diffusers_name(answer: Answer) -> None:
    for name in NAMES:
        right = unet_name(name)
        level = right.split(".")[1]
        block = int(name.split(".")[1])
        hints = {
            "block 0 is conv_in: count the others from 1, (i − 1) // 3": right.replace(
                f"down_blocks.{level}", f"down_blocks.{block // 3}", 1
            ),
            "the level is a division without remainder, by 3": right.replace(
                f"down_blocks.{level}", f"down_blocks.{block - 1}", 1
            ),
            "the third block of a level is its downsampler": right.replace("downsamplers.0.conv", "resnets.2.op"),
            "the second number, 1, stands for a transformer: attentions": right.replace("attentions", "resnets"),
            "the parts within a block have other names, too": f"{'.'.join(right.split('.')[:4])}."
            f"{'.'.join(name.split('.')[3:])}",
        }
        answer.expect_same(answer(name), right, name, hints)
