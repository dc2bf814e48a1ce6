"""Plausible wrong answers to section 4: name → (answer, a piece of what must be said)."""

import numpy as np

from tinydiff.evaluation.metrics import psnr
from tinydiff.ops import kl_loss, reparameterize


def drawn(mean, log_variance, noise, dz):
    """The right answer to 4.1."""
    z, backward = reparameterize.forward(mean, log_variance, noise)
    return z, *backward(dz)[:2]


def divergence(mean, log_variance, dkl):
    """The right answer to 4.2."""
    kl, backward = kl_loss.forward(mean, log_variance)
    return kl, *backward(np.float64(dkl))


def variance_for_deviation(mean, log_variance, noise, dz):
    variance = np.exp(log_variance)
    return mean + variance * noise, dz, dz * noise * variance


def halves_in_place(mean, log_variance, noise, dz):
    log_variance /= 2
    return mean + np.exp(log_variance) * noise, dz, dz * noise * np.exp(log_variance) / 2


def logarithm_for_deviation(mean, log_variance, noise, dz):
    return mean + log_variance * noise, dz, dz * noise


def divided_by_the_images(mean, log_variance, noise, dz):
    z, dmean, dlog_variance = drawn(mean, log_variance, noise, dz)
    return z, dmean / len(mean), dlog_variance / len(mean)


def without_noise(mean, log_variance, noise, dz):
    return mean + np.exp(log_variance / 2) * noise, dz, dz * np.exp(log_variance / 2) / 2


def half_forgotten(mean, log_variance, noise, dz):
    return mean + np.exp(log_variance / 2) * noise, dz, dz * noise * np.exp(log_variance / 2)


def ones_for_dz(mean, log_variance, noise, dz):
    return drawn(mean, log_variance, noise, np.ones_like(dz))


def its_own_noise(mean, log_variance, noise, dz):
    return drawn(mean, log_variance, np.random.default_rng(0).standard_normal(mean.shape), dz)


def mean_over_everything(mean, log_variance, dkl):
    n, each = len(mean), mean[0].size
    variance = np.exp(log_variance)
    kl = 0.5 * np.mean(mean**2 + variance - 1 - log_variance)
    return kl, dkl * mean / (n * each), dkl * (variance - 1) / (2 * n * each)


def by_the_variance(mean, log_variance, dkl):
    kl, dmean, _ = divergence(mean, log_variance, dkl)
    return kl, dmean, dkl * (1 - 1 / np.exp(log_variance)) / (2 * len(mean))


def one_per_image(mean, log_variance, dkl):
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum((1, 2, 3))
    return kl, *divergence(mean, log_variance, dkl)[1:]


def the_other_direction(mean, log_variance, dkl):
    variance = np.exp(log_variance)
    kl = 0.5 * np.sum((1 + mean**2) / variance - 1 + log_variance) / len(mean)
    return kl, *divergence(mean, log_variance, dkl)[1:]


def clamps_in_place(mean, log_variance, dkl):
    np.clip(log_variance, -1, 1, out=log_variance)
    return divergence(mean, log_variance, dkl)


def wrong_sign(mean, log_variance, dkl):
    kl, dmean, dlog_variance = divergence(mean, log_variance, dkl)
    return kl, dmean, -dlog_variance


def scaled(encoder, decoder, factor):
    """The right answer to 4.3, for this scaling factor."""
    return lambda images: encoder(images) * factor, lambda latents: decoder(latents / factor)


def on_the_images(encoder, decoder, images):
    factor = 1 / encoder(images).std()
    return lambda x: encoder(x) * factor, lambda z: decoder(z) / factor


def anew_on_each_batch(encoder, decoder, images):
    def encode(x):
        z = encoder(x)
        return z / z.std()

    return encode, scaled(encoder, decoder, 1 / encoder(images).std())[1]


def multiplied_twice(encoder, decoder, images):
    factor = 1 / encoder(images).std()
    return lambda x: encoder(x) * factor, lambda z: decoder(z * factor)


def decoded_in_place(encoder, decoder, images):
    factor = 1 / encoder(images).std()

    def decode(z):
        z /= factor
        return decoder(z)

    return lambda x: encoder(x) * factor, decode


def mean_taken_off(encoder, decoder, images):
    z = encoder(images)
    mean, deviation = z.mean(), z.std()
    return lambda x: (encoder(x) - mean) / deviation, lambda z: decoder(z * deviation + mean)


