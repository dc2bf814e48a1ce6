# %% [markdown]
# # Latent space and latent diffusion
#
# An image of 32×32 pixels has 3,072 numbers, and most images of 3,072 numbers are noise. What makes an image a garment
# fits in far fewer. An *autoencoder* learns that short form, the **latent**, and diffusion then works on latents
# instead of pixels. This notebook measures what that saves, what it loses, and what goes wrong if one factor is
# forgotten.
#
# - **Goals.** After this you can say what an autoencoder keeps and what it drops, compare it with simpler ways to shrink
#   images, derive its loss, say how much faster latent diffusion is and why not 48 times, and explain the scaling factor.
# - **Know first.** Notebooks 01 and 03: convolution; noise levels ᾱ and sampling.
# - **Time.** Half a minute on two cores.
# - **Reads.** [models/autoencoder.py](../tinydiff/models/autoencoder.py), [ops/loss.py](../tinydiff/ops/loss.py),
#   [apps/summary.py](../tinydiff/apps/summary.py), [results/latent_vs_pixel.py](results/latent_vs_pixel.py)
# - **Exercises.** [exercises/04](exercises/04_latent_space_and_latent_diffusion.ipynb)

# %%
import inspect
from dataclasses import replace
from functools import partial

import numpy as np
from IPython.display import Code

import tinydiff
from tinydiff import Tensor, datasets, gradcheck, ops, viz
from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.diffusion import Options, add_noise, to_x0_and_noise
from tinydiff.evaluation.metrics import psnr
from tinydiff.viz.latents import channels, denoising_step, noised, signal_to_noise, sizes, walk

viz.style()
pipe = tinydiff.load()
autoencoder = pipe.autoencoder
train = datasets.captioned_fashion("train", data=datasets.shipped_fashion())
test = datasets.captioned_fashion("test", data=datasets.shipped_fashion())
images = test.images[:200]  # uint8 (200, 32, 32, 3), none of which the autoencoder has seen
x = as_floats(images)  # the same in [−1, 1]


def show(*things):
    """The source of functions of the library."""
    return Code("\n\n".join(inspect.getsource(thing) for thing in things), language="python")


# %% [markdown]
# ## What an autoencoder does
#
# > … it uses a special type of neural network, named auto-encoders to transform images from pixels to a set of features
# > encoded in a tensor (n-dimensional vector) and then back from the tensor to the best approximation of the initial
# > image. — the article

# %%
z = autoencoder.encode(x)  # (200, 8, 8, 4)
reconstructed = as_pixels(autoencoder.decode(z))  # uint8 (200, 32, 32, 3)
decibels = psnr(images, reconstructed)
print(f"{x[0].size:,} numbers → {z[0].size} → {x[0].size:,}: {decibels:.1f} dB on images that it has never seen")
assert z.shape == (200, 8, 8, 4) and x[0].size == 12 * z[0].size and 27 < decibels < 30
viz.grid(np.concatenate([images[:10], reconstructed[:10]]), columns=10, scale=2)

# %% [markdown]
# Above the images, below what came back. **Holds, with a correction:** shape and colour return; fine texture does not.
# And "best" means: best on average over the training images, by the error that the training was given.
#
# PSNR, the peak signal-to-noise ratio, is 10·log₁₀(255²/mean squared error) in decibels; 20 dB is an error of 25 in
# 255, 30 dB one of 8. Both halves are stacks of convolutions. In the encoder each halving of the size is a stride of 2:

# %%
tinydiff.summary(autoencoder.encoder, x[:1], depth=2)

# %% [markdown]
# Its last layer gives 8 channels: a mean and a log-variance for each of the 4 of the latent (below is why). The decoder
# is the mirror image. Each doubling is a nearest-neighbour upsampling and a convolution:

# %%
tinydiff.summary(autoencoder.decoder, z[:1], depth=1)

# %%
channels(z[6], images[6] / 255)

# %% [markdown]
# The colours go from −3 (blue) over 0 (white) to 3 (red). The four channels are no colours of the image, but they are
# still *places*: each row and column of the latent belongs to 4×4 pixels. Change one of the 256 numbers, and the image
# changes there:

