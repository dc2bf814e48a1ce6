"""Plausible wrong answers to section 5: name → (answer, a piece of what must be said)."""

import numpy as np

from tinydiff.models.word2vec import skip_gram_loss
from tinydiff.ops import attention, softmax


def weights_of(scores, axis=-1):
    powers = np.exp(scores - scores.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def turned(x):
    return x.swapaxes(-1, -2)


def only_for_square(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum(-1)


def overflowing(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def underflowing(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum(-1, keepdims=True)


def over_everything(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def limited(x):
    powers = np.exp(np.minimum(x, 700))
    return powers / powers.sum(-1, keepdims=True)


def shifted_in_place(x):
    x -= x.max(-1, keepdims=True)
    return weights_of(x)


def gradient(y, dy):
    """The right answer to 5.2."""
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def written_over(y, dy):
    dy -= (dy * y).sum(-1, keepdims=True)
    return y * dy


def by_rows_of_the_jacobian(y, dy):
    return y * (dy - dy * y)


def mixed(q, k, v, factor=None, axis=-1):
    """The right answer to 5.3, for the right factor and axis."""
    return weights_of(q @ turned(k) * (1 / np.sqrt(q.shape[2]) if factor is None else factor), axis) @ v


def weights_divided(q, k, v):
    return weights_of(q @ turned(k)) / np.sqrt(q.shape[2]) @ v


def mixes_keys(q, k, v):
    return mixed(q, k, k)


def scaled_in_place(q, k, v):
    q /= np.sqrt(q.shape[2])
    return mixed(q, k, v, 1)


def self_attention(q, k, v):
    return mixed(q, q, q)


def grads(q, k, v, dy, in_scores=True, in_gradient=True, second_term=True):
    """The right answer to 5.4, with nothing left out."""
    root = np.sqrt(q.shape[2])
    p = weights_of(q @ turned(k) / (root if in_scores else 1))
    dp = dy @ turned(v)
    ds = gradient(p, dp) if second_term else p * dp
    ds = ds / (root if in_gradient else 1)
    return ds @ k, turned(ds) @ q, turned(p) @ dy


def softmax_over_queries(q, k, v, dy):
    p = weights_of(q @ turned(k) / np.sqrt(q.shape[2]), 1)
    dp = dy @ turned(v)
    ds = p * (dp - (dp * p).sum(1, keepdims=True)) / np.sqrt(q.shape[2])
    return ds @ k, turned(ds) @ q, turned(p) @ dy


def not_transposed(q, k, v, dy):
    dq, dk, dv = grads(q, k, v, dy)
    return dq, turned(dk), dv


def from_the_library(q, k, v, dy):
    return attention.forward(q, k, v)[1](dy)


def dv_of_the_scores(q, k, v, dy):
    dq, dk, _ = from_the_library(q, k, v, dy)
    return dq, dk, k @ turned(q) / np.sqrt(q.shape[2]) @ dy


def kv_exchanged(q, k, v, dy):
    dq, dk, dv = from_the_library(q, k, v, dy)
    return dq, dv, dk


def pairs(centre, context, negatives, dloss):
    """The right answer to 5.5."""
    loss, backward = skip_gram_loss.forward(centre, context, negatives)
    return loss, *backward(dloss)


def negatives_averaged(centre, context, negatives, dloss):
    n, k = negatives.shape[:2]
    near = 1 / (1 + np.exp(-(centre * context).sum(1)))
    random = 1 / (1 + np.exp(-np.einsum("nd,nkd->nk", centre, negatives)))
    loss = -(np.log(near) + np.log(1 - random).mean(1)).mean()
    dnear, drandom = dloss * (near - 1)[:, None] / n, dloss * random[..., None] / (n * k)
    return loss, dnear * context + (drandom * negatives).sum(1), dnear * centre, drandom * centre[:, None]


def negatives_as_neighbours(centre, context, negatives, dloss):
    n = len(centre)
    near = 1 / (1 + np.exp(-(centre * context).sum(1)))
    random = 1 / (1 + np.exp(-np.einsum("nd,nkd->nk", centre, negatives)))
    loss = -(np.log(near).sum() + np.log(random).sum()) / n
    dnear, drandom = dloss * (near - 1)[:, None] / n, dloss * (random - 1)[..., None] / n
    return loss, dnear * context + (drandom * negatives).sum(1), dnear * centre, drandom * centre[:, None]


def without_negatives_for_the_centre(centre, context, negatives, dloss):
    loss, _, dcontext, dnegatives = pairs(centre, context, negatives, dloss)
    return loss, pairs(centre, context, negatives[:, :0], dloss)[1], dcontext, dnegatives


def no_logarithm(centre, context, negatives, dloss):
    near = 1 / (1 + np.exp(-(centre * context).sum(1)))
    random = 1 / (1 + np.exp(np.einsum("nd,nkd->nk", centre, negatives)))
    return -(near.sum() + random.sum()) / len(centre), *pairs(centre, context, negatives, dloss)[1:]


def negatives_summed(centre, context, negatives, dloss):
    loss, dcentre, dcontext, dnegatives = pairs(centre, context, negatives, dloss)
    return loss, dcentre, dcontext, dnegatives.sum(1)


def centre_and_context_exchanged(centre, context, negatives, dloss):
    loss, dcentre, dcontext, dnegatives = pairs(centre, context, negatives, dloss)
    return loss, dcontext, dcentre, dnegatives


def classifier_free_guidance(u, c, s, t, low, high):
    """The right answer to 5.6."""
    return u if s == 0 else u + s * (c - u) if low <= t < high else c


def guided_in_place(u, c, s, t, low, high):
    if not low <= t < high:
        return u if s == 0 else c
    c -= u
    return u + s * c


def cosines_of(vectors, word):
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors @ vectors[word] / (lengths * lengths[word])


def nearest(cosines, word, k):
    """The right answer to 5.7, for the right cosines."""
    order = np.argsort(-cosines)
    order = order[order != word][:k]
    return order, cosines[order]


def with_itself(vectors, word, k):
    cosines = cosines_of(vectors, word)
    order = np.argsort(-cosines)[:k]
    return order, cosines[order]


def farthest(vectors, word, k):
    cosines = cosines_of(vectors, word)
    order = np.argsort(cosines)
    order = order[order != word][:k]
    return order, cosines[order]


def by_distance(vectors, word, k):
    distances = np.linalg.norm(vectors - vectors[word], axis=1)
    order = np.argsort(distances)[1 : k + 1]
    return order, distances[order]


def by_dot_product(vectors, word, k):
    return nearest(vectors @ vectors[word], word, k)


def one_length(vectors, word, k):
    return nearest(cosines_of(vectors, word) * np.linalg.norm(vectors[word]), word, k)


def lengths_of_columns(vectors, word, k):
    return nearest(vectors / np.linalg.norm(vectors, axis=0) @ vectors[word], word, k)


def of_either_sign(vectors, word, k):
    cosines = cosines_of(vectors, word)
    order = np.argsort(-abs(cosines))[1 : k + 1]
    return order, cosines[order]


def normalised_in_place(vectors, word, k):
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return nearest(vectors @ vectors[word], word, k)


def in_the_order_of_the_table(vectors, word, k):
    order = np.sort(nearest(cosines_of(vectors, word), word, k)[0])
    return order, cosines_of(vectors, word)[order]


def word_removed_first(vectors, word, k):
    cosines = np.delete(cosines_of(vectors, word), word)
    order = np.argsort(-cosines)[:k]
    return order, cosines[order]


WRONG = {
    "5.1": {
        "first axis": (lambda x: weights_of(x, 0), "the sum goes along the last axis"),
        "second axis": (lambda x: weights_of(x, 1), "the sum goes along the last axis"),
        "over everything": (over_everything, "each row has its own"),
        "overflows": (overflowing, "subtract the largest number first"),
        "one largest number for all": (underflowing, "each row's own largest number"),
        "smallest number subtracted": (
            lambda x: overflowing(x - x.min(-1, keepdims=True)),
            "subtract the largest number",
        ),
        "large numbers cut off": (limited, "y with numbers near 1000: expected"),
        "nan replaced": (lambda x: np.nan_to_num(overflowing(x)), "y with numbers near 1000: expected"),
        "right for squares alone": (only_for_square, "raised ValueError"),
        "in place": (shifted_in_place, "changes its first argument in place"),
        "not divided": (lambda x: np.exp(x - x.max(-1, keepdims=True)), "y: expected"),
        "logarithms": (lambda x: np.log(softmax.forward(x)[0]), "y: expected"),
    },
    "5.2": {
        "the diagonal alone": (by_rows_of_the_jacobian, "that is the diagonal alone"),
        "sum without y": (lambda y, dy: y * (dy - dy.sum(-1, keepdims=True)), "weighted by its yⱼ"),
        "sum over everything": (lambda y, dy: y * (dy - (dy * y).sum()), "a row knows nothing of the others"),
        "ones for dy": (lambda y, dy: gradient(y, np.ones_like(dy)), "whatever x is; use dy"),
        "y forgotten": (lambda y, dy: dy - (dy * y).sum(-1, keepdims=True), "dx: expected"),
        "sign": (lambda y, dy: -gradient(y, dy), "dx: expected"),
        "of x, not of y": (lambda y, dy: gradient(softmax.forward(y)[0], dy), "dx: expected"),
        "mean for sum": (lambda y, dy: y * (dy - (dy * y).mean(-1, keepdims=True)), "dx: expected"),
        "in place": (written_over, "changes its second argument in place"),
    },
    "5.3": {
        "1/√d forgotten": (lambda q, k, v: mixed(q, k, v, 1), "1/√d is missing"),
        "1/d": (lambda q, k, v: mixed(q, k, v, 1 / q.shape[2]), "divided by √d, not by d"),
        "√M": (lambda q, k, v: mixed(q, k, v, k.shape[1] ** -0.5), "not how many keys there are"),
        "softmax over queries": (lambda q, k, v: mixed(q, k, v, axis=1), "each query's weights sum to 1"),
        "weights divided, not scores": (weights_divided, "y: expected"),
        "mixes keys": (mixes_keys, "y: expected"),
        "self-attention": (self_attention, "y: expected"),
        "q and k exchanged": (lambda q, k, v: weights_of(k @ turned(q)) @ v, "raised ValueError"),
        "no softmax": (lambda q, k, v: q @ turned(k) / np.sqrt(q.shape[2]) @ v, "y: expected"),
        "in place": (scaled_in_place, "changes its first argument in place"),
    },
    "5.4": {
        "1/√d forgotten in the gradient": (lambda *a: grads(*a, in_gradient=False), "missing in their gradient"),
        "1/√d forgotten": (lambda *a: grads(*a, in_scores=False, in_gradient=False), "1/√d is missing"),
        "1/√d forgotten in the scores": (lambda *a: grads(*a, in_scores=False), "dq: expected"),
        "no second term": (lambda *a: grads(*a, second_term=False), "has a second term"),
        "ones for dy": (lambda q, k, v, dy: grads(q, k, v, np.ones_like(dy)), "dy is not used"),
        "softmax over queries": (softmax_over_queries, "dq: expected"),
        "dk transposed": (not_transposed, "dk: expected shape"),
        "dv of the scores": (dv_of_the_scores, "dv: expected"),
        "dk and dv exchanged": (kv_exchanged, "dk: expected"),
        "y as well": (lambda q, k, v, dy: (mixed(q, k, v), *grads(q, k, v, dy)), "expected 3 results (dq, dk, dv)"),
    },
    "5.5": {
        "sum over pairs": (lambda *a: tuple(len(a[0]) * r for r in pairs(*a)), "take their mean"),
        "mean over negatives": (negatives_averaged, "the mean is over the pairs alone"),
        "negatives as neighbours": (negatives_as_neighbours, "drawn at random should not fit"),
        "no negatives for v": (without_negatives_for_the_centre, "v meets the random words too"),
        "dloss forgotten": (lambda v, u, n, dloss: pairs(v, u, n, 1.0), "dcentre: expected"),
        "no logarithm": (no_logarithm, "loss: expected"),
        "negatives summed": (negatives_summed, "dnegatives: expected shape"),
        "dv and du exchanged": (centre_and_context_exchanged, "dcentre: expected"),
        "sign": (lambda *a: tuple(-r for r in pairs(*a)), "loss: expected"),
    },
    "5.6": {
        "u and c exchanged": (lambda u, c, *a: classifier_free_guidance(c, u, *a), "u and c are exchanged"),
        "begins at c": (lambda u, c, s, *a: classifier_free_guidance(u, c, 1 + s, *a), "begin at u"),
        "no interval": (lambda u, c, s, t, low, high: u + s * (c - u), "only within the interval"),
        "u outside": (
            lambda u, c, s, t, low, high: u + s * (c - u) if low <= t < high else u,
            "the conditional prediction, c, alone",
        ),
        "without low": (
            lambda u, c, s, t, low, high: classifier_free_guidance(u, c, s, t, low + 1, high),
            "begins with low itself",
        ),
        "with high": (
            lambda u, c, s, t, low, high: classifier_free_guidance(u, c, s, t, low, high + 1),
            "ends before high",
        ),
        "guidance scale 0 outside": (
            lambda u, c, s, t, low, high: u + s * (c - u) if low <= t < high else c,
            "guidance scale 0 is the empty prompt alone",
        ),
        "half": (lambda u, c, s, *a: classifier_free_guidance(u, c, s / 2, *a), "the prediction with guidance scale 3"),
        "in place": (guided_in_place, "changes its second argument in place"),
    },
    "5.7": {
        "dot product": (by_dot_product, "divide by both lengths"),
        "the word itself": (with_itself, "leave it out"),
        "farthest": (farthest, "the least similar word comes first"),
        "distance": (by_distance, "the angle does not"),
        "one length": (one_length, "cosines: expected"),
        "lengths of columns": (lengths_of_columns, "words: expected"),
        "of either sign": (of_either_sign, "words: expected"),
        "in the table's order": (in_the_order_of_the_table, "words: expected"),
        "counted without the word": (word_removed_first, "words: expected"),
        "one too few": (lambda v, w, k: tuple(r[:-1] for r in nearest(cosines_of(v, w), w, k)), "expected shape"),
        "words alone": (lambda v, w, k: nearest(cosines_of(v, w), w, k)[0], "expected 2 results (words, cosines)"),
        "in place": (normalised_in_place, "changes its first argument in place"),
    },
}
