"""Plausible wrong answers to section 3: name → (answer, a piece of what must be said)."""

import numpy as np

from tinydiff.diffusion.iadb import deblend
from tinydiff.diffusion.prediction import add_noise, to_x0_and_noise
from tinydiff.nn.blocks import timestep_embedding


def cosine(steps, offset=0.008, most=0.999, power=2):
    """The right answer to 3.1, with its pieces."""
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** power
    betas = np.minimum(1 - f[1:] / f[:-1], most)
    return f / f[0], betas, np.cumprod(1 - betas)


def linear_betas(steps):
    return np.cumprod(1 - np.linspace(1e-4, 0.02, steps))


def roots_missing(x0, noise, a):
    a = a[:, None, None, None]
    return a * x0 + (1 - a) * noise


def along_channels(x0, noise, a):
    if x0.shape[-1] != len(a):
        return add_noise(x0, noise, a)
    return np.sqrt(a) * x0 + np.sqrt(1 - a) * noise


def swapped_shares(x0, noise, a):
    return add_noise(noise, x0, a)


def shrinks_in_place(x0, noise, a):
    x0 *= np.sqrt(a)[:, None, None, None]
    return x0 + np.sqrt(1 - a)[:, None, None, None] * noise


def one_minus_root(x0, noise, a):
    root = np.sqrt(a)[:, None, None, None]
    return root * x0 + (1 - root) * noise