# %%
moves = np.linspace(-3, 3, 9, dtype=np.float32)
moved = np.repeat(z[6][None], 2 * 9, 0).reshape(2, 9, 8, 8, 4)
moved[0, :, 4, 4, 0] += moves  # row 4, column 4, channel 0
moved[1, :, 3, 3, 1] += moves
decoded = autoencoder.decode(moved.reshape(-1, 8, 8, 4))
change = ((decoded[8] - decoded[4]) ** 2).sum(-1)  # (32, 32): what adding 3 to channel 0 at row 4, column 4 does
nearby = change[12:24, 12:24].sum() / change.sum()  # its own 4×4 pixels and those of its neighbours
print(f"{100 * nearby:.0f} % of the squared change lies in 12×12 of the 32×32 pixels")
assert nearby > 0.75
viz.grid(as_pixels(decoded), columns=9, scale=3)

# %% [markdown]
# From left to right, one number of the latent is changed by −3 to +3: above in row 4, column 4 of channel 0, below in
# row 3, column 3 of channel 1. A latent is still a small image, and that is why a convolutional U-Net can work on it.
#
# ## Is it better than simpler ways to shrink?
#
# 256 numbers can be had in other ways. Make the image smaller. Or project it on the 256 directions in which images
# differ most (principal components, PCA): of all ways to encode and decode that are *linear*, the one with the least
# squared error on the images that it was fitted to, here 5,000. The directions are the eigenvectors of the covariance.

# %%
from PIL import Image


def smaller(image: np.ndarray, side: int) -> np.ndarray:
    """Shrunk to side×side by averaging, and enlarged again."""
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((32, 32), Image.Resampling.BICUBIC))


sides = (4, 6, 9, 16, 24)
by_size = [psnr(images, np.stack([smaller(image, side) for image in images])) for side in sides]

flat = as_floats(train.images[:5000]).reshape(5000, -1)  # an image a row
mean = flat.mean(0)
_, eigenvectors = np.linalg.eigh((flat - mean).T @ (flat - mean))  # in ascending order, a column each
directions = eigenvectors[:, ::-1].T  # rows: the directions, most important first
numbers = (16, 64, 256, 512, 1024)
coordinates = (x.reshape(200, -1) - mean) @ directions.T
by_pca = [psnr(images, as_pixels((mean + coordinates[:, :k] @ directions[:k]).reshape(x.shape))) for k in numbers]
sizes(
    {
        "made smaller": ([3 * side**2 for side in sides], by_size),
        "principal components": (numbers, by_pca),
        "the autoencoder": ([256], [decibels]),
    },
    "What is left of images that were not learnt from",
)

# %%
print(f"smaller image, 9×9×3 = 243 numbers: {by_size[2]:.1f} dB")
print(f"256 components: {by_pca[2]:.1f} dB; the autoencoder's 256 numbers: {decibels:.1f} dB")
assert 2.3 < decibels - by_pca[2] < 4.3 and by_pca[2] > by_size[2] + 4
components = as_pixels((mean + coordinates[:8, :256] @ directions[:256]).reshape(8, 32, 32, 3))
rows = [images[:8], np.stack([smaller(image, 9) for image in images[:8]]), components, reconstructed[:8]]
viz.grid(np.concatenate(rows), columns=8, scale=2)

# %% [markdown]
# From above: the images, 9×9 pixels, 256 components, the autoencoder. With as many numbers the autoencoder is some 3 dB
# better than the linear method: about half the squared error. To be fair, it has also seen more images, all 60,000
# garments in ever new colours. And it is no free lunch: with twice the numbers the components come close to it.
#
# ## How it is trained
#
# Two wishes. The image should come back: mean |y − x| + mean (y − x)². And latents should lie close together without
# holes, so that what diffusion generates there decodes to something: each latent is a small cloud, a normal
# distribution with a mean μ and a variance σ² that the encoder gives, and the cloud should not be far from N(0, 1). How
# far is the Kullback–Leibler divergence. For one number:
#
# $$\mathrm{KL} = \int q \ln\frac{q}{p} = \mathbb{E}_q\left[-\tfrac12 \ln \sigma^2 - \frac{(z-\mu)^2}{2\sigma^2} + \frac{z^2}{2}\right] = \tfrac12\left(\mu^2 + \sigma^2 - 1 - \ln \sigma^2\right)$$
#
# since $\mathbb{E}[(z-\mu)^2] = \sigma^2$ and $\mathbb{E}[z^2] = \mu^2 + \sigma^2$. Its gradients are μ, and ½(σ² − 1)
# by ln σ². The decoder must see a *sample* z from the cloud, and a sample has no gradient; written as z = μ + σ·ε, with
# ε drawn beforehand, it has (the *reparameterisation*): ∂z/∂μ = 1, and with σ = e^{½ ln σ²}, ∂z/∂(ln σ²) = ½·σ·ε. Both
# are in the library, and are checked below: the formula against a million samples, the gradients against differences.

