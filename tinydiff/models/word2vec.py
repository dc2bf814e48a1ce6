"""Word2Vec: words that stand in the same places get vectors that point the same way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinydiff.autograd import Array, Backward, op
from tinydiff.errors import InputError
from tinydiff.ops.activation import logistic

PAD = 0


@op(empty=("negatives",))
def skip_gram_loss(centre: Array, context: Array, negatives: Array) -> tuple[Array, Backward]:
    """−mean over N of [log σ(u·v) + Σᵢ log σ(−uᵢ·v)]: v (N, D), u (N, D), uᵢ (N, k, D) → a scalar.

    v is the word's vector, u that of a word near it, uᵢ those of k words drawn at random.
    (Skip-gram with negative sampling: Mikolov 2013, arXiv:1310.4546, equation 4)

    >>> round(skip_gram_loss(np.zeros((1, 4)), np.zeros((1, 4)), np.zeros((1, 5, 4))).item(), 4)  # 6·log 2
    4.1589
    """
    n = centre.dtype.type(len(centre))  # not an int, with which NumPy 1 would make float64 of float32
    # einsum sums in its own fixed order; a BLAS product's order would change with the machine and its threads.
    near = np.einsum("nd,nd->n", centre, context)  # (N,)
    random = np.einsum("nd,nkd->nk", centre, negatives)  # (N, k)
    loss = (np.logaddexp(0, -near).sum() + np.logaddexp(0, random).sum()) / n  # −log σ(s) = log(1 + e^−s)

    def backward(dy: Array) -> tuple:
        d_near = (logistic(near) - 1)[:, None] * (dy / n)  # d(−log σ(s))/ds = σ(s) − 1: (N, 1)
        d_random = logistic(random)[..., None] * (dy / n)  # (N, k, 1)
        d_centre = d_near * context + np.einsum("nk,nkd->nd", d_random[..., 0], negatives)
        return d_centre, d_near * centre, d_random * centre[:, None]

    return loss, backward


@dataclass(frozen=True)
class Word2Vec:
    """Trained word vectors: `vectors` float32 (V, D), one row a word id; `losses`: the mean loss of each epoch."""

    vectors: np.ndarray
    losses: tuple[float, ...] = ()

    @classmethod
    def train(
        cls,
        sentences: np.ndarray,
        vocabulary: int,
        width: int,
        rng: np.random.Generator,
        *,
        epochs: int = 3,
        window: int = 5,
        negatives: int = 5,
        learning_rate: float = 0.025,
        subsample: float | None = None,
        batch: int = 512,
        callback: Callable[[int, float], None] | None = None,
    ) -> "Word2Vec":
        """Learn vectors from `sentences`, word ids (S, L) where 0 is padding, all below `vocabulary`.

        width: numbers in a vector;   window: how far away a context word may stand
        negatives: words drawn at random for each pair;   batch: pairs that are computed at once
        learning_rate: at the start; it falls linearly to 1e-4 of that
        subsample: the paper's threshold s (1e-3, say), by which frequent words are skipped at random; off, as on a
            small vocabulary it would throw most words away
        callback: called as (epoch, mean loss) after each epoch
        Raises InputError on ids out of range, on fewer than two distinct words, and on settings that aren't positive.
        """
        if min(vocabulary, width, epochs, window, negatives, batch) < 1:
            raise InputError("Word2Vec: vocabulary, width, epochs, window, negatives and batch must be 1 or more")
        sentences = np.asarray(sentences)
        _check(sentences, vocabulary)
        counts = np.bincount(sentences[sentences != PAD], minlength=vocabulary)
        share = counts**0.75 / (counts**0.75).sum()  # of each word among those drawn at random
        inputs = ((rng.random((vocabulary, width), np.float32) - 0.5) / width).astype(np.float32)
        outputs = np.zeros((vocabulary, width), np.float32)
        losses = []
        for epoch in range(epochs):
            kept = sentences if subsample is None else _subsample(sentences, counts, subsample, rng)
            pairs = rng.permutation(_pairs(kept, window, rng))
            total = 0.0
            for start in range(0, len(pairs), batch):
                centre, context = pairs[start : start + batch].T  # (batch,) both
                random = _negatives(share, context, negatives, rng)  # (batch, negatives)
                loss, backward = skip_gram_loss.forward(inputs[centre], outputs[context], outputs[random])
                total += float(loss) * len(centre)
                # The paper takes one step a pair: a batch's step is their sum, so its mean is scaled by the pairs.
                d_centre, d_context, d_random = backward(np.float32(len(centre)))
                rate = learning_rate * max(1e-4, 1 - (epoch + start / len(pairs)) / epochs)
                _step(inputs, centre, d_centre, rate)
                words = np.concatenate([context, random.ravel()])  # (batch·(1 + negatives),)
                _step(outputs, words, np.concatenate([d_context, d_random.reshape(-1, width)]), rate)
            losses.append(total / max(1, len(pairs)))
            if callback is not None:
                callback(epoch, losses[-1])
        return cls(inputs, tuple(losses))

    def nearest(self, word: int, k: int) -> list[tuple[int, float]]:
        """The `k` words whose vectors make the smallest angle with `word`'s: (id, cosine), best first, padding never.

        Raises InputError if `word` is no row of the vectors or k < 1.
        """
        if not 0 <= word < len(self.vectors) or k < 1:
            raise InputError(f"nearest: word {word}, k {k}; expected a word id below {len(self.vectors)} and k ≥ 1")
        lengths = np.sqrt((self.vectors**2).sum(1))
        cosine = (self.vectors * self.vectors[word]).sum(1) / np.maximum(lengths * lengths[word], 1e-12)
        order = np.argsort(-cosine, kind="stable")
        return [(int(i), float(cosine[i])) for i in order if i not in (word, PAD)][:k]


def _check(sentences: np.ndarray, vocabulary: int) -> None:
    if sentences.ndim != 2 or sentences.dtype.kind not in "iu":
        raise InputError(f"Word2Vec: sentences are {sentences.dtype} {sentences.shape}, expected integer ids (S, L)")
    words = np.unique(sentences)
    if len(words) and not 0 <= words[0] <= words[-1] < vocabulary:
        raise InputError(f"Word2Vec: ids from {words[0]} to {words[-1]}, expected 0 to {vocabulary - 1}")
    if np.count_nonzero(words != PAD) < 2:
        raise InputError("Word2Vec: the sentences hold fewer than two distinct words: there is nothing to tell apart")


def _negatives(share: np.ndarray, target: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Words with probability ∝ `share`, one number a word, but never the target itself: (N,) → (N, k)."""
    upto = np.cumsum(share)
    gap = share[target][:, None]
    u = rng.random((len(target), k)) * (1 - gap)  # a point on the line of shares with the target's cut out
    u += gap * (u >= (upto - share)[target][:, None])
    return np.minimum(np.searchsorted(upto, u, side="right"), np.flatnonzero(share)[-1])


