"""Section 3: the schedule, noise in closed form, the time embedding, what is predicted, and steps of three samplers."""

from collections.abc import Iterable

import numpy as np

from tinydiff.diffusion import samplers
from tinydiff.diffusion.iadb import deblend
from tinydiff.diffusion.prediction import add_noise, to_x0_and_noise
from tinydiff.diffusion.schedule import BETA_MAX
from tinydiff.exercises.checking import Answer, drawn, exercise
from tinydiff.nn.blocks import timestep_embedding

# Images (N, H, W, C): never square, never one; in the first N = C, so that ᾱ along the wrong axis gives a number
SHAPES = ((3, 4, 5, 3), (2, 5, 3, 1), (4, 2, 3, 2))
# ᾱ here and at the next, cleaner step of the list; the last step ends at the image, ᾱ = 1
STEPS = ((0.3, 0.6), (0.02, 0.85), (0.9, 1.0))


@exercise("3.1", "the cosine schedule", points=2)
def cosine_alpha_bar(answer: Answer) -> None:
    for steps in (10, 37, 1000):
        unclipped = _unclipped(steps)
        expected = np.cumprod(1 - _betas(unclipped))
        hints = {
            "β is not clipped: the last one is 1 and leaves nothing of the image, hold it at 0.999": unclipped[1:],
            "the small 0.008 is missing": np.cumprod(1 - _betas(_unclipped(steps, offset=0))),
            "the cosine is squared": np.cumprod(1 - _betas(_unclipped(steps, power=1))),
            "the first number is ᾱ after one step, f(1)/f(0), and the last one f(T)/f(0)": unclipped[:-1],
            "ᾱ is the product of all factors 1 − β up to there: that is the factor of one step": 1 - _betas(unclipped),
            "those are the β: ᾱ is the running product of 1 − β": _betas(unclipped),
        }
        # to 1e-9 of the largest: what clipping changes is the last and smallest number
        answer.expect(answer(steps), expected, f"ᾱ of {steps} steps", hints, tolerance=1e-9)


def _unclipped(steps: int, offset: float = 0.008, power: int = 2) -> np.ndarray:
    """f(t)/f(0) for t = 0 … T: (T + 1,)."""
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** power
    return f / f[0]


def _betas(alpha_bar: np.ndarray) -> np.ndarray:
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], BETA_MAX)


@exercise("3.2", "noise in closed form", points=1)
def noised(answer: Answer) -> None:
    for seed, shape in enumerate(SHAPES):
        x0, noise = drawn(shape, shape, seed=seed)
        alpha_bar = np.random.default_rng(seed).uniform(0.1, 0.9, len(x0))
        a = alpha_bar[:, None, None, None]
        without_roots = a * x0 + (1 - a) * noise
        hints = {
            "ᾱ and 1 − ᾱ are shares of the variance: the numbers are multiplied by their roots": without_roots,
            "the root of 1 − ᾱ, not 1 minus the root of ᾱ": np.sqrt(a) * x0 + (1 - np.sqrt(a)) * noise,
            "ᾱ says how much of the image is left, 1 − ᾱ how much is noise": add_noise(noise, x0, alpha_bar),
            "one ᾱ for all: each image has its own": add_noise(x0, noise, float(alpha_bar[0])),
        }
        if shape[0] == shape[3]:
            along = np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * noise
            hints["ᾱ belongs to the images, the first axis; here it went along the channels"] = along
        answer.expect(answer(x0, noise, alpha_bar), add_noise(x0, noise, alpha_bar), "x_t", hints)