# %%
show(ops.kl_loss.forward, ops.reparameterize.forward)

# %%
rng = np.random.default_rng(0)
mu, log_variance = 0.7, -0.8
samples = mu + np.exp(log_variance / 2) * rng.standard_normal(1_000_000)
log_q = -0.5 * (np.log(2 * np.pi) + log_variance + (samples - mu) ** 2 / np.exp(log_variance))
log_p = -0.5 * (np.log(2 * np.pi) + samples**2)
formula = float(ops.kl_loss.forward(np.array([[mu]]), np.array([[log_variance]]))[0])
print(f"kl_loss {formula:.4f}, a million samples {np.mean(log_q - log_p):.4f}")
assert abs(np.mean(log_q - log_p) - formula) < 0.003

a, b, noise = rng.standard_normal((3, 2, 5))
errors = gradcheck.op_errors(ops.kl_loss, a, b) + gradcheck.op_errors(ops.reparameterize, a, b, noise)
print("gradients against differences:", *(f"{error:.0e}" for error in errors))
assert max(errors) < 1e-6

# %% [markdown]
# In the training the KL term has a weight of only 10⁻⁶, the number of the paper on latent diffusion (there the error is
# summed over the pixels, so that it weighs even less). The clouds stay tiny:

# %%
from tinydiff.training.presets import PRESETS

means, log_variances = autoencoder.moments(Tensor(x))
spread, cloud = means.data.std(), np.exp(log_variances.data / 2).mean()
kl = float(ops.kl_loss.forward(means.data, log_variances.data)[0])
difference = autoencoder.decode(z) - x
error = float(np.abs(difference).mean() + (difference**2).mean())
print(f"standard deviation of the means {spread:.2f}, of a cloud {cloud:.3f}")
print(f"loss: error of the images {error:.4f} + 10⁻⁶ · KL of {kl:,.0f} = {error:.4f} + {kl * 1e-6:.4f}")
assert PRESETS["full"].kl_weight == 1e-6 and cloud < 0.1 < spread and kl * 1e-6 < 0.1 * error

# %% [markdown]
# So this is a plain autoencoder in all but name, with a little noise in the latents. It is enough to keep neighbours
# together; it does not make latents normally distributed. That is diffusion's work.
#
# ## Between two images
#
# Interpolation: from one image to another on a straight line in the latent space (above) and in the pixels (below):

# %%
from tinydiff.datasets import GARMENTS

coat, dress = (int(np.flatnonzero(test.garment[:200] == GARMENTS.index(name))[1]) for name in ("coat", "dress"))
through_latents = as_pixels(autoencoder.decode(walk(z[coat], z[dress], 8)))
through_pixels = as_pixels(walk(x[coat], x[dress], 8))
viz.grid(np.concatenate([through_latents, through_pixels]), columns=8, scale=2)

# %% [markdown]
# The lower row is a double exposure. The upper one is nearly one as well: with 8×8 places the latent keeps positions,
# so a line in it mixes what lies at each place. Latents of *images* are islands, and the line between two of them
# leaves the land. Random latents, which have the right mean and variance at every place but no order, are far out at
# sea:

# %%
at_random = z.mean(0) + z.std(0) * rng.standard_normal((8, 8, 8, 4)).astype(np.float32)
generated = pipe.generate(["a purple bag on a sky background"] * 8, seed=1)
viz.grid(np.concatenate([as_pixels(autoencoder.decode(at_random)), generated]), columns=8, scale=2)

# %% [markdown]
# Above, random latents, decoded. Below, latents that diffusion has led to the land, decoded by the same decoder. An
# autoencoder alone cannot generate; that is what it needs diffusion for.
#
# ## Is it discretized?
#
# > A latent space is a discretized method of representing information … — the article
#
# If it were, a latent could take only certain values, and a small step would change nothing or jump.