def by_turns(t, width):
    e = timestep_embedding(t, width)
    return np.stack([e[:, : width // 2], e[:, width // 2 :]], 2).reshape(len(t), width)


def waves(t, frequencies):
    angles = t[:, None] * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], 1)


def read(prediction, x_t, a, prediction_type):
    """The right answer to 3.4."""
    return to_x0_and_noise(prediction, x_t, a, prediction_type)


def only(changed, wrong):
    """Wrong for one prediction type, right for the others."""
    return lambda p, x_t, a, prediction_type: (wrong if prediction_type == changed else read)(
        p, x_t, a, prediction_type
    )


def turned_the_wrong_way(v, x_t, a, prediction_type):
    return np.sqrt(a) * x_t + np.sqrt(1 - a) * v, np.sqrt(a) * v - np.sqrt(1 - a) * x_t


def without_division(noise, x_t, a, prediction_type):
    return x_t - np.sqrt(1 - a) * noise, noise


def divided_by_alpha_bar(noise, x_t, a, prediction_type):
    return (x_t - np.sqrt(1 - a) * noise) / a, noise


def v_without_roots(v, x_t, a, prediction_type):
    return a * x_t - (1 - a) * v, (1 - a) * x_t + a * v


def solves_in_place(prediction, x_t, a, prediction_type):
    result = read(prediction, x_t.copy(), a, prediction_type)
    x_t -= prediction
    return result


def bayes(x0, x_a, a, p):
    """The right answer to 3.5."""
    beta = 1 - a / p
    mean = (beta * p**0.5 * x0 + (1 - p) * (a / p) ** 0.5 * x_a) / (1 - a)
    return mean, beta * (1 - p) / (1 - a)


def with_a_for_a_over_p(x0, x_a, a, p):
    beta = 1 - a
    return (beta * p**0.5 * x0 + (1 - p) * a**0.5 * x_a) / (1 - a), beta * (1 - p) / (1 - a)


def divides_by_zero(x0, x_a, a, p):
    image, noisy = 1 / (1 - p), (a / p) / (1 - a / p)
    variance = 1 / (image + noisy)
    return variance * (image * p**0.5 * x0 + noisy * x_a / (a / p) ** 0.5), variance


def weights_swapped(x0, x_a, a, p):
    return bayes(x_a, x0, a, p)


def x0_of(x_a, noise, a):
    return (x_a - np.sqrt(1 - a) * noise) / np.sqrt(a)


def ddim(x_a, noise, a, p):
    """The right answer to 3.6."""
    return np.sqrt(p) * x0_of(x_a, noise, a) + np.sqrt(1 - p) * noise


def ddim_without_division(x_a, noise, a, p):
    return np.sqrt(p) * (x_a - np.sqrt(1 - a) * noise) + np.sqrt(1 - p) * noise


def subtracts_in_place(x_a, noise, a, p):
    x_a -= np.sqrt(1 - a) * noise
    return np.sqrt(p) * x_a / np.sqrt(a) + np.sqrt(1 - p) * noise


def draw(x_a, noise, a, p, fresh, share=1.0):
    """The right answer to 3.7, with a share of the fresh noise."""
    mean, variance = bayes(x0_of(x_a, noise, a), x_a, a, p)
    return mean + share * variance**0.5 * fresh


def noise_added_as_variance(x_a, noise, a, p, fresh):
    mean, variance = bayes(x0_of(x_a, noise, a), x_a, a, p)
    return mean + variance * fresh


def noise_of_the_jump(x_a, noise, a, p, fresh):
    return bayes(x0_of(x_a, noise, a), x_a, a, p)[0] + np.sqrt(1 - a / p) * fresh


def x0_with_fresh_noise(x_a, noise, a, p, fresh):
    return np.sqrt(p) * x0_of(x_a, noise, a) + np.sqrt(1 - p) * fresh


def predicted_for_fresh(x_a, noise, a, p, fresh):
    return draw(x_a, noise, a, p, noise)


def draws_for_itself(x_a, noise, a, p, fresh):
    return draw(x_a, noise, a, p, np.random.default_rng().standard_normal(fresh.shape))


def stepped(direction, x, steps, alpha, size):
    for i in range(steps):
        x = x + size * direction(x, alpha(i))
    return x


def adds_in_place(direction, x, steps):
    for i in range(steps):
        x += direction(x, i / steps) / steps
    return x


def one_step_less(direction, x, steps):
    for i in range(steps - 1):
        x = x + direction(x, i / steps) / steps
    return x


WRONG = {
    "3.1": {
        "not clipped": (lambda steps: cosine(steps)[0][1:], "β is not clipped"),
        "clipped by the product": (lambda steps: cosine(steps, most=1.0)[2], "β is not clipped"),
        "without 0.008": (lambda steps: cosine(steps, offset=0)[2], "0.008 is missing"),
        "cosine, not squared": (lambda steps: cosine(steps, power=1)[2], "the cosine is squared"),
        "from step 0": (lambda steps: cosine(steps)[0][:-1], "the first number is ᾱ after one step"),
        "T + 1 numbers": (lambda steps: cosine(steps)[0], "expected shape (10,), shape (11,) came"),
        "β": (lambda steps: cosine(steps)[1], "those are the β"),
        "1 − β": (lambda steps: 1 - cosine(steps)[1], "that is the factor of one step"),
        "√ᾱ": (lambda steps: np.sqrt(cosine(steps)[2]), "ᾱ of 10 steps: expected"),
        "backwards": (lambda steps: cosine(steps)[2][::-1], "ᾱ of 10 steps: expected"),
        "linear": (linear_betas, "ᾱ of 10 steps: expected"),
        "right only for 1,000": (lambda steps: cosine(1000)[2][:steps], "ᾱ of 10 steps: expected"),
    },
    "3.2": {
        "without roots": (roots_missing, "multiplied by their roots"),
        "1 − √ᾱ": (one_minus_root, "not 1 minus the root"),
        "shares swapped": (swapped_shares, "1 − ᾱ how much is noise"),
        "one ᾱ for all": (lambda x0, noise, a: add_noise(x0, noise, float(a[0])), "each image has its own"),
        "mean ᾱ": (lambda x0, noise, a: add_noise(x0, noise, float(a.mean())), "x_t: expected"),
        "along the channels": (along_channels, "it went along the channels"),
        "ᾱ as it is": (lambda x0, noise, a: np.sqrt(a) * x0 + np.sqrt(1 - a) * noise, "along the channels"),
        "shrinks in place": (shrinks_in_place, "changes its first argument in place"),
        "image kept": (lambda x0, noise, a: x0 + np.sqrt(1 - a)[:, None, None, None] * noise, "x_t: expected"),
    },
    "3.3": {
        "sines first": (
            lambda t, width: np.roll(timestep_embedding(t, width), width // 2, 1),
            "the cosines come first",
        ),
        "by turns": (by_turns, "not by turns"),
        "k/D": (lambda t, width: waves(t, 10_000.0 ** (-np.arange(width // 2) / width)), "over half the width"),
        "rising": (lambda t, width: waves(t, 10_000.0 ** (np.arange(width // 2) / (width // 2))), "is negative"),
        "evenly spaced": (lambda t, width: waves(t, np.linspace(1, 1e-4, width // 2)), "by a constant factor"),
        "to 1/10000 itself": (
            lambda t, width: waves(t, 10_000.0 ** (-np.arange(width // 2) / max(1, width // 2 - 1))),
            "the embedding of width 8: expected",
        ),
        "2π": (lambda t, width: timestep_embedding(2 * np.pi * t, width), "the embedding of width 8: expected"),
        "transposed": (lambda t, width: timestep_embedding(t, width).T, "expected shape (5, 8)"),
        "in place": (
            lambda t, width: timestep_embedding(np.multiply(t, 2, out=t) / 2, width),
            "changes its first argument in place",
        ),
    },
    "3.4": {
        "ε first": (lambda *a: read(*a)[::-1], "the image is returned first"),
        "turned the wrong way": (only("v_prediction", turned_the_wrong_way), "turned the wrong way"),
        "v without roots": (only("v_prediction", v_without_roots), "take roots"),
        "division forgotten": (only("epsilon", without_division), "the division by √ᾱ is missing"),
        "divided by ᾱ": (only("epsilon", divided_by_alpha_bar), "divide by its root"),
        "x0 taken for ε": (only("sample", lambda p, x, a, k: read(p, x, a, "epsilon")), "x0 from sample: expected"),
        "v taken for ε": (
            only("v_prediction", lambda p, x, a, k: read(p, x, a, "epsilon")),
            "x0 from v_prediction: expected",
        ),
        "in place": (solves_in_place, "changes its second argument in place"),
        "x0 alone": (lambda *a: read(*a)[0], "expected 2 results"),
    },
    "3.5": {
        "β for the variance": (lambda x0, x, a, p: (bayes(x0, x, a, p)[0], 1 - a / p), "that is the noise which"),
        "deviation": (lambda x0, x, a, p: (bayes(x0, x, a, p)[0], bayes(x0, x, a, p)[1] ** 0.5), "that is its root"),
        "weights swapped": (weights_swapped, "mean: expected"),
        "not divided": (
            lambda x0, x, a, p: tuple((1 - a) * r for r in bayes(x0, x, a, p)),
            "the division by 1 − a is missing",
        ),
        "from the image alone": (lambda x0, x, a, p: (p**0.5 * x0, bayes(x0, x, a, p)[1]), "x_a says something"),
        "a for a/p": (with_a_for_a_over_p, "mean: expected"),
        "0/0 at p = 1": (divides_by_zero, "ZeroDivisionError"),
        "1 − p": (lambda x0, x, a, p: (bayes(x0, x, a, p)[0], 1 - p), "variance: expected"),
        "in place": (
            lambda x0, x, a, p: (bayes(x0, x.copy(), a, p)[0] + 0 * np.multiply(x, 2, out=x), bayes(x0, x, a, p)[1]),
            "changes its second argument in place",
        ),
    },
    "3.6": {
        "stays at a": (lambda x, e, a, p: ddim(x, e, a, a), "that leads nowhere"),
        "the image": (lambda x, e, a, p: x0_of(x, e, a), "mix it with the noise again"),
        "without noise": (lambda x, e, a, p: np.sqrt(p) * x0_of(x, e, a), "the noise is missing"),
        "without roots": (lambda x, e, a, p: p * x0_of(x, e, a) + (1 - p) * e, "take roots"),
        "to more noise": (lambda x, e, a, p: np.sqrt(a / p) * x + np.sqrt(1 - a / p) * e, "a step to more noise"),
        "x̂0 not divided": (ddim_without_division, "takes a division by √a"),
        "a and p swapped": (lambda x, e, a, p: ddim(x, e, p, a), "x_p: expected"),
        "in place": (subtracts_in_place, "changes its first argument in place"),
    },
    "3.7": {
        "variance for deviation": (noise_added_as_variance, "the root of the variance"),
        "the mean": (lambda *i: draw(*i, share=0.0), "the fresh noise is missing"),
        "1 − a/p": (noise_of_the_jump, "here it is the posterior's"),
        "DDIM's": (lambda x, e, a, p, fresh: ddim(x, e, a, p), "that is DDIM's step"),
        "x̂0 with fresh noise": (x0_with_fresh_noise, "would be forgotten"),
        "the predicted noise for fresh": (predicted_for_fresh, "x_p from ᾱ = 0.3 to 0.6: expected"),
        "noise of its own": (draws_for_itself, "x_p from ᾱ = 0.3 to 0.6: expected"),
        "subtracted": (lambda *i: draw(*i, share=-1.0), "x_p from ᾱ = 0.3 to 0.6: expected"),
        "in place": (
            lambda x, e, a, p, fresh: draw(x, e, a, p, np.multiply(fresh, 0.5, out=fresh)),
            "changes its 5th argument in place",
        ),
    },
    "3.8": {
        "in one step": (lambda d, x, n: x + d(x, 0.0), "asked anew at each step"),
        "α where the step ends": (
            lambda d, x, n: stepped(d, x, n, lambda i: (i + 1) / n, 1 / n),
            "where the step begins",
        ),
        "α stays 0": (lambda d, x, n: stepped(d, x, n, lambda i: 0.0, 1 / n), "α stays 0"),
        "number of the step": (lambda d, x, n: stepped(d, x, n, lambda i: i, 1 / n), "not the number of the step"),
        "whole steps": (lambda d, x, n: stepped(d, x, n, lambda i: i / n, 1.0), "1/steps of the way"),
        "from 1 to 0": (lambda d, x, n: stepped(d, x, n, lambda i: 1 - i / n, 1 / n), "α goes from noise"),
        "one step less": (one_step_less, "one step is missing"),
        "one step more": (lambda d, x, n: deblend(d, x, n + 1), "x after 5 steps: expected"),
        "towards noise": (lambda d, x, n: stepped(d, x, n, lambda i: i / n, -1 / n), "x after 5 steps: expected"),
        "in place": (adds_in_place, "changes its second argument in place"),
    },
}
