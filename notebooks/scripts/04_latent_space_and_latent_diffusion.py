# %% [markdown]
# # Latent space and latent diffusion
#
# A picture of 32×32 pixels has 3,072 numbers, and most pictures of 3,072 numbers are noise. What makes a picture a
# garment fits in far fewer. An *autoencoder* learns that short form, the **latent**, and diffusion then works on latents
# instead of pixels. This notebook measures what that saves, what it loses, and what goes wrong if one factor is forgotten.
#
# - **Goals.** After this you can say what an autoencoder keeps and what it drops, compare it with simpler ways to shrink
#   pictures, derive its loss, say how much faster latent diffusion is and why not 48 times, and explain the latent scale.
# - **Know first.** Notebooks 01 and 03: convolution; noise levels ᾱ and sampling.
# - **Time.** Half a minute on two cores.
# - **Reads.** [models/autoencoder.py](../tinydiff/models/autoencoder.py), [ops/loss.py](../tinydiff/ops/loss.py),
#   [inspection.py](../tinydiff/inspection.py), [bench/spaces.py](../tinydiff/bench/spaces.py)
# - **Exercises.** [exercises/04](exercises/04_latent_space_and_latent_diffusion.ipynb)

# %%
import inspect
from functools import partial

import numpy as np
from IPython.display import Code

import tinydiff
from tinydiff import Tensor, datasets, gradcheck, ops, viz
from tinydiff.metrics import psnr
from tinydiff.pipelines import as_pixels
from tinydiff.training.parts import as_floats
from tinydiff.viz.latents import channels, noised, sizes, walk

viz.style()
pipe = tinydiff.load()
autoencoder = pipe.autoencoder
train = datasets.captioned_fashion("train", data=datasets.shipped_fashion())
test = datasets.captioned_fashion("test", data=datasets.shipped_fashion())
images = test.images[:200]  # uint8 (200, 32, 32, 3), none of which the autoencoder has seen
x = as_floats(images)  # the same in [−1, 1]

# %% [markdown]
# ## What an autoencoder does
#
# > … auto-encoders [are used] to transform images from pixels to a set of features encoded in a tensor (n-dimensional
# > vector) and then back from the tensor to the best approximation of the initial image. — the article

# %%
z = autoencoder.encode(x)  # (200, 8, 8, 4)
rebuilt = as_pixels(autoencoder.decode(z))  # uint8 (200, 32, 32, 3)
decibels = psnr(images, rebuilt)
print(f"{x[0].size:,} numbers → {z[0].size} → {x[0].size:,}: {decibels:.1f} dB on pictures that it has never seen")
assert z.shape == (200, 8, 8, 4) and x[0].size == 12 * z[0].size and 27 < decibels < 30
viz.grid(np.concatenate([images[:10], rebuilt[:10]]), columns=10, scale=2)

# %% [markdown]
# Above the pictures, below what came back. **Holds**: shape and colour return; fine texture does not. "Best" has to be
# said more exactly: best on average over the training pictures, by the error that the training was given.
#
# PSNR, the peak signal-to-noise ratio, is 10·log₁₀(255²/mean squared error) in decibels; 20 dB is an error of 25 in 255,
# 30 dB one of 8. Both halves are stacks of convolutions. Each halving of the size is a stride of 2, each doubling a
# nearest-neighbour upsampling and a convolution:

# %%
tinydiff.summary(autoencoder.encoder, x[:1], depth=2)

# %%
channels(z[6], images[6] / 255)

# %% [markdown]
# The four channels are no colours, but they are still *places*: the garment's outline can be seen in each. That is why
# a convolutional U-Net can work on them.
#
# ## Is it better than simpler ways to shrink?
#
# 256 numbers can be had in other ways. Make the picture smaller. Or project it on the 256 directions in which pictures
# differ most (principal components, PCA): the best that *linear* encoding and decoding can do.

# %%
from PIL import Image


def smaller(image: np.ndarray, side: int) -> np.ndarray:
    """Shrunk to side×side by averaging, and enlarged again."""
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((32, 32), Image.Resampling.BICUBIC))


sides = (4, 6, 9, 16, 24)
by_size = [psnr(images, np.stack([smaller(image, side) for image in images])) for side in sides]