# %%
distinct = len(np.unique(z)) / z.size
direction = rng.standard_normal(z[0].shape).astype(np.float32)
lengths = np.array([0, 0.001, 0.01, 0.1, 1], np.float32)
moved = autoencoder.decode(z[6] + lengths[:, None, None, None] * direction)
change = [float(np.abs(m - moved[0]).mean()) for m in moved[1:]]
print(f"{100 * distinct:.1f} % of {z.size:,} latent numbers occur once")
for length, c in zip(lengths[1:], change, strict=True):
    print(f"a step of {length:5g} changes pixels by {c:.5f}")
assert distinct > 0.95 and all(6 < after / before < 14 for before, after in zip(change[:2], change[1:3], strict=True))

# %% [markdown]
# **Does not hold.** Latent numbers are any real numbers, and ten times smaller steps change the image ten times less:
# the space is continuous, and gradients flow through it. (The image with one number moved, above, shows the same.)
#
# There are autoencoders with a discrete latent space: in a VQ-VAE each place holds one vector of a finite *codebook*.
# To see what that means, take 256 vectors that represent those of 500 images (k-means), and put the nearest one in each
# place of a latent:

# %%
from scipy.cluster.vq import kmeans2, vq

places = autoencoder.encode(as_floats(train.images[:500])).reshape(-1, 4)  # (500·64, 4)
start = rng.choice(np.unique(places, axis=0), 256, replace=False)
codebook, _ = kmeans2(places, start, iter=10, minit="matrix")
codes, _ = vq(z.reshape(-1, 4), codebook)  # (200·64,): a whole number for each place
discrete = codebook[codes].astype(np.float32).reshape(z.shape)
from_codes = as_pixels(autoencoder.decode(discrete))
print(f"{len(np.unique(discrete.reshape(-1, 4), axis=0))} vectors in {len(codes):,} places;", end=" ")
print(f"{psnr(images, from_codes):.1f} dB, without the codebook {decibels:.1f} dB")
assert len(np.unique(codes)) <= 256 and 3 < decibels - psnr(images, from_codes) < 8
viz.grid(np.concatenate([images[:10], reconstructed[:10], from_codes[:10]]), columns=10, scale=2)

# %% [markdown]
# From above: the images, the autoencoder, the same with 256 vectors. *This* space is discrete: a latent is 64 whole
# numbers from 0 to 255, 64 bytes, and no step is smaller than from one vector to another. (A real VQ-VAE learns its
# codebook together with both networks, and is better.) The paper on latent diffusion tries both kinds; Stable Diffusion
# has the continuous one.
#
# ## Is it 48 times faster?
#
# > … we will need 512×512×3 space to represent it, and the model would need to analyze all of it, but when using an
# > autoencoder the space is equal to 64×64×4 which is 48 times decrease in space, thus a 48 times boost in performance.
# > — the article
#
# The first half is arithmetic:

# %%
assert 512 * 512 * 3 / (64 * 64 * 4) == 48 and 32 * 32 * 3 / (8 * 8 * 4) == 12
print("512×512×3 / 64×64×4 =", 512 * 512 * 3 / (64 * 64 * 4), "   here: 32×32×3 / 8×8×4 =", 32 * 32 * 3 / (8 * 8 * 4))

# %% [markdown]
# The second half is measured: the multiply-adds of *the same U-Net* on 8×8 and on 32×32 places, and those of the U-Net
# that tinydiff ships for pixels.

# %%
from tinydiff.apps.summary import multiply_adds
from tinydiff.weights import shipped_weights

unet, text, t = pipe.denoiser.unet, pipe.encode_prompt(["a red dress"]), np.zeros(1)
pixels = tinydiff.load(shipped_weights() / "pixels")


def cost(network, size: int, channels: int) -> int:
    """Multiply-adds of one question about one image."""
    return multiply_adds(network, Tensor(np.zeros((1, size, size, channels), np.float32)), t, Tensor(text))


small, large, own = cost(unet, 8, 4), cost(unet, 32, 4), cost(pixels.denoiser.unet, 32, 3)
decoding = multiply_adds(autoencoder.decoder, Tensor(z[:1]))
print(f"this U-Net on 8×8: {small / 1e6:.0f} million; on 32×32: {large / 1e6:,.0f} million,", end=" ")
print(f"{large / small:.1f} times as many")
print(f"the U-Net for pixels: {own / 1e6:.0f} million, {own / small:.1f} times as many")
print(f"the decoder, once for each image: {decoding / 1e6:.0f} million")
assert 16 < large / small < 18 and 3 < own / small < 4 and decoding < 2 * small

