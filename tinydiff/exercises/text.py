"""Section 5: softmax and attention with their gradients, word vectors, and classifier-free guidance."""

import numpy as np

from tinydiff.diffusion import guidance
from tinydiff.exercises.checking import Answer, drawn, exercise
from tinydiff.models.word2vec import Word2Vec, skip_gram_loss
from tinydiff.ops import attention, softmax

# N, L queries, M keys, d: L is never M, and the first d is no other number
ATTENTIONS = ((2, 3, 5, 4), (3, 5, 2, 3), (2, 1, 4, 6))


@exercise("5.1", "the softmax", points=2)
def softmax_forward(answer: Answer) -> None:
    for shape in ((4, 7), (2, 3, 5), (3, 2, 1, 4)):
        (x,) = drawn(shape, seed=0)
        along_another = softmax.forward(x.swapaxes(-1, -2))[0].swapaxes(-1, -2)
        hints = {
            "your rows do not sum to 1: the sum goes along the last axis": along_another,
            "that is the sum over all numbers: each row has its own": np.exp(x) / np.exp(x).sum(),
        }
        answer.expect(answer(x), softmax.forward(x)[0], "y", hints)
    (x,) = drawn((6,), seed=0)
    answer.expect(answer(x), softmax.forward(x)[0], "y of a single row")
    too_large = "e^1000 is more than a float can hold: subtract the largest number first, the quotient stays the same"
    too_small = "a row far below the others gives 0/0: subtract each row's own largest number, not that of all rows"
    (x,) = drawn((3, 5), seed=1)
    for what, added, message in (
        ("numbers near 1000", np.full((3, 1), 1000.0), too_large),
        ("one row near 1000, one near −1000", np.array([[1000.0], [0], [-1000]]), too_small),
        ("1000 and −1000 in one row", np.array([[1000.0, 0, -1000, 0, 500]]), too_large),
    ):
        with np.errstate(all="ignore"):
            came = answer(x + added)
        if isinstance(came, np.ndarray) and came.dtype.kind == "f" and np.isnan(came).any():
            raise answer.wrong(f"y with {what}: nan came\n  Hint: {message}")
        answer.expect(came, softmax.forward(x + added)[0], f"y with {what}")


@exercise("5.2", "its gradient", points=2)
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


@exercise("5.3", "attention", points=2)
def attention_forward(answer: Answer) -> None:
    for n, length, memory, d in ATTENTIONS:
        q, k, v = drawn((n, length, d), (n, memory, d), (n, memory, d), seed=3)
        root = np.sqrt(d)
        by_keys = attention.forward(q * np.sqrt(d / memory), k, v)[0]
        over_queries = softmax.forward(k @ q.swapaxes(1, 2) / root)[0].swapaxes(1, 2) @ v
        hints = {
            "1/√d is missing": attention.forward(q * root, k, v)[0],
            "the scores are divided by √d, not by d": attention.forward(q / root, k, v)[0],
            "√d: d is how many numbers a query has, not how many keys there are": by_keys,
            "the softmax goes over the keys: each query's weights sum to 1": over_queries,
        }
        answer.expect(answer(q, k, v), attention.forward(q, k, v)[0], "y", hints)


@exercise("5.4", "its three gradients", points=3)
def attention_grads(answer: Answer) -> None:
    for n, length, memory, d in ATTENTIONS:
        q, k, v, dy = drawn((n, length, d), (n, memory, d), (n, memory, d), (n, length, d), seed=4)
        backward = attention.forward(q, k, v)[1]
        dq, dk, dv = backward(dy)
        root = np.sqrt(d)
        p = softmax.forward(q @ k.swapaxes(1, 2) / root)[0]
        ds = p * (dy @ v.swapaxes(1, 2)) / root  # without the softmax's sum
        one_term = ds @ k, ds.swapaxes(1, 2) @ q, dv
        dq_plain, dk_plain, dv_plain = attention.forward(q * root, k, v)[1](dy)
        hints = {
            "1/√d is in the scores and missing in their gradient": (dq * root, dk * root, dv),
            "1/√d is missing": (dq_plain * root, dk_plain, dv_plain),
            "the softmax's gradient has a second term: dsᵢ = pᵢ·(dpᵢ − Σⱼ pⱼ·dpⱼ)": one_term,
            "dy is not used: the gradient that arrives is not all ones": backward(np.ones_like(dy)),
        }
        answer.expect(answer(q, k, v, dy), (dq, dk, dv), "dq, dk, dv", hints)


