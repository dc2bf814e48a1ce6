"""Section 5: softmax and attention with their gradients, word vectors, and guidance."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinydiff.diffusion.guidance import classifier_free_guidance
from tinydiff.exercises.checking import Answer, Exercise, drawn
from tinydiff.models.word2vec import Word2Vec, skip_gram_loss
from tinydiff.ops import attention, softmax

# N, L queries, M keys, d: L is never M, and the first d is no other number
ATTENTIONS = ((2, 3, 5, 4), (3, 5, 2, 3), (2, 1, 4, 6))


def softmax_forward(answer: Answer) -> None:
    for shape in ((4, 7), (2, 3, 5), (3, 2, 1, 4)):
        (x,) = drawn(shape, seed=0)
        hints = {
            "your rows do not sum to 1: the sum goes along the last axis": softmax.forward(x.swapaxes(-1, -2))[
                0
            ].swapaxes(-1, -2),
            "that is the sum over all numbers: each row has its own": np.exp(x) / np.exp(x).sum(),
        }
        answer.expect(answer(x), softmax.forward(x)[0], "y", hints)
    (x,) = drawn((6,), seed=0)
    answer.expect(answer(x), softmax.forward(x)[0], "y of a single row")
    too_large = "e^1000 is more than a float can hold: subtract the largest number first, the quotient stays the same"
    too_small = "a row far below the others gives 0/0: subtract each row's own largest number, not that of all rows"
    x = drawn((3, 5), seed=1)[0]
    for what, added, message in (
        ("numbers near 1000", np.full((3, 1), 1000.0), too_large),
        ("one row near 1000, one near −1000", np.array([[1000.0], [0], [-1000]]), too_small),
        ("1000 and −1000 in one row", np.array([[1000.0, 0, -1000, 0, 500]]), too_large),
    ):
        with np.errstate(all="ignore"):
            came = answer(x + added)
        expected = softmax.forward(x + added)[0]
        if _has_nan(came, expected.shape):
            raise answer.wrong(f"y with {what}: nan came\n  Hint: {message}")
        answer.expect(came, expected, f"y with {what}")


def _has_nan(came: Any, shape: tuple[int, ...]) -> bool:
    return (
        isinstance(came, np.ndarray) and came.shape == shape and came.dtype.kind == "f" and bool(np.isnan(came).any())
    )


def softmax_grad(answer: Answer) -> None:
    for shape in ((3, 5), (2, 4, 3), (3, 2, 1, 4)):
        x, dy = drawn(shape, shape, seed=2)
        y, backward = softmax.forward(x)
        hints = {
            "that is the diagonal alone: each y of a row depends on every x of the row": dy * y * (1 - y),
            "in the sum each dyⱼ is weighted by its yⱼ": y * (dy - dy.sum(-1, keepdims=True)),
            "the sum goes along the last axis: a row knows nothing of the others": y * (dy - (dy * y).sum()),
            "all zeros: with ones for dy nothing comes, as a row sums to 1 whatever x is; use dy": np.zeros(shape),
        }
        answer.expect(answer(y, dy), backward(dy)[0], "dx", hints)


def attention_forward(answer: Answer) -> None:
    for n, length, memory, d in ATTENTIONS:
        q, k, v = drawn((n, length, d), (n, memory, d), (n, memory, d), seed=3)
        expected = attention.forward(q, k, v, heads=1)[0]
        root = np.sqrt(d)
        over_queries = softmax.forward(k @ q.swapaxes(1, 2) / root)[0].swapaxes(1, 2) @ v
        hints = {
            "1/√d is missing": attention.forward(q * root, k, v)[0],
            "the scores are divided by √d, not by d": attention.forward(q / root, k, v)[0],
            "√d: d is how many numbers a query has, not how many keys there are": attention.forward(
                q * np.sqrt(d / memory), k, v
            )[0],
            "the softmax goes over the keys: each query's weights sum to 1": over_queries,
        }
        answer.expect(answer(q, k, v), expected, "y", hints)


def attention_grads(answer: Answer) -> None:
    for n, length, memory, d in ATTENTIONS:
        q, k, v, dy = drawn((n, length, d), (n, memory, d), (n, memory, d), (n, length, d), seed=4)
        backward = attention.forward(q, k, v, heads=1)[1]
        dq, dk, dv = backward(dy)
        root = np.sqrt(d)
        p = softmax.forward(q @ k.swapaxes(1, 2) / root)[0]
        ds = p * (dy @ v.swapaxes(1, 2)) / root  # without the softmax's sum
        dq_plain, dk_plain, dv_plain = attention.forward(q * root, k, v)[1](dy)
        hints = {
            "1/√d is in the scores and missing in their gradient": (dq * root, dk * root, dv),
            "1/√d is missing": (dq_plain * root, dk_plain, dv_plain),
            "the softmax's gradient has a second term: dsᵢ = pᵢ·(dpᵢ − Σⱼ pⱼ·dpⱼ)": (
                ds @ k,
                ds.swapaxes(1, 2) @ q,
                dv,
            ),
            "dy is not used: the gradient that arrives is not all ones": backward(np.ones_like(dy)),
        }
        answer.expect(answer(q, k, v, dy), (dq, dk, dv), "dq, dk, dv", hints)


def skip_gram(answer: Answer) -> None:
    for (n, count, width), dloss in zip(((3, 5, 4), (2, 3, 7), (4, 1, 3)), (0.7, -1.4, 2.3), strict=True):
        centre, context, negatives = drawn((n, width), (n, width), (n, count, width), seed=5)
        loss, backward = skip_gram_loss.forward(centre, context, negatives)
        dcentre, dcontext, dnegatives = backward(dloss)
        loss_near, backward_near = skip_gram_loss.forward(centre, context, negatives[:, :0])  # the true pairs alone
        dcentre_near = backward_near(dloss)[0]
        loss_turned, backward_turned = skip_gram_loss.forward(centre, context, -negatives)
        dcentre_turned, _, dnegatives_turned = backward_turned(dloss)
        hints = {
            "that is the sum over the pairs: take their mean": tuple(
                n * right for right in (loss, dcentre, dcontext, dnegatives)
            ),
            "the terms of a pair's negatives are summed; the mean is over the pairs alone": (
                loss_near + (loss - loss_near) / count,
                dcentre_near + (dcentre - dcentre_near) / count,
                dcontext,
                dnegatives / count,
            ),
            "a word drawn at random should not fit: in its term stands σ(−uᵢ·v)": (
                loss_turned,
                dcentre_turned,
                dcontext,
                -dnegatives_turned,
            ),
            "v meets the random words too: dcentre is a sum over u and all uᵢ": (
                loss,
                dcentre_near,
                dcontext,
                dnegatives,
            ),
        }
        came = answer(centre, context, negatives, dloss)
        expected = loss, dcentre, dcontext, dnegatives
        answer.expect(came, expected, "loss, dcentre, dcontext, dnegatives", hints)


def guided_prediction(answer: Answer) -> None:
    low, high = 200, 700
    cases = ((3.0, 450), (2.5, 850), (2.5, 100), (4.0, low), (4.0, high), (0.0, 450), (0.0, 850), (1.0, 450), (1.0, 0))
    for seed, (scale, t) in enumerate(cases):
        shape = ((2, 3, 5, 4), (3, 4, 2, 1))[seed % 2]
        u, c = drawn(shape, shape, seed=6 + seed)
        expected = classifier_free_guidance(lambda x, t, asked: asked, [c], [u], scale, (low, high))(np.zeros(shape), t)
        everywhere = u + scale * (c - u)
        hints: dict[str, np.ndarray] = {}
        if scale == 0:
            hints["guidance 0 is the empty prompt alone, at every timestep"] = c
        elif t == low:
            hints["the interval begins with low itself"] = c
        elif t == high:
            hints["the interval ends before high: low ≤ t < high"] = everywhere
        elif low < t < high:
            hints["u and c are exchanged: it goes from u, without the prompt, towards c"] = c + scale * (u - c)
            hints["you go on from c by the whole difference: begin at u, so that scale 1 gives c"] = c + scale * (c - u)
        else:
            hints["there is guidance only within the interval"] = everywhere
            hints["outside the interval it is the prompt, c, that is asked alone"] = u
        came = answer(u, c, scale, t, low, high)
        answer.expect(came, expected, f"the prediction with scale {scale:g} at t = {t} of {low} to {high}", hints)


def nearest_words(answer: Answer) -> None:
    for size, width, word, k in ((11, 3, 4, 5), (8, 5, 0, 3), (9, 2, 8, 8)):
        vectors, lengths = drawn((size, width), (size, 1), seed=100 + size)
        vectors *= np.exp(lengths)  # of very different lengths
        # The library leaves out row 0 as well, which is its padding: it gets one.
        found = Word2Vec(np.concatenate([np.zeros((1, width)), vectors])).nearest(word + 1, size)
        order, cosines = np.array([i - 1 for i, _ in found]), np.array([cosine for _, cosine in found])
        products = vectors @ vectors[word]
        by_product = np.delete(np.argsort(-products), np.argsort(-products).tolist().index(word))[:k]
        distances = np.linalg.norm(vectors - vectors[word], axis=1)
        by_distance = np.argsort(distances)[1 : k + 1]
        hints = {
            "that is the dot product u·v: divide by both lengths": (by_product, products[by_product]),
            "the word itself has cosine 1: leave it out": (
                np.concatenate([[word], order])[:k],
                np.concatenate([[1], cosines])[:k],
            ),
            "the least similar word comes first: a large cosine is a small angle": (order[::-1][:k], cosines[::-1][:k]),
            "that is the distance, which depends on lengths: the angle does not": (by_distance, distances[by_distance]),
        }
        answer.expect(answer(vectors, word, k), (order[:k], cosines[:k]), "words, cosines", hints)


EXERCISES = (
    Exercise("5.1", "the softmax", "softmax_forward", 2, softmax_forward),
    Exercise("5.2", "its gradient", "softmax_grad", 2, softmax_grad),
    Exercise("5.3", "attention", "attention_forward", 2, attention_forward),
    Exercise("5.4", "its three gradients", "attention_grads", 3, attention_grads),
    Exercise("5.5", "skip-gram and its gradients", "skip_gram", 3, skip_gram),
    Exercise("5.6", "guidance", "guided_prediction", 2, guided_prediction),
    Exercise("5.7", "the nearest words", "nearest_words", 2, nearest_words),
)