@exercise("3.3", "the time embedding", points=2)
def sinusoidal_embedding(answer: Answer) -> None:
    for t, width in ((np.array([0.0, 1, 7, 250, 999]), 8), (np.array([3.0, 500]), 6), (np.array([12.0, 40, 999]), 2)):
        half = width // 2
        expected = timestep_embedding(t, width)
        cosines, sines = expected[:, :half], expected[:, half:]
        k, even = np.arange(half), np.linspace(1, 1e-4, half)
        hints = {
            "the cosines come first": np.concatenate([sines, cosines], 1),
            "first all cosines, then all sines, not by turns": np.stack([cosines, sines], 2).reshape(len(t), width),
            "the exponent is k over half the width: there are width/2 frequencies": _waves(t, 10_000 ** (-k / width)),
            "the exponent is negative: the first frequency is 1, later ones are lower": _waves(t, 10_000 ** (k / half)),
            "the frequencies fall by a constant factor, not by a constant difference": _waves(t, even),
        }
        answer.expect(answer(t, width), expected, f"the embedding of width {width}", hints)


def _waves(t: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    angles = t[:, None] * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], 1)


@exercise("3.4", "ε, x0 and v", points=2)
def read_prediction(answer: Answer) -> None:
    for seed, (shape, a) in enumerate(zip(SHAPES, (0.7, 0.2, 0.45), strict=True)):
        prediction, x_t = drawn(shape, shape, seed=10 + seed)
        signal, sigma = np.sqrt(a), np.sqrt(1 - a)
        for prediction_type in ("epsilon", "sample", "v_prediction"):
            x0, noise = to_x0_and_noise(prediction, x_t, a, prediction_type)
            hints = {"the image is returned first, then the noise": (noise, x0)}
            if prediction_type == "epsilon":
                hints["ᾱ is a share of the variance: divide by its root"] = x0 / signal, noise
                hints["solve x_t = √ᾱ·x0 + √(1 − ᾱ)·ε for x0: the division by √ᾱ is missing"] = x0 * signal, noise
            if prediction_type == "v_prediction":
                turned = signal * x_t + sigma * prediction, signal * prediction - sigma * x_t
                hints["turned the wrong way: −√(1 − ᾱ) belongs to x0"] = turned
                without_roots = a * x_t - (1 - a) * prediction, a * prediction + (1 - a) * x_t
                hints["ᾱ is a share of the variance: take roots"] = without_roots
            came = answer(prediction, x_t, a, prediction_type)
            answer.expect(came, (x0, noise), f"x0 from {prediction_type}, ε from {prediction_type}", hints)


@exercise("3.5", "the posterior", points=3)
def posterior(answer: Answer) -> None:
    for seed, (shape, (a, p)) in enumerate(zip(SHAPES, STEPS, strict=True)):
        x0, x_a = drawn(shape, shape, seed=20 + seed)
        mean, deviation = samplers.ddpm_step(_state(x_a, x0, np.zeros_like(x_a), a, p))  # which draws from it
        variance = deviation**2
        beta = 1 - a / p
        near, far = np.sqrt(p) * beta / (1 - a), np.sqrt(a / p) * (1 - p) / (1 - a)  # weights of x0 and x_a
        hints = {
            "that is the noise which the step from p to a adds, not what is left to guess about x_p": (mean, beta),
            "variance was asked for: that is its root": (mean, deviation),
            "the weights of x0 and x_a are swapped": (near * x_a + far * x0, variance),
            "the division by 1 − a is missing": (mean * (1 - a), variance * (1 - a)),
            "that is the mean alone of x_p given x0: x_a says something as well": (np.sqrt(p) * x0, variance),
        }
        answer.expect(answer(x0, x_a, a, p), (mean, variance), "mean, variance", hints)


def _state(x: np.ndarray, x0: np.ndarray, noise: np.ndarray, a: float, p: float) -> samplers.State:
    """What a step of the library sees."""
    return samplers.State(x, x0, noise, a, p, lambda x: (x0, noise))


