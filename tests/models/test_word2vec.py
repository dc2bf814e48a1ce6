"""Word2Vec: its gradient, the distributions that it draws from, and what its vectors learn."""

import numpy as np
import pytest

from tinydiff.autograd import Tensor
from tinydiff.errors import InputError
from tinydiff.gradcheck import op_errors
from tinydiff.models import word2vec
from tinydiff.models.word2vec import Word2Vec, skip_gram_loss


def small_input(seed=0, n=3, k=4, d=5):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in [(n, d), (n, d), (n, k, d)]]


def test_loss_is_the_formula():
    v, u, negatives = small_input()
    expected = 0.0
    for i in range(len(v)):
        expected -= np.log(1 / (1 + np.exp(-v[i] @ u[i])))
        for w in negatives[i]:
            expected -= np.log(1 / (1 + np.exp(v[i] @ w)))
    assert skip_gram_loss.forward(v, u, negatives)[0] == pytest.approx(expected / len(v), rel=1e-12)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (2, 1, 3)])
def test_gradient_against_central_differences(shape):
    assert max(op_errors(skip_gram_loss, *small_input(1, *shape))) <= 1e-6


def test_it_stands_on_the_tape_and_keeps_float32():
    tensors = [Tensor(x.astype(np.float32), requires_grad=True) for x in small_input()]
    loss = skip_gram_loss(*tensors)
    loss.backward()
    assert loss.dtype == np.float32
    assert all(t.grad.dtype == np.float32 and t.grad.shape == t.shape for t in tensors)


def test_large_scores_do_not_overflow():
    v = np.full((1, 1), 1e3, np.float32)
    with np.errstate(over="raise", invalid="raise"):
        loss, backward = skip_gram_loss.forward(v, -v, v[:, None])
        assert loss == pytest.approx(2e6)
        assert np.isfinite(np.concatenate([g.ravel() for g in backward(np.float32(1))])).all()


def test_negatives_follow_the_three_quarter_power_and_skip_the_target():
    counts = np.array([0, 100, 10, 0, 1, 50, 0])
    shares = counts**0.75 / (counts**0.75).sum()
    for target in [1, 2, 4, 5]:
        drawn = word2vec._negatives(shares, np.full(40_000, target), 5, np.random.default_rng(target))
        expected = counts**0.75
        expected[target] = 0
        share = np.bincount(drawn.ravel(), minlength=len(counts)) / drawn.size
        np.testing.assert_allclose(share, expected / expected.sum(), atol=0.005)
        assert share[[0, 3, 6, target]].sum() == 0


def test_the_window_shrinks_uniformly_and_never_reaches_padding():
    sentences = np.tile(np.array([1, 2, 3, 4, 5, 0, 0]), (20_000, 1))
    pairs = word2vec._pairs(sentences, 3, np.random.default_rng(0))
    assert pairs.min() == 1 and (pairs[:, 0] != pairs[:, 1]).all()
    distance = pairs[:, 1] - pairs[:, 0]  # the words are numbered by their place
    for d, chance in [(1, 1), (2, 2 / 3), (3, 1 / 3)]:  # a neighbour at distance d is seen by a reach of d or more
        for sign in (1, -1):
            assert np.count_nonzero(distance == sign * d) / (20_000 * (5 - d)) == pytest.approx(chance, abs=0.01)
    assert abs(distance).max() == 3


def test_subsampling_keeps_words_with_the_papers_probability_and_closes_up():
    counts, threshold = np.array([0, 90_000, 10_000]), 0.05
    sentences = np.tile(np.array([1, 0, 2]), (20_000, 1))
    kept = word2vec._subsample(sentences, counts, threshold, np.random.default_rng(0))
    for word, frequency in [(1, 0.9), (2, 0.1)]:
        chance = (np.sqrt(frequency / threshold) + 1) * threshold / frequency
        assert np.count_nonzero(kept == word) / 20_000 == pytest.approx(min(1, chance), abs=0.01)
    assert ((kept == 0)[:, :-1] <= (kept == 0)[:, 1:]).all()  # padding only at the end


def test_one_step_is_the_sum_of_a_words_gradients_over_the_root_of_their_number():
    table, gradients = np.zeros((4, 2), np.float32), np.arange(8, dtype=np.float32).reshape(4, 2)
    word2vec._step(table, np.array([2, 1, 2, 2]), gradients, 0.5)
    expected = np.zeros((4, 2))
    expected[1] = -0.5 * gradients[1]
    expected[2] = -0.5 * (gradients[0] + gradients[2] + gradients[3]) / np.sqrt(3)
    np.testing.assert_allclose(table, expected, rtol=1e-6)