# %% [markdown]
# Why? A convolution costs positions × kernel × channels in × channels out, and its *positions* are 16 times fewer; that
# there are 4 channels instead of 3 hardly matters, since inside the network there are 64 and more anyway.
# Self-attention compares each position with each other: 16² = 256 times fewer pairs.

# %%
from tinydiff.nn.blocks import Attention
from tinydiff.nn.layers import Conv2d

convolution, attention = Conv2d(rng, 64, 64), Attention(rng, 64, heads=4)
convolved, compared = [], []
for side in (8, 32):
    image = np.zeros((1, side, side, 64), np.float32)
    convolved.append(multiply_adds(convolution, Tensor(image)))
    projections = 4 * side**2 * 64**2  # queries, keys, values and the output: a cost of each position alone
    compared.append(multiply_adds(attention, Tensor(image.reshape(1, side**2, 64))) - projections)
print(f"3×3 convolution: {convolved[0]:,} → {convolved[1]:,}, {convolved[1] / convolved[0]:.0f} times")
print(f"attention's products: {compared[0]:,} → {compared[1]:,}, {compared[1] / compared[0]:.0f} times")
assert convolved[1] == 16 * convolved[0] and compared[1] == 256 * compared[0]

# %% [markdown]
# This U-Net has little attention, hence 16.4. In Stable Diffusion there are 64 times fewer positions, and so the same
# network would cost more than 64 times less.
#
# But nobody would use the same network for both. Where positions are few, wide layers are cheap, and width is what
# generates well; the U-Net for pixels is narrower, and costs 3.5 times as much. Seconds, for 16 images:

# %%
import time


def seconds(model) -> float:
    """Of 16 images in 10 steps; the best of two."""
    model.generate(["a red dress"] * 16, steps=1)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        model.generate(["a red dress"] * 16, steps=10)
        times.append(time.perf_counter() - start)
    return min(times)


in_latents, in_pixels = seconds(pipe), seconds(pixels)
print(f"latents {in_latents:.2f} s, pixels {in_pixels:.2f} s: {in_pixels / in_latents:.1f} times")

# %% [markdown]
# A longer measurement ([results](results/latent-vs-pixel.md), `python notebooks/results/latent_vs_pixel.py`): 0.94 s
# against 3.35 s for 16 images in 25 steps, 3.6 times.
#
# **Holds for the space; does not hold for the speed.** The gain is real, but the numbers of an image are not what
# costs: the same network gains by its positions (16 times here, where the space is 12 times smaller), and networks that
# are each made for their space gain less (some 3 times). What counts is the quality for a given time of training. From
# the same page: after training for about as long, the latent model generates 96.3 % of the garments right and the
# pixel model 24 %.
#
# > Although U-Net needs a low amount of sample data to learn, it still needs a considerable amount of time to learn from
# > and process new data, to improve those times, the diffusion is moved from a pixel space to a latent space.
# > — the article

# %%
from tinydiff import checkpoint

training = checkpoint.load(shipped_weights() / "denoiser.safetensors")[1]["training"]
optim = PRESETS[training["preset"]].denoiser_optim
print(f"the shipped denoiser: {training['seconds']} s of training on {optim.steps * optim.batch:,} images")
assert "60,000 images" in training["data"] and optim.steps * optim.batch > 500_000

# %% [markdown]
# **Holds, with a correction:** the time and the reason for latents are right. The low amount of data is that of
# *segmentation* (notebook 02: one image was enough). A diffusion model needs much of both: tinydiff's saw more than
# half a million images, made of 60,000 garments.
#
# ## Diffusion in the latent space
#
# > So the U-Net is not trained on images, but rather on latent representations of them, and latent noise is introduced to
# > those images and, consequently, latent noise is used to generate new latent representations of images, that are, then,
# > converted to pixel space and human comprehendible images. — the article
#
# **Holds.** Everything of notebook 03 happens, with z in the place of x. "Latent noise" is ordinary normal noise, of
# the latent's shape. Here it is added to a latent; the channels, and what the decoder makes of them:

# %%
assert pipe.denoiser.unet.config.in_channels == 4 and pipe.latent_shape == z[0].shape  # no image can go in
levels = [float(pipe.schedule.alpha_bar[t]) for t in range(0, 1000, 111)]
noise = rng.standard_normal(z[6].shape).astype(np.float32)
viz.stepper(partial(noised, autoencoder, z[6], noise, levels), len(levels), label="level", shown=[0, 4, 9], columns=1)

# %% [markdown]
# In pixels noise is grain. In latents it is blotches of colour and garment, since each latent number stands for a patch
# of the image. At the last level nothing is left, and there generation begins. The way back, from noise to a new
# latent, with what the decoder would make of it at each step; x̂0 is the latent that the network expects at the end:

# %%
seen: list[tuple[np.ndarray, np.ndarray]] = []
beginning = np.random.default_rng(4).standard_normal((1, *pipe.latent_shape), np.float32)
text = pipe.encode_prompt(["a green dress on a white background"])
keep = Options(callback=lambda done, x, x0: seen.append((x[0], x0[0])))
pipe.sample(text, beginning, 25, rng, guidance_scale=3.0, options=keep)
viz.stepper(partial(denoising_step, autoencoder, seen), len(seen), label="step", shown=[0, 12, 24], columns=1)

# %% [markdown]
# The decoder is needed once, at the end: on the way nobody looks. (An image of x̂0 on the way is what programs show as
# a preview.)
#
# ## The scaling factor
#
# The schedule was made for data of variance 1: at the level ᾱ the signal has the variance ᾱ and the noise 1 − ᾱ. So
# latents are multiplied by 1/standard deviation, one number for all, the *scaling factor*, measured once after the
# autoencoder's training. Stable Diffusion's is 0.18215. Ours:

# %%
scaling_factor = autoencoder.config.scaling_factor
raw = z / scaling_factor
print(f"scaling factor {scaling_factor:.4f}; deviation {raw.std():.3f} without, {z.std():.3f} with it")
assert abs(z.std() - 1) < 0.05 and abs(raw.std() * scaling_factor - z.std()) < 1e-4

# %% [markdown]
# What goes wrong without it? The signal-to-noise ratio at each level, (variance of the data)·ᾱ/(1 − ᾱ), is no longer
# what the schedule says. For ours it is 2 times too large; for Stable Diffusion's latents, whose standard deviation is
# 5.5, 30 times:

# %%
import warnings

from tinydiff.diffusion import make_schedule

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    stable = make_schedule("scaled_linear").alpha_bar  # Stable Diffusion's
print(str(said[0].message).replace(": ", ":\n    "))
unscaled, unscaled_stable = float(raw.var()), 1 / 0.18215**2
print(f"variance without the factor: ours {unscaled:.1f}, Stable Diffusion's {unscaled_stable:.1f}")
assert 1.5 < unscaled < 2.5 and 29 < unscaled_stable < 31
ours, ratio = (a / (1 - a) for a in (pipe.schedule.alpha_bar, stable))
for name, factor in (("with", 1), ("without", unscaled_stable)):
    clean, last = np.mean(factor * ratio > 10), np.sqrt(factor * ratio[-1])
    print(
        f"Stable Diffusion {name} the factor: signal 10 times the noise or more at {100 * clean:.0f} % of the levels,"
    )
    print(f"    and at the last level a signal of {last:.2f} of the noise's size")
assert np.mean(ratio > 10) < 0.1 < 0.5 < clean and last > 1 / 3
assert 0.05 < np.mean(unscaled * ours > 1) - np.mean(ours > 1) < 0.15
signal_to_noise(
    {
        "tinydiff (cosine)": (pipe.schedule.alpha_bar, {"with the factor": 1, "without": unscaled}),
        "Stable Diffusion (scaled linear)": (stable, {"with the factor": 1, "without": unscaled_stable}),
    }
)

# %% [markdown]
# Without its factor Stable Diffusion would spend half of its levels on latents that are nearly clean, and learn little
# there. And the last level would still hold a signal of more than a third of the noise's size, although generation
# begins with noise alone. (Even with the factor a little is left, hence the library's warning.) Ours shifts by a tenth
# of the levels: less good, no catastrophe.
#
# Worse is a factor that *changes* between training and use. First at the encoder: give the trained network latents that
# are too large, with the noise that belongs to the level, and look at the latent that it expects.