flat = as_floats(train.images[:1500]).reshape(1500, -1).astype(np.float64)  # a picture a row
mean = flat.mean(0)
_, _, directions = np.linalg.svd(flat - mean, full_matrices=False)  # rows: the directions, most important first
numbers = (16, 64, 256, 512, 1024)
coordinates = (x.reshape(200, -1) - mean) @ directions.T
by_pca = [psnr(images, as_pixels((mean + coordinates[:, :k] @ directions[:k]).reshape(x.shape))) for k in numbers]
sizes(
    {
        "made smaller": ([3 * side**2 for side in sides], by_size),
        "principal components": (numbers, by_pca),
        "the autoencoder": ([256], [decibels]),
    },
    "What is left of pictures that were not learnt from",
)

# %%
print(
    f"256 numbers: smaller picture (9×9×3 = 243) {by_size[2]:.1f} dB, components {by_pca[2]:.1f}, autoencoder {decibels:.1f}"
)
assert decibels > by_pca[2] + 2.5 and by_pca[2] > by_size[2] + 4
components = as_pixels((mean + coordinates[:8, :256] @ directions[:256]).reshape(8, 32, 32, 3))
rows = [images[:8], np.stack([smaller(image, 9) for image in images[:8]]), components, rebuilt[:8]]
viz.grid(np.concatenate(rows), columns=8, scale=2)

# %% [markdown]
# From above: the pictures, 9×9 pixels, 256 components, the autoencoder. With as many numbers the autoencoder is some 4 dB
# better than the best linear method: 40 % of its squared error. It bends where garments bend.
#
# ## How it is trained
#
# Two wishes. The picture should come back: mean |y − x| + mean (y − x)². And latents should lie close together without
# holes, so that what diffusion draws there decodes to something: each latent is a small cloud, a normal distribution with
# a mean μ and a variance σ² that the encoder gives, and the cloud should not be far from N(0, 1). How far is the
# Kullback–Leibler divergence. For one number:
#
# $$\mathrm{KL} = \int q \ln\frac{q}{p} = \mathbb{E}_q\left[-\tfrac12 \ln \sigma^2 - \frac{(z-\mu)^2}{2\sigma^2} + \frac{z^2}{2}\right] = \tfrac12\left(\mu^2 + \sigma^2 - 1 - \ln \sigma^2\right)$$
#
# since $\mathbb{E}[(z-\mu)^2] = \sigma^2$ and $\mathbb{E}[z^2] = \mu^2 + \sigma^2$. Its gradients are μ, and ½(σ² − 1) by ln σ². The decoder must
# see a *draw* z from the cloud, and a draw has no gradient; written as z = μ + σ·ε, with ε drawn beforehand, it has
# (the *reparameterisation*). Both are checked below: the formula against a million draws, the gradients against
# differences.

# %%
rng = np.random.default_rng(0)
mu, log_variance = 0.7, -0.8
draws = mu + np.exp(log_variance / 2) * rng.standard_normal(1_000_000)
log_q = -0.5 * (np.log(2 * np.pi) + log_variance + (draws - mu) ** 2 / np.exp(log_variance))
log_p = -0.5 * (np.log(2 * np.pi) + draws**2)
formula = 0.5 * (mu**2 + np.exp(log_variance) - 1 - log_variance)
print(f"formula {formula:.4f}, a million draws {np.mean(log_q - log_p):.4f}")
assert abs(np.mean(log_q - log_p) - formula) < 0.003

a, b, noise = rng.standard_normal((3, 2, 5))
errors = gradcheck.op_errors(ops.kl_loss, a, b) + gradcheck.op_errors(ops.sample_gaussian, a, b, noise)
print("gradients against differences:", *(f"{error:.0e}" for error in errors))
assert max(errors) < 1e-6
Code(inspect.getsource(ops.sample_gaussian.forward), language="python")

# %% [markdown]
# In the training the KL term has a weight of only 10⁻⁶, as in Stable Diffusion. The clouds stay tiny:

# %%
moments, log_variances = autoencoder.moments(Tensor(x))
spread, cloud = moments.data.std(), np.exp(log_variances.data / 2).mean()
print(f"standard deviation of the means {spread:.2f}, of a cloud {cloud:.3f}")
assert cloud < 0.1 < spread

# %% [markdown]
# So this is a plain autoencoder in all but name, with a little noise in the latents. It is enough to keep neighbours
# together; it does not make latents normally distributed. That is diffusion's work.
#
# ## Walks
#
# Between two pictures, a straight line in the latent space (above) and in the pixels (below):

# %%
from tinydiff.datasets import GARMENTS