@exercise("5.5", "skip-gram and its gradients", points=3)
def skip_gram(answer: Answer) -> None:
    for (n, count, width), dloss in zip(((3, 5, 4), (2, 3, 7), (4, 1, 3)), (0.7, -1.4, 2.3), strict=True):
        v, u, random = drawn((n, width), (n, width), (n, count, width), seed=5)
        loss, dv, du, drandom = right = _loss_and_gradients(v, u, random, dloss)
        loss_near, dv_near, *_ = _loss_and_gradients(v, u, random[:, :0], dloss)  # the true pairs alone
        loss_turned, dv_turned, _, drandom_turned = _loss_and_gradients(v, u, -random, dloss)
        means = loss_near + (loss - loss_near) / count, dv_near + (dv - dv_near) / count, du, drandom / count
        turned = loss_turned, dv_turned, du, -drandom_turned
        hints = {
            "that is the sum over the pairs: take their mean": tuple(n * r for r in right),
            "the terms of a pair's negatives are summed; the mean is over the pairs alone": means,
            "a word drawn at random should not fit: in its term stands σ(−uᵢ·v)": turned,
            "v meets the random words too: dcentre is a sum over u and all uᵢ": (loss, dv_near, du, drandom),
        }
        answer.expect(answer(v, u, random, dloss), right, "loss, dcentre, dcontext, dnegatives", hints)


def _loss_and_gradients(v: np.ndarray, u: np.ndarray, random: np.ndarray, dloss: float) -> tuple:
    """The library's loss of v, u (N, D) and random words (N, k, D), and its three gradients."""
    loss, backward = skip_gram_loss.forward(v, u, random)
    return loss, *backward(dloss)


@exercise("5.6", "classifier-free guidance", points=2)
def classifier_free_guidance(answer: Answer) -> None:
    low, high = 200, 700
    cases = ((3.0, 450), (2.5, 850), (2.5, 100), (4.0, low), (4.0, high), (0.0, 450), (0.0, 850), (1.0, 450), (1.0, 0))
    for seed, (scale, t) in enumerate(cases):
        shape = ((2, 3, 5, 4), (3, 4, 2, 1))[seed % 2]
        u, c = drawn(shape, shape, seed=6 + seed)
        predict = guidance.classifier_free_guidance(lambda x, t, asked: asked, c, u, scale, (low, high))
        everywhere = u + scale * (c - u)
        hints: dict[str, np.ndarray] = {}
        if scale == 0:
            hints["guidance scale 0 is the empty prompt alone, at every timestep"] = c
        elif t == low:
            hints["the interval begins with low itself"] = c
        elif t == high:
            hints["the interval ends before high: low ≤ t < high"] = everywhere
        elif low < t < high:
            hints["u and c are exchanged: it goes from the unconditional u towards c"] = c + scale * (u - c)
            hints["you go on from c by the whole difference: begin at u, so that scale 1 gives c"] = c + scale * (c - u)
        else:
            hints["there is guidance only within the interval"] = everywhere
            hints["outside the interval it is the conditional prediction, c, alone"] = u
        what = f"the prediction with guidance scale {scale:g} at t = {t} of {low} to {high}"
        answer.expect(answer(u, c, scale, t, low, high), predict(np.zeros(shape), t), what, hints)


@exercise("5.7", "the nearest words", points=2)
def nearest_words(answer: Answer) -> None:
    for size, width, word, k in ((11, 3, 4, 5), (8, 5, 0, 3), (9, 2, 8, 8)):
        vectors, lengths = drawn((size, width), (size, 1), seed=100 + size)
        vectors *= np.exp(lengths)  # of very different lengths
        # The library leaves out row 0 as well, which is its padding: it gets one.
        found = Word2Vec(np.concatenate([np.zeros((1, width)), vectors])).nearest(word + 1, size)
        order, cosines = np.array([i - 1 for i, _ in found]), np.array([cosine for _, cosine in found])
        products = vectors @ vectors[word]
        by_product = np.array([i for i in np.argsort(-products) if i != word])[:k]
        distances = np.linalg.norm(vectors - vectors[word], axis=1)
        by_distance = np.argsort(distances)[1 : k + 1]
        hints = {
            "that is the dot product u·v: divide by both lengths": (by_product, products[by_product]),
            "the word itself has cosine 1: leave it out": (np.array([word, *order])[:k], np.array([1, *cosines])[:k]),
            "the least similar word comes first: a large cosine is a small angle": (order[::-1][:k], cosines[::-1][:k]),
            "that is the distance, which depends on lengths: the angle does not": (by_distance, distances[by_distance]),
        }
        answer.expect(answer(vectors, word, k), (order[:k], cosines[:k]), "words, cosines", hints)