# %%
level, text = float(pipe.schedule.alpha_bar[500]), pipe.encode_prompt(test.captions[:40])
noise = rng.standard_normal(z[:40].shape).astype(np.float32)
expected = {}
for factor in (1.0, 1 / scaling_factor, 5.5):  # right; the factor forgotten; the same in Stable Diffusion
    x_t = add_noise(np.float32(factor) * z[:40], noise, level)
    x0, _ = to_x0_and_noise(pipe.predict(x_t, 500, text), x_t, level, pipe.prediction_type)
    expected[factor] = x0.std() / (factor * z[:40].std())
    print(f"latents {factor:.2f} times as large: x̂0 has {100 * expected[factor]:3.0f} % of their standard deviation")
right, forgotten, large = expected.values()
assert right > 0.9 > 0.85 > forgotten > 0.55 > large

# %% [markdown]
# The network pulls what it sees to the size that it knows. Then at the decoder, where a latent is generated well and
# decoded wrongly: with Stable Diffusion's factor, with the right one, with none (1), with four times the right one.

# %%
right_config, by_factor = autoencoder.config, {}
for factor in (0.18215, scaling_factor, 1.0, 4 * scaling_factor):
    autoencoder.config = replace(right_config, scaling_factor=factor)
    by_factor[factor] = pipe.generate(
        ["a red dress on a white background", "a blue bag on a sky background"] * 2, seed=3
    )
autoencoder.config = right_config
off = {f: psnr(by_factor[scaling_factor], other) for f, other in by_factor.items() if f != scaling_factor}
for factor, difference in off.items():
    print(f"PSNR to the right images at a factor of {factor:.2f}: {difference:.1f} dB")
assert max(off.values()) < 22 and off[4 * scaling_factor] < 15
captions = [f"factor {factor:.2f}" for factor in by_factor for _ in range(4)]
viz.grid(np.concatenate(list(by_factor.values())), captions, columns=4, scale=2)

# %% [markdown]
# Colours burn or fade, white turns blue, and at last outlines break. No error is raised: the arrays have the right
# shapes. That is why tinydiff keeps the factor in the autoencoder's file, next to its weights, and applies it inside
# `encode` and `decode`:

# %%
show(type(autoencoder).encode, type(autoencoder).decode)

# %% [markdown]
# ## What to take away
#
# - An autoencoder is a learnt, non-linear compression: 12 times fewer numbers at 28 dB, 3 dB better than a linear one.
# - It cannot generate by itself: only a small part of the latent space decodes to images, and diffusion finds it.
# - Latents are continuous. The KL term keeps them close together; in latent diffusion it is very weak.
# - The speed comes from fewer *positions*: 16 times for the same network here, over 64 in Stable Diffusion, not 48; and
#   networks made for each space differ by less.
# - The scaling factor gives the schedule data of variance 1. It is a part of the model.
#
# ## Questions
#
# 1. Why not take a latent of 1×1×256? It has as many numbers.
#
# <details><summary>Answer</summary>
# It would have no positions. Convolutions, the U-Net's levels and cross-attention work on places; the network would
# have to learn anew what every image has: that near things belong together.
# </details>
#
# 2. The autoencoder returns images at 28 dB. Can the diffusion model's images be sharper than that?
#
# <details><summary>Answer</summary>
# No. Whatever the latent, the decoder makes the pixels, and it has learnt to make no finer texture. The autoencoder's
# own reconstructions are the limit, which is why the [results](results/weights-and-evaluation.md) give their
# Fréchet distance beside that of generated images.
# </details>
#
# 3. What would happen to a network that was trained with the scaling factor, and used without it, at the encoder of
#    image-to-image?
#
# <details><summary>Answer</summary>
# The image's latent would be too large (here by 1.4, in Stable Diffusion by 5.5). With noise of the right size added,
# it looks less noisy than the timestep says, and larger than anything in training. The network pulls it towards the
# size that it knows (measured above): contrast is lost. Here that hardly shows; at 5.5 colours go.
# </details>
#
# ## Sources
#
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*,
#   [arXiv:2112.10752](https://arxiv.org/abs/2112.10752)
# - Kingma & Welling 2013, *Auto-Encoding Variational Bayes*, [arXiv:1312.6114](https://arxiv.org/abs/1312.6114)
# - van den Oord et al. 2017, *Neural Discrete Representation Learning* (VQ-VAE),
#   [arXiv:1711.00937](https://arxiv.org/abs/1711.00937)
# - The article *Introduction into Diffusion & Latent Diffusion Models*