coat, dress = (int(np.flatnonzero(test.garment[:200] == GARMENTS.index(name))[1]) for name in ("coat", "dress"))
through_latents = as_pixels(autoencoder.decode(walk(z[coat], z[dress], 8)))
through_pixels = as_pixels(walk(x[coat], x[dress], 8))
viz.grid(np.concatenate([through_latents, through_pixels]), columns=8, scale=3)

# %% [markdown]
# The lower row is a double exposure. The upper one is nearly one as well: with 8×8 places the latent keeps positions, so
# a line in it mixes what lies at each place. Latents of *pictures* are islands, and the line between two of them leaves
# the land. Random latents, which have the right mean and variance at every place but no order, are far out at sea:

# %%
at_random = z.mean(0) + z.std(0) * rng.standard_normal((8, 8, 8, 4)).astype(np.float32)
drawn = pipe.generate(["a purple bag on a sky background"] * 8, seed=1)
viz.grid(np.concatenate([as_pixels(autoencoder.decode(at_random)), drawn]), columns=8, scale=2)

# %% [markdown]
# Above, random latents, decoded. Below, latents that diffusion has led to the land, decoded by the same decoder. An
# autoencoder alone cannot draw; that is what it needs diffusion for.
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
# **Does not hold.** Latent numbers are any real numbers, and ten times smaller steps change the picture ten times less:
# the space is continuous, and gradients flow through it. There are autoencoders whose latents come from a finite codebook
# (VQ-VAE), and the paper on latent diffusion tries both kinds; Stable Diffusion uses this one.
#
# ## Is it 48 times faster?
#
# > … we will need 512×512×3 space to represent it …, but when using an autoencoder the space is equal to 64×64×4 which is
# > 48 times decrease in space, thus a 48 times boost in performance. — the article
#
# The first half is arithmetic:

# %%
assert 512 * 512 * 3 / (64 * 64 * 4) == 48 and 32 * 32 * 3 / (8 * 8 * 4) == 12
print("512×512×3 / 64×64×4 =", 512 * 512 * 3 / (64 * 64 * 4), "   here: 32×32×3 / 8×8×4 =", 32 * 32 * 3 / (8 * 8 * 4))

# %% [markdown]
# The second half is measured: the multiply-adds of *the same U-Net* on 8×8 and on 32×32 places, and those of the U-Net
# that tinydiff ships for pixels.

# %%
from tinydiff.inspection import multiply_adds
from tinydiff.weights import shipped

unet, words, t = pipe.denoiser.unet, pipe.words(["a red dress"]), np.zeros(1)
pixels = tinydiff.load(shipped() / "pixels")


def cost(network, size: int, channels: int) -> int:
    """Multiply-adds of one question about one picture."""
    return multiply_adds(network, Tensor(np.zeros((1, size, size, channels), np.float32)), t, Tensor(words))


small, large, own = cost(unet, 8, 4), cost(unet, 32, 4), cost(pixels.denoiser.unet, 32, 3)
decoding = multiply_adds(autoencoder.decoder, Tensor(z[:1]))
print(
    f"this U-Net on 8×8: {small / 1e6:.0f} million; on 32×32: {large / 1e6:.0f} million, {large / small:.1f} times as many"
)
print(f"the U-Net for pixels: {own / 1e6:.0f} million, {own / small:.1f} times as many")
print(f"the decoder, once for each picture: {decoding / 1e6:.0f} million")
assert 16 < large / small < 18 and 3 < own / small < 4 and decoding < 2 * small

# %% [markdown]
# A convolution costs positions × kernel × channels in × channels out. The *positions* are 16 times fewer, and so the same
# network costs 16 times less; that there are 4 channels instead of 3 hardly matters, since inside the network there are 64
# and more anyway. Self-attention compares each position with each other, which would be 256 times less, but it has a small
# part here. In Stable Diffusion positions are 64 times fewer.
#
# But nobody would use the same network for both. Where positions are few, wide layers are cheap, and width is what draws
# well; the U-Net for pixels is narrower, and costs 3.5 times as much. Seconds, for 16 pictures:

# %%
import time


def seconds(model) -> float:
    """Of 16 pictures in 10 steps; the best of two."""
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
# **Holds for the space; does not hold for the speed:** the gain is real, and it is that of the positions at most. What
# counts is the quality for a given time of training. From the README (`python -m tinydiff.bench.spaces`): after training
# for about as long, the latent model draws 96.8 % of the garments right and the pixel model 24 %.
#
# > Although U-Net needs a low amount of sample data to learn, it still needs a considerable amount of time … — the article
#
# **Holds for segmentation** (notebook 02: one picture was enough). A diffusion model needs much of both: tinydiff's saw
# 576,000 pictures, made of 60,000 garments.
#
# ## Diffusion in the latent space
#
# > So the U-Net is not trained on images, but rather on latent representations of them, and latent noise is introduced to
# > those images … — the article
#
# **Holds.** Everything of notebook 03 happens, with z in the place of x. Here noise is added to a latent; its channels,
# and what the decoder makes of them:

# %%
levels = [float(pipe.schedule.alpha_bar[t]) for t in range(0, 1000, 111)]
noise = rng.standard_normal(z[6].shape).astype(np.float32)
viz.stepper(
    partial(noised, autoencoder, z[6], noise, levels), len(levels), label="level", shown=[0, 3, 5, 9], columns=1
)

# %% [markdown]
# In pixels noise is grain. In latents it is blotches of colour and garment, since each latent number stands for a patch
# of the picture. At the last level nothing is left, and there generation begins.
#
# ## The latent scale
#
# The schedule was made for data of variance 1: at the level ᾱ the signal has the variance ᾱ and the noise 1 − ᾱ. So
# latents are multiplied by 1/standard deviation, one number for all, measured once after the autoencoder's training.
# Stable Diffusion's is 0.18215. Ours:

# %%
raw = z / autoencoder.latent_scale
print(f"latent scale {autoencoder.latent_scale:.4f}; standard deviation {raw.std():.3f} without, {z.std():.3f} with it")
assert abs(z.std() - 1) < 0.05 and abs(raw.std() * autoencoder.latent_scale - z.std()) < 1e-4

# %% [markdown]
# What goes wrong without it? The signal-to-noise ratio at each level is no longer what the schedule says: it is larger by
# the variance. For Stable Diffusion's latents (standard deviation 5.5) that is a factor of 30: at a level that should be
# half noise there is hardly any, and the last level is not noise alone, although generation begins with noise alone. For
# ours it is a factor of 2. What a *user* meets is a wrong scale at the decoder:

# %%
wrong = {}
for factor in (0.5, 1.0, 2.0):
    pipe.autoencoder.latent_scale *= factor
    wrong[factor] = pipe.generate(["a red dress on a white background", "a blue bag on a sky background"] * 2, seed=3)
    pipe.autoencoder.latent_scale /= factor
print("rows: scale too small by half, right, too large by twice")
viz.grid(np.concatenate(list(wrong.values())), columns=4, scale=3)

# %% [markdown]
# A factor of two at the decoder, and colours burn or fade and outlines break. No error is raised: the arrays have the
# right shapes. That is why tinydiff keeps the scale in the autoencoder's file, next to its weights.

# %%
off = [psnr(wrong[1.0], wrong[factor]) for factor in (0.5, 2.0)]
print(f"PSNR to the right pictures: {off[0]:.1f} dB at half, {off[1]:.1f} dB at twice the scale")
assert max(off) < 22

# %% [markdown]
# ## What to take away
#
# - An autoencoder is a learnt, non-linear compression: 12 times fewer numbers at 28 dB, 4 dB better than the best linear
#   one.
# - It cannot draw by itself: only a small part of the latent space decodes to pictures, and diffusion finds it.
# - Latents are continuous. The KL term keeps them close together; in latent diffusion it is very weak.
# - The speed comes from fewer *positions*: 16 times for the same network here, 64 in Stable Diffusion, not 48.
# - The latent scale gives the schedule data of variance 1. It is a part of the model.
#
# ## Questions
#
# 1. Why not take a latent of 1×1×256? It has as many numbers.
#
# <details><summary>Answer</summary>
# It would have no positions. Convolutions, the U-Net's levels and cross-attention work on places; the network would have to
# learn anew what every picture has: that near things belong together.
# </details>
#
# 2. The autoencoder returns pictures at 28 dB. Can the diffusion model's pictures be sharper than that?
#
# <details><summary>Answer</summary>
# No. Whatever the latent, the decoder draws it, and it has learnt to draw no finer texture. The autoencoder's own
# reconstructions are the limit, which is why the README gives their Fréchet distance beside that of drawn pictures.
# </details>
#
# 3. What would happen to a network that was trained with the latent scale, and used without it, at the encoder of
#    image-to-image?
#
# <details><summary>Answer</summary>
# The picture's latent would be too large (here by 1.4, in Stable Diffusion by 5.5). With noise of the right size added,
# it looks less noisy than the timestep says; the network takes too little away, and contrast comes out wrong.
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