@exercise("3.6", "a step of DDIM", points=2)
def ddim_step(answer: Answer) -> None:
    for seed, (shape, (a, p)) in enumerate(zip(SHAPES, STEPS, strict=True)):
        x_a, noise = drawn(shape, shape, seed=30 + seed)
        x0, _ = to_x0_and_noise(noise, x_a, a, "epsilon")
        hints = {
            "that leads nowhere: mixed again at the level a, x_a comes out; go to p": x_a,
            "that is the image itself: mix it with the noise again, for the level p": x0,
            "the noise is missing: √p·x̂0 alone is too clean for the level p": np.sqrt(p) * x0,
            "p and 1 − p are shares of the variance: take roots": p * x0 + (1 - p) * noise,
            "that is a step to more noise, from p to a": np.sqrt(a / p) * x_a + np.sqrt(1 - a / p) * noise,
            "x̂0 takes a division by √a": np.sqrt(p) * np.sqrt(a) * x0 + np.sqrt(1 - p) * noise,
        }
        answer.expect(answer(x_a, noise, a, p), samplers.ddim_step(_state(x_a, x0, noise, a, p))[0], "x_p", hints)


@exercise("3.7", "a step of DDPM", points=2)
def ddpm_step(answer: Answer) -> None:
    for seed, (shape, (a, p)) in enumerate(zip(SHAPES, STEPS, strict=True)):
        x_a, noise, fresh = drawn(shape, shape, shape, seed=40 + seed)
        x0, _ = to_x0_and_noise(noise, x_a, a, "epsilon")
        mean, deviation = samplers.ddpm_step(_state(x_a, x0, noise, a, p))
        jump = "1 − a/p is the variance that the way from p to a adds; here it is the posterior's"
        hints = {
            "the fresh noise is multiplied by the deviation, the root of the variance": mean + deviation**2 * fresh,
            "that is the mean: the fresh noise is missing": mean,
            jump: mean + np.sqrt(1 - a / p) * fresh,
            "that is DDIM's step: x̂0 and the noise that was predicted": np.sqrt(p) * x0 + np.sqrt(1 - p) * noise,
            "that is x̂0 with fresh noise: what x_a is would be forgotten": np.sqrt(p) * x0 + np.sqrt(1 - p) * fresh,
        }
        what = f"x_p from ᾱ = {a} to {p}"
        answer.expect(answer(x_a, noise, a, p, fresh), mean + deviation * fresh, what, hints)


@exercise("3.8", "IADB's sampling loop", points=2)
def iadb_samples(answer: Answer) -> None:
    for seed, (shape, steps) in enumerate((((4, 2), 5), ((3, 2, 5, 3), 3), ((2, 3), 1))):
        (x0,) = drawn(shape, seed=50 + seed)
        alphas, size = [i / steps for i in range(steps)], 1 / steps
        hints = {
            "the network is asked anew at each step, where x is by then": x0 + _network(x0, 0.0),
            "α is taken where the step begins: from 0 to (steps − 1)/steps": _steps(
                x0, [a + size for a in alphas], size
            ),
            "α stays 0: the network is conditioned on how far it has come": _steps(x0, [0.0] * steps, size),
            "α is a share between 0 and 1, not the number of the step": _steps(x0, range(steps), size),
            "each of the steps goes 1/steps of the way": _steps(x0, alphas, 1.0),
            "α goes from noise, 0, to data, 1": _steps(x0, [1 - a for a in alphas], size),
            "one step is missing": _steps(x0, alphas[:-1], size),
        }
        answer.expect(answer(_network, x0, steps), deblend(_network, x0, steps), f"x after {steps} steps", hints)


def _network(x: np.ndarray, alpha: float) -> np.ndarray:
    """A network's place is taken by some function of x (N, …) and α."""
    return np.tanh(x - 2 * x[..., ::-1]) * (1.5 - alpha) + np.cos(3 * alpha)


def _steps(x: np.ndarray, alphas: Iterable[float], size: float) -> np.ndarray:
    for alpha in alphas:
        x = x + size * _network(x, alpha)
    return x