def _subsample(sentences: np.ndarray, counts: np.ndarray, threshold: float, rng: np.random.Generator) -> np.ndarray:
    """Keep a word of frequency f with probability (√(f/s) + 1)·s/f; the kept close up, so the window reaches on."""
    ratio = threshold * counts.sum() / np.maximum(counts, 1)  # s/f
    probability = np.sqrt(ratio) + ratio
    dropped = (rng.random(sentences.shape) >= probability[sentences]) | (sentences == PAD)
    order = np.argsort(dropped, axis=1, kind="stable")
    return np.take_along_axis(np.where(dropped, PAD, sentences), order, axis=1)


def _pairs(sentences: np.ndarray, window: int, rng: np.random.Generator) -> np.ndarray:
    """Every (centre, context) whose distance is within the centre's reach, drawn from 1..window at each position."""
    reach = rng.integers(1, window + 1, sentences.shape)
    found = [np.empty((0, 2), sentences.dtype)]
    for distance in range(1, min(window, sentences.shape[1] - 1) + 1):
        left, right = slice(None, -distance), slice(distance, None)
        for centre, context in ((left, right), (right, left)):
            pairs = np.stack([sentences[:, centre], sentences[:, context]], axis=-1)
            found.append(pairs[(pairs != PAD).all(-1) & (reach[:, centre] >= distance)])
    return np.concatenate(found)


def _step(table: np.ndarray, words: np.ndarray, gradients: np.ndarray, rate: float) -> None:
    """Move each word's row against the sum of its gradients, in place and in a fixed order.

    A word that comes m times in a batch has all m gradients taken at the same old place; their plain sum overshoots,
    so it is divided by √m, which keeps the size of a single noisy step.
    """
    order = np.argsort(words, kind="stable")
    found, starts, times = np.unique(words[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(gradients[order], starts, axis=0)
    table[found] -= np.float32(rate) * sums / np.sqrt(times, dtype=np.float32)[:, None]
