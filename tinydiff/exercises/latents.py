"""Section 4: a draw that lets gradients through, how far it lies from N(0, 1), the scaling factor, and PSNR."""

from dataclasses import replace

import numpy as np

from tinydiff.exercises.checking import Answer, drawn, exercise
from tinydiff.ops import kl_loss, reparameterize

# Latents (N, H, W, C): never square, never one image; first N = 3, as a forgotten mean over 2 is a forgotten ½
SHAPES = ((3, 2, 5, 4), (2, 4, 3, 1), (5, 1, 3, 2))


@exercise("4.1", "the reparameterisation", points=2)
def reparameterised(answer: Answer) -> None:
    for seed, shape in enumerate(SHAPES):
        mean, log_variance, noise, dz = drawn(shape, shape, shape, shape, seed=seed)
        z, backward = reparameterize.forward(mean, log_variance, noise)
        dmean, dlog, _ = backward(dz)
        variance = np.exp(log_variance)
        by_variance = mean + variance * noise, dz, dz * noise * variance
        hints = {
            "e^log_variance is σ²: the standard deviation is its root, e^(½·log_variance)": by_variance,
            "the ½ in the exponent comes down as a factor": (z, dmean, 2 * dlog),
            "σ is multiplied by the noise, and so is its gradient": (z, dmean, dlog / noise),
            "dz is not used: the gradient that arrives is not all ones": (z, np.ones(shape), dlog / dz),
        }
        answer.expect(answer(mean, log_variance, noise, dz), (z, dmean, dlog), "z, dmean, dlog_variance", hints)


@exercise("4.2", "the KL divergence", points=3)
def kl_divergence(answer: Answer) -> None:
    for shape, dkl in zip(SHAPES, (0.7, -1.3, 2.1), strict=True):
        mean, log_variance = drawn(shape, shape, seed=10)
        kl, backward = kl_loss.forward(mean, log_variance)
        dmean, dlog = backward(np.float64(dkl))
        right = kl, dmean, dlog
        everywhere, summed = (tuple(r * factor for r in right) for factor in (1 / mean[0].size, len(mean)))
        hints = {
            "that is the mean over all numbers: sum over those of an image, mean over the images": everywhere,
            "that is the sum over the images: take their mean": summed,
            "that is the derivative by σ²: by ln σ² it is σ² times as large": (kl, dmean, dlog / np.exp(log_variance)),
            "dkl is not used: the gradient that arrives is not 1": (kl, dmean / dkl, dlog / dkl),
        }
        answer.expect(answer(mean, log_variance, dkl), right, "kl, dmean, dlog_variance", hints)


@exercise("4.3", "the scaling factor", points=2)
def with_scaling_factor(answer: Answer) -> None:
    for seed, (count, height, width, channels) in enumerate(SHAPES):
        shape = (count, 2 * height, 2 * width, 3)
        images, others, mix, back = drawn(shape, shape, (3, channels), (channels, 3), seed=20 + seed)
        mix *= np.linspace(1, 4, channels)  # channels differ in size
        others = 0.4 * others[1:] + 0.3  # images that the factor was not measured on

        def encode(images: np.ndarray) -> np.ndarray:  # (N, 2H, 2W, 3) → (N, H, W, C), of a mean that is not 0
            return (images[:, ::2, ::2] - 0.5 * images[:, 1::2, 1::2]) @ mix + 1.5  # noqa: B023

        def decode(latents: np.ndarray) -> np.ndarray:  # and back
            return np.tanh(0.3 * latents @ back + 0.2).repeat(2, 1).repeat(2, 2)  # noqa: B023

        came = answer(encode, decode, images)
        if not (isinstance(came, (tuple, list)) and len(came) == 2 and all(callable(f) for f in came)):
            raise answer.wrong(f"expected two functions, (encode, decode); {came!r:.60} came")
        encoded, decoded = (
            Answer(replace(answer.exercise, name=f"the function {name} that you return"), function)
            for name, function in zip(("encode", "decode"), came, strict=True)
        )
        raw, new = encode(images), encode(others)
        factor = 1 / raw.std()
        anew = "measured anew on each batch: the scaling factor is one number, measured once, on the training images"
        each = "one number for everything, not one for each channel"
        hints = {anew: new / new.std(), each: new / raw.std((0, 1, 2))}
        answer.expect(encoded(others), new * factor, "the latents of images it was not measured on", hints)
        answer.expect(encoded(images), raw * factor, "the latents of the training images")
        latents = 1.2 * new[::-1]
        hints = {
            "you multiply once more: decode has to undo what encode does": decode(latents * factor),
            "it is the latents that are divided, before the decoder, not the images": decode(latents) / factor,
        }
        answer.expect(decoded(latents), decode(latents / factor), "decoded images", hints)


@exercise("4.4", "PSNR", points=1)
def peak_signal_to_noise(answer: Answer) -> None:
    for shape in ((3, 5, 7, 3), (2, 4, 6, 1), (4, 3, 2, 3)):
        rng = np.random.default_rng(30)
        images = rng.integers(0, 256, shape, np.uint8)
        size = 5 * 2.5 ** np.arange(len(images))[:, None, None, None]  # of the error: each image has its own
        others = np.clip(images + size * rng.standard_normal(shape), 0, 255).astype(np.uint8)
        wrapped, squares = images - others, (images.astype(float) - others) ** 2
        in_uint8 = _decibels(wrapped.astype(float) ** 2)
        hints = {
            "uint8 knows nothing below 0, 3 − 5 is 254: make floats of the images before you subtract": in_uint8,
            "uint8 ends at 255 and begins again at 0: make floats of the images first": _decibels(wrapped * wrapped),
            "one mean over all images, not the mean of each image's PSNR": np.mean([_decibels(s) for s in squares]),
            "the peak is squared as the error is": _decibels(squares, 255),
        }
        answer.expect(answer(images, others), _decibels(squares), "PSNR", hints)
    with np.errstate(all="ignore"):
        answer.expect(answer(images, images), np.inf, "PSNR of equal images")


def _decibels(squares: np.ndarray, peak: float = 255**2) -> float:
    """10·log₁₀(peak/mean) of squared errors; `evaluation.metrics.psnr`, which stands beside this in the layers."""
    return float(10 * np.log10(peak / np.mean(squares)))