def corpus(rng, sentences=1500):
    """Ids: 1-4 and 5-8 are two classes of interchangeable words, 9 and 10 stand before them, 11 in every sentence."""
    first, second = rng.integers(1, 5, sentences), rng.integers(5, 9, sentences)
    columns = [np.full(sentences, 9), first, np.full(sentences, 11), np.full(sentences, 10), second]
    return np.stack([*columns, np.zeros(sentences, int)], axis=1)


@pytest.fixture(scope="module")
def trained():
    return Word2Vec.train(corpus(np.random.default_rng(0)), 13, 16, np.random.default_rng(1), epochs=6, window=2)


def test_interchangeable_words_end_up_together(trained):
    for group in [{1, 2, 3, 4}, {5, 6, 7, 8}]:
        for word in group:
            assert {i for i, _ in trained.nearest(word, 3)} == group - {word}


def test_training_lowers_the_loss_and_leaves_unseen_words_where_they_were(trained):
    assert len(trained.losses) == 6 and trained.losses[-1] < trained.losses[0] < 6 * np.log(2)
    assert trained.vectors.shape == (13, 16) and trained.vectors.dtype == np.float32
    start = (np.random.default_rng(1).random((13, 16), np.float32) - 0.5) / 16
    np.testing.assert_array_equal(trained.vectors[[0, 12]], start[[0, 12]])


def test_the_same_seed_gives_the_same_bits_and_another_does_not(trained):
    sentences = corpus(np.random.default_rng(0))
    settings = dict(epochs=6, window=2)
    again = Word2Vec.train(sentences, 13, 16, np.random.default_rng(1), **settings)
    assert again.vectors.tobytes() == trained.vectors.tobytes()
    other = Word2Vec.train(sentences, 13, 16, np.random.default_rng(2), **settings)
    assert other.vectors.tobytes() != trained.vectors.tobytes()


def test_the_learning_rate_falls_linearly_to_its_ten_thousandth(monkeypatch):
    rates = []
    monkeypatch.setattr(word2vec, "_step", lambda table, words, gradients, rate: rates.append(rate))
    # two words a sentence and a window of 1: 2 pairs a sentence, always; 4 batches an epoch
    Word2Vec.train(np.tile([1, 2], (100, 1)), 3, 2, np.random.default_rng(0), epochs=3, window=1, batch=50)
    np.testing.assert_allclose(rates[::2], 0.025 * (1 - np.arange(12) / 12))
    assert rates[::2] == rates[1::2]


def test_callback_and_subsampling():
    seen, sentences = [], corpus(np.random.default_rng(0), 200)
    trained = Word2Vec.train(
        sentences, 12, 4, np.random.default_rng(0), callback=lambda epoch, loss: seen.append((epoch, loss))
    )
    assert seen == list(enumerate(trained.losses)) and len(seen) == 3
    # with next to no word kept there are no pairs, and nothing is learnt
    start = Word2Vec.train(sentences, 12, 4, np.random.default_rng(0), subsample=1e-12)
    assert abs(start.vectors).max() <= 0.5 / 4 < abs(trained.vectors).max()


def test_nearest_is_the_cosine_best_first_without_padding_and_itself():
    vectors = np.array([[1, 0], [2, 0], [0, 3], [1, 1], [-1, 0], [0, 0]], np.float32)
    nearest = Word2Vec(vectors).nearest(1, 9)
    assert [i for i, _ in nearest] == [3, 2, 5, 4]
    np.testing.assert_allclose([c for _, c in nearest], [np.sqrt(0.5), 0, 0, -1], atol=1e-6)


@pytest.mark.parametrize("word, k", [(-1, 1), (6, 1), (1, 0)])
def test_nearest_refuses(word, k):
    with pytest.raises(InputError, match="nearest"):
        Word2Vec(np.ones((6, 2), np.float32)).nearest(word, k)


@pytest.mark.parametrize(
    "sentences, settings, words",
    [
        ([[1, 2, 13]], {}, "1 to 13, expected 0 to 12"),
        ([[1, -2, 0]], {}, "-2 to 1"),
        ([1, 2], {}, r"\(2,\)"),
        ([[1.0, 2.0]], {}, "float64"),
        ([[1, 1, 0]], {}, "fewer than two"),
        (np.zeros((0, 4), int), {}, "fewer than two"),
        ([[1, 2]], {"epochs": 0}, "1 or more"),
        ([[1, 2]], {"negatives": 0}, "1 or more"),
    ],
)
def test_train_refuses(sentences, settings, words):
    with pytest.raises(InputError, match=words):
        Word2Vec.train(sentences, 13, 4, np.random.default_rng(0), **settings)