def decibels(images, others, peak=255.0):
    error = np.mean((images.astype(float) - others) ** 2)
    return 10 * np.log10(peak**2 / error) if error else np.inf


def zero_for_equal_images(images, others):
    return psnr(images, others) if (images != others).any() else 0.0


WRONG = {
    "4.1": {
        "σ² for σ": (variance_for_deviation, "the standard deviation is its root"),
        "ln σ² for σ": (logarithm_for_deviation, "z: expected"),
        "½ forgotten": (half_forgotten, "comes down as a factor"),
        "ε forgotten in the gradient": (without_noise, "and so is its gradient"),
        "ones for dz": (ones_for_dz, "dz is not used"),
        "divided by N": (divided_by_the_images, "dmean: expected"),
        "draws noise of its own": (its_own_noise, "z: expected"),
        "halves in place": (halves_in_place, "changes its second argument in place"),
        "z alone": (lambda *a: drawn(*a)[0], "expected 3 results (z, dmean, dlog_variance)"),
    },
    "4.2": {
        "mean over everything": (mean_over_everything, "sum over those of an image"),
        "sum over images": (lambda m, s, dkl: tuple(len(m) * r for r in divergence(m, s, dkl)), "take their mean"),
        "derivative by σ²": (by_the_variance, "that is the derivative by σ²"),
        "dkl forgotten": (lambda m, s, dkl: divergence(m, s, 1.0), "dkl is not used"),
        "½ forgotten": (lambda m, s, dkl: tuple(2 * r for r in divergence(m, s, dkl)), "kl: expected"),
        "a number for each image": (one_per_image, "kl: expected shape ()"),
        "from N(0, 1) to N(μ, σ²)": (the_other_direction, "kl: expected"),
        "clamps in place": (clamps_in_place, "changes its second argument in place"),
        "sign": (wrong_sign, "dlog_variance: expected"),
    },
    "4.3": {
        "multiplied again in decode": (multiplied_twice, "you multiply once more"),
        "images divided": (on_the_images, "it is the latents that are divided"),
        "anew on each batch": (anew_on_each_batch, "measured anew on each batch"),
        "a factor for each channel": (
            lambda e, d, x: scaled(e, d, 1 / e(x).std((0, 1, 2))),
            "not one for each channel",
        ),
        "the standard deviation itself": (lambda e, d, x: scaled(e, d, e(x).std()), "the latents of images"),
        "variance": (lambda e, d, x: scaled(e, d, 1 / e(x).var()), "the latents of images"),
        "root of the mean square": (lambda e, d, x: scaled(e, d, 1 / (e(x) ** 2).mean() ** 0.5), "the latents of"),
        "measured on the images": (lambda e, d, x: scaled(e, d, 1 / x.std()), "the latents of images"),
        "mean taken off": (mean_taken_off, "the latents of images"),
        "no factor": (lambda e, d, x: (e, d), "the latents of images"),
        "the factor alone": (lambda e, d, x: 1 / e(x).std(), "expected two functions"),
        "divides its input in place": (
            decoded_in_place,
            "the function decode that you return changes its first argument in place",
        ),
    },
    "4.4": {
        "difference in uint8": (lambda a, b: 10 * np.log10(255**2 / np.mean((a - b).astype(float) ** 2)), "below 0"),
        "all in uint8": (lambda a, b: 10 * np.log10(255**2 / np.mean((a - b) ** 2)), "uint8 ends at 255"),
        "mean of each image's": (
            lambda a, b: np.mean([decibels(*pair) for pair in zip(a, b, strict=True)]),
            "one mean over all images",
        ),
        "255, not squared": (lambda a, b: decibels(a, b, 255**0.5), "the peak is squared"),
        "peak 1": (lambda a, b: decibels(a, b, 1.0), "PSNR: expected"),
        "natural logarithm": (lambda a, b: decibels(a, b) * np.log(10), "PSNR: expected"),
        "20 for 10": (lambda a, b: 2 * decibels(a, b), "PSNR: expected"),
        "one of each image": (lambda a, b: np.array([decibels(*p) for p in zip(a, b, strict=True)]), "shape ()"),
        "0 for equal images": (zero_for_equal_images, "expected inf, 0 came"),
    },
}
