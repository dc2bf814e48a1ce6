# %% [markdown]
# # U-Net for denoising and diffusion
#
# A network that takes noise out of images can generate them. Give it pure noise, and it will find images in it that
# never existed. This notebook begins with the noise, teaches a network how much of it there is, takes it out of real
# images, and then lets go: from noise alone, in small steps, to a garment. In the plane, where the perfect network can
# be written down, it shows why the steps have to be small.
#
# - **Goals.** After this you can add noise of any level in one line and say why one line is enough; say what a noise
#   schedule is; convert between ε, x0 and v; derive a DDPM and a DDIM step; read the library's diffusion loss, training
#   loop and sampling loop; and train a diffusion model of your own with them.
# - **Know first.** Notebook 02: the U-Net. The normal distribution: sums of independent normals, conditioning.
# - **Time.** 1 minute on two cores.
# - **Reads.** [diffusion/schedule.py](../tinydiff/diffusion/schedule.py),
#   [prediction.py](../tinydiff/diffusion/prediction.py), [loss.py](../tinydiff/diffusion/loss.py),
#   [samplers.py](../tinydiff/diffusion/samplers.py), [iadb.py](../tinydiff/diffusion/iadb.py),
#   [training/loop.py](../tinydiff/training/loop.py), [nn/blocks.py](../tinydiff/nn/blocks.py),
#   [apps/denoising.py](../tinydiff/apps/denoising.py)
# - **Exercises.** [U-Net for denoising and diffusion](exercises/03_unet_for_denoising_and_diffusion.ipynb)

# %%
import inspect

import numpy as np
from IPython.display import Code
from matplotlib.figure import Figure

import tinydiff
from tinydiff import Tensor, datasets, ops, viz
from tinydiff.datasets.pixels import as_floats
from tinydiff.diffusion import (
    Options,
    add_noise,
    ddim_step,
    ddpm_step,
    diffusion_loss,
    make_schedule,
    sample,
    target,
    to_x0_and_noise,
)
from tinydiff.diffusion.iadb import blend, deblend
from tinydiff.evaluation.metrics import psnr
from tinydiff.viz.process import exact_direction, plane, reverse_process, schedules
from tinydiff.weights import shipped_weights

viz.style()
rng = np.random.default_rng(0)
pipe = tinydiff.load()  # diffusion on latents: it generates
denoiser = tinydiff.load_denoiser()  # diffusion on pixels: it takes noise out of images
pixels = denoiser.pipe
test = datasets.captioned_fashion("test", data=datasets.shipped_fashion())
images = test.images[:40]  # uint8, none of which a network has seen
x0 = as_floats(images)  # in [−1, 1]


def show(*things):
    """The source of functions of the library."""
    return Code("\n\n".join(inspect.getsource(thing) for thing in things), language="python")


# %% [markdown]
# ## Noise, little by little and all at once
#
# > … the optimal way is on a set of images, with each image having multiple copies with increasing levels of noise and the
# > noise used to create the series of images being used as the ground truth … — the article
#
# Make such a series: at each of T = 1,000 steps an image is shrunk a little and gets a little noise,
#
# $$x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \varepsilon_t, \qquad \varepsilon_t \sim N(0, 1).$$
#
# The factors are chosen so that data of variance 1 keeps it: (1 − β) + β = 1. What is $x_t$ in terms of the image
# $x_0$? Put one step into the next: the image is multiplied by $\sqrt{1 - \beta}$ each time; and the noises, which are
# independent, add up to *one* normal noise whose variance makes the sum 1. With $\bar\alpha_t = \prod_{s \le t} (1 -
# \beta_s)$:
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \varepsilon.$$
#
# One line instead of t steps. Check it: 20,000 copies of one number, step by step and at once.

# %%
linear = make_schedule("linear")
alpha_bar = linear.alpha_bar  # (1000,)
betas = 1 - alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]])
x = np.full(20_000, 1.5)
for t in range(300):
    x = np.sqrt(1 - betas[t]) * x + np.sqrt(betas[t]) * rng.standard_normal(20_000)
a = alpha_bar[299]
at_once = np.sqrt(a) * 1.5 + np.sqrt(1 - a) * rng.standard_normal(20_000)
print(f"after 300 steps: mean {x.mean():.3f}, deviation {x.std():.3f}")
print(f"at once:         mean {at_once.mean():.3f}, deviation {at_once.std():.3f}")
print(f"the formula:     mean {np.sqrt(a) * 1.5:.3f}, deviation {np.sqrt(1 - a):.3f}")
assert abs(x.mean() - at_once.mean()) < 0.03 and abs(x.std() - at_once.std()) < 0.03

# %%
levels = [0, 100, 250, 400, 550, 700, 850, 999]
cosine = make_schedule("squaredcos_cap_v2")  # diffusers' name: a squared cosine, its β capped at 0.999
noise = rng.standard_normal(x0[0].shape).astype(np.float32)
rows = [
    np.clip(add_noise(x0[6:7], noise[None], schedule.alpha_bar[[t]])[0] / 2 + 0.5, 0, 1)
    for schedule in (linear, cosine)
    for t in levels
]
viz.panels(rows, [f"{name}, {t}" for name in ("linear", "cosine") for t in levels], columns=8, size=1.6)

# %% [markdown]
# **Holds, with a correction:** the ground truth is the noise, as the article says. But no series of copies is kept:
# each time an image is met in training, *one* level and *one* noise are drawn, and the closed form makes the copy at
# once.
#
# A **schedule** says how much of the image is left at each timestep. The linear one destroys nearly everything in its
# first half; the cosine one takes its time:

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # tinydiff warns of what the text below explains
    scaled = make_schedule("scaled_linear")
schedules(linear, cosine, scaled)

# %%
shown = {"linear": linear, "cosine": cosine, "scaled_linear": scaled}
left = {name: float(schedule.alpha_bar[500]) for name, schedule in shown.items()}
print({name: round(value, 3) for name, value in left.items()})
assert left["linear"] < 0.1 < left["scaled_linear"] < left["cosine"] and abs(left["cosine"] - 0.49) < 0.02

# %% [markdown]
# The scaled linear schedule, Stable Diffusion's, never quite reaches noise alone: at its last step 0.5 % of the image's
# variance is left, which its samples, beginning at pure noise, do not have. The cosine schedule ends at nothing.
#
# ## How much noise is there? The time embedding
#
# > … to make the U-Net understand the level of noise, the position in the noise series should be encoded in a value, and
# > then embedded in a vector to make it more digestible for the network. — the article
#
# The timestep t becomes a vector of cosines and sines with wavelengths from short to very long, as a clock has a second
# hand and an hour hand: near timesteps have near vectors, and every timestep has its own.

# %%
from tinydiff.nn.blocks import ResnetBlock, timestep_embedding

vectors = timestep_embedding(np.arange(1000), 64)  # (1000, 64)
figure = viz.panels([vectors.T], ["the embedding of each timestep: cosines above, sines below"])
figure.set_size_inches(11, 3.4)
axes = figure.axes[0]
axes.axis("on")
axes.set_aspect("auto")
axes.set(xlabel="timestep t", ylabel="number")
figure

# %%
lengths = np.linalg.norm(vectors, axis=1)
near, far = (float(np.linalg.norm(vectors[500] - vectors[500 + step])) for step in (1, 100))
print(
    f"every vector has length {lengths.min():.2f}; the vector of 501 lies {near:.2f} from that of 500, of 600 {far:.2f}"
)
assert np.allclose(lengths, np.sqrt(32)) and near < 2 < far
show(ResnetBlock.forward)

# %% [markdown]
# > This embedded position is later added at each point in the U-Net where the resolution is changed … — the article
#
# **Holds, with a correction:** it is added in every residual block, whether the resolution changes there or not; the
# places where the resolution changes have none of their own. Count them:

# %%
blocks = [module for _, module in pipe.denoiser.unet.named_modules() if isinstance(module, ResnetBlock)]
conditioned = sum(hasattr(block, "time_emb_proj") and block.time_emb_proj is not None for block in blocks)
changes = sum(name.endswith(("downsamplers.0", "upsamplers.0")) for name, _ in pipe.denoiser.unet.named_modules())
print(f"{conditioned} of {len(blocks)} residual blocks are conditioned on t; the resolution changes {changes} times")
assert conditioned == len(blocks) > changes

# %% [markdown]
# Does it matter? Lie to the network. Images get noise of one level, and the network is conditioned on another:

# %%
TRUE = 300
a = float(pixels.schedule.alpha_bar[TRUE])
noisy = add_noise(x0, rng.standard_normal(x0.shape).astype(np.float32), np.full(len(x0), a))
with tinydiff.no_grad():  # conditioned on no prompt
    unconditional = pixels.denoiser.text_encoder(pixels.vocabulary.unconditional(len(x0))).data
claims = [0, 100, 200, 250, 300, 350, 400, 500, 700, 900]
errors = []
for claim in claims:
    claimed = float(pixels.schedule.alpha_bar[claim])
    guess, _ = to_x0_and_noise(pixels.predict(noisy, claim, unconditional), noisy, claimed, pixels.prediction_type)
    errors.append(float(np.mean((np.clip(guess, -1, 1) - x0) ** 2)))
figure = Figure(figsize=(8, 3.2), layout="constrained")
axes = figure.subplots()
axes.plot(claims, errors, "o-")
axes.axvline(TRUE, color="#777777", ls="--")
axes.set(
    xlabel="timestep that the network is conditioned on",
    ylabel="mean squared error",
    title="Noise of timestep 300, and lies",
)
axes.grid(alpha=0.3)
best = claims[int(np.argmin(errors))]
assert abs(best - TRUE) <= 50 and errors[1] > 2 * min(errors) and errors[-1] > 2 * min(errors)
figure

# %% [markdown]
# The truth is best. Conditioned on less noise than there is, the network leaves noise in; on more, it takes the image
# out as well.
#
# ## Noise out of real images
#
# Now use it: images with noise of standard deviation σ, in grey levels of 255. The level t is the one whose noise is as
# large, compared with the image. Once straight to x̂0, the image that the network expects; and then in small steps.
# Two measures: PSNR, how near the result is to the image that was there; and sharpness, how much a pixel differs from
# its neighbours (the mean size of the Laplacian; blurred images have little of it, and noise has much).


# %%
def sharpness(images):
    """The mean of |4·pixel − its four neighbours|."""
    p = np.asarray(images, float)
    middle = 4 * p[:, 1:-1, 1:-1]
    return float(np.abs(middle - p[:, :-2, 1:-1] - p[:, 2:, 1:-1] - p[:, 1:-1, :-2] - p[:, 1:-1, 2:]).mean())


print(f"true images: sharpness {sharpness(images):.1f}")
cleaned, near_truth, sharp = {}, {}, {}
for sigma in (50, 150, 250):
    noisy = images + sigma * rng.standard_normal(images.shape)
    cleaned[sigma, "noisy"] = np.clip(noisy, 0, 255)
    for steps, name in ((None, "one step"), (5, "5 steps"), (50, "50 steps")):
        key = sigma, name
        result = denoiser.denoise(noisy / 127.5 - 1, sigma, steps)  # float32 in [−1, 1]
        cleaned[key] = 127.5 * (result + 1)
        near_truth[key], sharp[key] = psnr(images, np.rint(cleaned[key]).astype(np.uint8)), sharpness(cleaned[key])
        print(f"σ = {sigma:3}, {name:>8}: {near_truth[key]:.1f} dB, sharpness {sharp[key]:.1f}")
for sigma in (50, 150, 250):
    assert near_truth[sigma, "one step"] > near_truth[sigma, "5 steps"] > near_truth[sigma, "50 steps"]
assert abs(sharp[50, "one step"] - sharp[50, "50 steps"]) < 2 and sharp[250, "50 steps"] > 1.2 * sharp[250, "one step"]

# %%
chosen = [1, 6, 7, 8, 11, 13]
names = ("noisy", "one step", "5 steps", "50 steps")
rows = [images[chosen], *(np.rint(cleaned[250, name][chosen]).astype(np.uint8) for name in names)]
print("σ = 250; rows: true,", ", ".join(names))
viz.grid(np.concatenate(rows), columns=6, scale=3)

# %% [markdown]
# > To maintain the high quality of output images, the U-Net should not remove all the noise at once, but rather in small
# > steps until a good image is obtained. — the article
#
# **Holds, with a correction:** it depends on what quality is, and on how much noise there is. x̂0 is the *mean* of all
# images that fit the noisy one, and no other answer has a smaller squared error: one step has the best PSNR at every
# level. Where the noise leaves little doubt (σ = 50), one step is also as sharp, and small steps gain nothing. Where it
# leaves much (σ = 250), the mean of many sharp images is blurred, and small steps end at *one* of them: a third
# sharper, and further from the truth, since it is not the one that was there.
#
# ## From noise alone
#
# > If … it is fed a figure that contains pure noise, it will gradually denoise the image, but … it will create a new image
# > similar to those in the training set, but in the same time unique … — the article
#
# Here the model works on latents (notebook 04), and each state is decoded to be seen. Guidance is left out.

# %%
process = reverse_process(pipe, "a yellow coat on a black background", seed=2)
viz.stepper(process.draw, len(process.timesteps), shown=[0, 5, 9, 12, 16, 24], columns=3)

# %% [markdown]
# At the beginning the expectation is the mean of all coats that there are. Each step takes a little noise away, which
# rules some coats out; the mean of the rest is sharper. `viz.save_gif(frames, path)` makes a film of it.
#
# Similar, and unique? Look for the training garments that are nearest to generated ones.

# %%
from tinydiff.datasets import load_fashion, render, shipped_fashion
from tinydiff.evaluation.evaluate import features_of, neighbours
from tinydiff.evaluation.metrics import nearest
from tinydiff.weights import load_classifier

generated, found, prompts, decibels = neighbours(count=24, seed=4, data=shipped_fashion())
print("generated above, nearest in the training data below")
viz.grid(np.concatenate([generated[:8], found[:8]]), columns=8, scale=3)

# %% [markdown]
# Some are close. How close would they be if nothing had been copied? As close as *real* garments are that the model
# never saw: so look for the nearest neighbours of test images, too.

# %%
classifier = load_classifier(shipped_weights())
grey, labels, _ = load_fashion("train", shipped_fashion())
unseen, unseen_labels, _ = load_fashion("test", shipped_fashion())
of_unseen = []
for image, label in zip(unseen[:24], unseen_labels[:24], strict=True):
    rows = grey[labels == label]
    colour, background = rng.integers(8), rng.integers(4)  # one for both
    one, many = (render(g, np.full(len(g), colour), np.full(len(g), background)) for g in (image[None], rows))
    index, _ = nearest(features_of(classifier, one), features_of(classifier, many))
    of_unseen.append(psnr(one[0], many[index[0]]))
for name, values in (("generated", decibels), ("real, unseen", of_unseen)):
    print(f"{name:>12}: nearest training image at {np.median(values):.1f} dB in the middle, {max(values):.1f} at most")
assert np.median(decibels) < np.median(of_unseen) + 2

# %% [markdown]
# **Holds.** Generated garments lie no nearer to the training data than real garments do that were never in it: about 20
# dB both. (A model with many more parameters than images, trained long enough, can store its training data. Ours has 4
# million parameters and saw 60,000 garments.)
#
# ## Why small steps? The plane
#
# In the plane everything can be seen. Let the "images" be five points, each as likely. The perfect denoiser is then a
# formula: every point could have become x, with a weight that falls with its distance, and x̂0 is their weighted mean.

# %%
angles = np.pi / 2 + np.arange(5) * 2 * np.pi / 5
points = 3 * np.stack([np.cos(angles), np.sin(angles)], 1)
start = rng.standard_normal((600, 2))
direction = exact_direction(points)
paths = [start]
deblend(direction, start, 200, lambda done, x: paths.append(x))
plane(paths, {f"after {n} step{'s' * (n > 1)}": deblend(direction, start, n) for n in (1, 2, 4, 16)}, points)

# %%
ends = {n: deblend(direction, start, n) for n in (1, 2, 4, 16)}
off = {n: float(np.median(np.sqrt(((end[:, None] - points) ** 2).sum(-1).min(1)))) for n, end in ends.items()}
print({n: round(distance, 3) for n, distance in off.items()}, "median distance from the nearest point")
assert np.allclose(ends[1], 0, atol=1e-9) and off[1] > 2.9 and off[16] < 0.01

# %% [markdown]
# One step leads *every* sample to the middle: from pure noise all five points are equally likely, and their mean is the
# centre, where there is no data at all. That is the blur of the first step above. With each small step the sample comes
# nearer to some points than to others, the weights change, and the path bends.
#
# > The step usually corresponds with the noise step in the training data … — the article
#
# **Does not hold today.** Our network learnt 1,000 levels and generates in 25 steps, in the plane 16 are enough. The
# steps are those of a numerical solution of a differential equation; better methods need fewer
# ([results](results/samplers-and-guidance.md)).
#
# ## ε, x0 or v
#
# A network can be asked for the noise ε, for the image x0, or for a mixture of the two,
#
# $$v = \sqrt{\bar\alpha}\, \varepsilon - \sqrt{1-\bar\alpha}\, x_0 .$$
#
# With $x_t = \sqrt{\bar\alpha}\, x_0 + \sqrt{1 - \bar\alpha}\, \varepsilon$ these are two equations: think of $(x_0,
# \varepsilon)$ turned by an angle φ with cos φ = √ᾱ. A rotation is undone by turning back:
#
# $$\hat x_0 = \sqrt{\bar\alpha}\, x_t - \sqrt{1-\bar\alpha}\, v, \qquad \hat\varepsilon = \sqrt{1-\bar\alpha}\, x_t + \sqrt{\bar\alpha}\, v .$$

# %%
a = rng.random(4)
clean, eps = rng.standard_normal((2, 4, 3))
noisy = add_noise(clean, eps, a)
for prediction_type in ("epsilon", "sample", "v_prediction"):  # as diffusers' configurations name the three
    back, noise_back = to_x0_and_noise(target(clean, eps, a, prediction_type), noisy, a, prediction_type)
    assert np.allclose(back, clean) and np.allclose(noise_back, eps)
show(to_x0_and_noise)

# %% [markdown]
# They say the same; errors in them do not. At high noise ε is nearly x_t itself and teaches nothing about the image:
# x̂0 is divided by a small √ᾱ, and an error in ε̂ is multiplied. v divides by nothing:

# %%
for level in (0.9, 0.5, 0.01, 0.0001):
    wrong = {}
    for prediction_type in ("epsilon", "v_prediction"):
        prediction = target(clean, eps, level, prediction_type) + 0.1  # each off by 0.1
        guess, _ = to_x0_and_noise(prediction, add_noise(clean, eps, level), level, prediction_type)
        wrong[prediction_type] = float(abs(guess - clean).max())
    print(f"ᾱ = {level:<7} error of x̂0: from ε̂ {wrong['epsilon']:7.3f}, from v̂ {wrong['v_prediction']:.3f}")
assert wrong["epsilon"] > 9 and wrong["v_prediction"] < 0.11

# %% [markdown]
# ## DDPM and DDIM: one step
#
# From x at the level a (that is ᾱ) to the next, cleaner level p > a. If x0 were known, what could x_p have been? The
# way from p to a multiplied by √(a/p) and added noise of variance 1 − a/p. Bayes' rule for normals: precisions add, and
# means are weighted by them. From x0 we know $x_p \sim N(\sqrt p\, x_0, 1 - p)$; from $x_a$ that $x_p$ is $x_a /
# \sqrt{a/p}$ with variance $(1 - a/p)/(a/p)$. So
#
# $$\text{mean} = \frac{(1 - a/p)\sqrt p\; x_0 + (1 - p) \sqrt{a/p}\; x_a}{1 - a}, \qquad \text{variance} = \frac{(1 - a/p)(1 - p)}{1 - a}.$$
#
# That is **DDPM**'s step, with x̂0 for x0 and fresh noise of that variance. **DDIM** draws no fresh noise: it keeps the
# noise that it believes in, and mixes it with the image anew at the next level, $x_p = \sqrt p\, \hat x_0 + \sqrt{1 -
# p}\, \hat\varepsilon$. Check the posterior by brute force: draw many (x_p, x_a), keep those whose x_a came out near a
# chosen value.

# %%
a, p, known = 0.3, 0.6, 0.8
x_p = np.sqrt(p) * known + np.sqrt(1 - p) * rng.standard_normal(2_000_000)
x_a = np.sqrt(a / p) * x_p + np.sqrt(1 - a / p) * rng.standard_normal(2_000_000)
kept = x_p[abs(x_a - 1.1) < 0.01]
mean = ((1 - a / p) * np.sqrt(p) * known + (1 - p) * np.sqrt(a / p) * 1.1) / (1 - a)
variance = (1 - a / p) * (1 - p) / (1 - a)
print(f"{len(kept):,} pairs: mean {kept.mean():.3f} (formula {mean:.3f}), variance {kept.var():.3f} ({variance:.3f})")
assert abs(kept.mean() - mean) < 0.02 and abs(kept.var() - variance) < 0.02
show(ddpm_step, ddim_step)

# %% [markdown]
# In the library a sampler is such a *step*: it sees where x is and what the network makes of it, and returns the mean
# of what comes next and the deviation of its fresh noise. One loop, `sample`, goes through the timesteps for all of
# them:

# %%
show(sample)

# %% [markdown]
# Both steps are right where the network is: let the data be normal with mean 2 and deviation 0.5. The perfect x̂0 is
# then a formula as well, and samples must come out with that mean and deviation.


# %%
def exact(x, t):
    """ε̂ of a perfect network for data ~ N(2, 0.25)."""
    a = float(cosine.alpha_bar[t])
    gain = np.sqrt(a) * 0.25 / (a * 0.25 + 1 - a)
    guess = 2 + gain * (x - np.sqrt(a) * 2)
    return (x - np.sqrt(a) * guess) / np.sqrt(1 - a)


for steps in (5, 25, 100):
    row = []
    for step in (ddim_step, ddpm_step):
        start = rng.standard_normal(20_000)
        ends = sample(step, exact, start, cosine, steps, np.random.default_rng(1), "epsilon")
        row.append((ends.mean(), ends.std()))
    print(
        f"{steps:3} steps: DDIM mean {row[0][0]:.3f}, deviation {row[0][1]:.3f};  DDPM {row[1][0]:.3f}, {row[1][1]:.3f}"
    )
assert all(abs(mean - 2) < 0.03 and abs(deviation - 0.5) < 0.03 for mean, deviation in row)

# %% [markdown]
# With few steps the deviation is off: a step is a straight line where the way is curved, and DDPM, which adds noise
# that its large steps cannot take back in time, needs more of them.
#
# ## The loss and the training loop
#
# What does the network learn from? Noise each example by an amount drawn at random, and ask what was mixed. That is the
# whole of it, and this function is what every denoiser here was trained with:

# %%
show(diffusion_loss)

# %% [markdown]
# A *task* is a model and its loss; the training loop asks for the loss, sends its gradient back and takes the
# optimiser's step, again and again:

# %%
from tinydiff.training.loop import Task, training_loop
from tinydiff.training.optim import AdamW, OptimConfig

show(Task, training_loop)

# %% [markdown]
# Use them: two moons in the plane, and a small network of ours, which is conditioned on the noise level by a third
# number beside x.

# %%
from tinydiff import no_grad
from tinydiff.nn.layers import Linear
from tinydiff.nn.module import Module


class Net(Module):
    """x (N, 2) and a noise level (N,) → (N, 2)."""

    def __init__(self, rng):
        self.a, self.b, self.c = Linear(rng, 3, 96), Linear(rng, 96, 96), Linear(rng, 96, 2)

    def forward(self, x, level):
        h = Tensor(np.concatenate([x, level[:, None]], 1, dtype=np.float32))
        return self.c(ops.silu(self.b(ops.silu(self.a(h)))))


def moons(count, rng, upper=None):
    """Two half circles that reach into each other."""
    angle = np.pi * rng.random(count)
    upper = rng.random(count) < 0.5 if upper is None else upper
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle)) - 0.5
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
    return 1.5 * np.stack([x, y], 1) + 0.06 * rng.standard_normal((count, 2))


net = Net(np.random.default_rng(0))


def loss(step, rng):
    """The diffusion loss of 256 points of the moons."""
    return diffusion_loss(lambda x_t, t: net(x_t.data, t / 1000), moons(256, rng).astype(np.float32), cosine, rng)


task = Task("moons", net, loss, OptimConfig(steps=4000, batch=256, lr=4e-3, warmup=50, weight_decay=0.0))
optimiser = AdamW(net, task.optim)
losses = [value for _, value in training_loop(task, optimiser, np.random.default_rng(0))]
net.load_state_dict(optimiser.ema)  # the exponential moving average of the weights: less noise than the last ones
print(f"loss: {np.mean(losses[:100]):.2f} in the first hundred steps, {np.mean(losses[-100:]):.2f} in the last")
assert np.mean(losses[-100:]) < 0.95 * np.mean(losses[:100])

# %% [markdown]
# The loss falls a little and never comes near 0: which point and which noise were mixed cannot be known from their sum,
# and the best answer is a mean. Whether a diffusion model is good is seen in its samples, not in its loss.


# %%
def predict(x, t):
    with no_grad():
        return net(x, np.full(len(x), t / 1000)).data


start = np.random.default_rng(1).standard_normal((600, 2)).astype(np.float32)
ends = {n: sample(ddim_step, predict, start, cosine, n, np.random.default_rng(0)) for n in (1, 5, 50)}
upper = np.arange(3000) < 1500
data = moons(3000, np.random.default_rng(2), upper)
off = {n: float(np.median(np.sqrt(((end[:, None] - data) ** 2).sum(-1).min(1)))) for n, end in ends.items()}
print({n: round(distance, 2) for n, distance in off.items()}, "median distance from the nearest of 3,000 points")
assert off[1] > 0.2 > 0.1 > off[50]
paths = [start]
keep = Options(callback=lambda done, x, x0: paths.append(x))
sample(ddim_step, predict, start, cosine, 50, np.random.default_rng(0), options=keep)
closest = ((paths[-1][:, None] - data) ** 2).sum(-1).argmin(1)
plane(paths, {f"after {n} step{'s' * (n > 1)}": end for n, end in ends.items()}, data, upper[closest].astype(int))

# %% [markdown]
# That is a diffusion model, whole. tinydiff's own differs in what stands in the place of three things: latents for
# points, a U-Net for the small network, and a caption beside the noise level. What makes a training robust,
# checkpoints, Ctrl-C, the progress bar, stands around the same loop in
# [apps/train/session.py](../tinydiff/apps/train/session.py).
#
# ## IADB: the same on a straight line
#
# Iterative α-(de)blending needs none of the square roots. Blend noise and data along a straight line, $x_\alpha = (1 -
# \alpha)\, x_0 + \alpha\, x_1$; learn which way the line goes, $x_1 - x_0$, from $x_\alpha$ and α; go that way in small
# steps. (Here x0 is the noise and x1 the data, as in its paper.) All of it, for the same moons and the same network:

# %%
net = Net(np.random.default_rng(0))


def loss(step, rng):
    """The squared error of the direction from noise to data."""
    x0, x1, alpha = rng.standard_normal((256, 2)), moons(256, rng), rng.random(256)
    return ops.mse_loss(net(blend(x0, x1, alpha), alpha), Tensor((x1 - x0).astype(np.float32)))


task = Task("iadb", net, loss, OptimConfig(steps=6000, batch=256, lr=4e-3, warmup=50, weight_decay=0.0))
optimiser = AdamW(net, task.optim)
for _ in training_loop(task, optimiser, np.random.default_rng(0)):
    pass
net.load_state_dict(optimiser.ema)


def learnt(x, alpha):
    with no_grad():
        return net(x, np.full(len(x), alpha)).data


start = np.random.default_rng(1).standard_normal((600, 2))
paths = [start]
ends = {f"after {n} steps": deblend(learnt, start, n) for n in (2, 8)}
ends["after 200 steps"] = deblend(learnt, start, 200, lambda done, x: paths.append(x))
closest = ((paths[-1][:, None] - data) ** 2).sum(-1).argmin(1)
plane(paths, ends, data, upper[closest].astype(int))  # colours: the moon that each sample came to

# %%
near = np.sqrt(((ends["after 200 steps"][:, None] - data) ** 2).sum(-1).min(1))
covered = np.sqrt(((data[:600, None] - ends["after 200 steps"]) ** 2).sum(-1).min(1))
print(
    f"{100 * (near < 0.15).mean():.0f} % of the samples lie on the moons, {100 * (covered < 0.2).mean():.0f} % of the moons are reached"
)
assert (near < 0.15).mean() > 0.85 and (covered < 0.2).mean() > 0.95

# %% [markdown]
# Noise became moons (grey dots: the data). The colours show that the plane is cut in two: which moon a sample ends on
# is decided by where it began. With the same formulas, images for points and a U-Net for the small network, this is the
# preset `full-iadb`; and since x0 need not be noise, `python notebooks/results/iadb.py` leads sneakers to ankle boots.
#
# ## What to take away
#
# - Noise of any level is added in one line, because normal noises add up to one.
# - The network must know the level: it is conditioned on it, by a vector of sines and cosines in every residual block.
# - It predicts a mean. One step gives the mean (best in squared error, blurred); small steps lead to one sample.
# - ε, x0 and v are one answer in three coordinates; errors in them weigh differently.
# - DDPM and DDIM differ by fresh noise. IADB is the same idea on a straight line.
#
# ## Questions
#
# 1. In the plane, one step led everything to the centre. Would a *better trained* network avoid that?
#
# <details><summary>Answer</summary>
# No: the network there is perfect. The mean is the right answer to the question that it was asked. The question has to
# be asked again from a place nearer to the data.
# </details>
#
# 2. Why is there noise in DDPM's steps although noise is what is to be taken away?
#
# <details><summary>Answer</summary>
# x̂0 is a mean, so that a step towards it takes away too much variance; the fresh noise puts it back, and x_p has the
# distribution that noisy images have at that level. DDIM keeps the old noise in the place of fresh.
# </details>
#
# 3. At t = 999 of the cosine schedule ᾱ is 2·10⁻⁹. Why must the network predict v there, and not ε?
#
# <details><summary>Answer</summary>
# x_t is noise but for a 20,000th part. ε̂ = x_t is as good as perfect there and says nothing about the image, and in
# x̂0 = (x_t − √(1 − ᾱ)·ε̂)/√ᾱ every error is multiplied by 20,000. v is nearly −x0 there: a guess of the image.
# </details>
#
# ## Sources
#
# - Ho et al. 2020, *Denoising Diffusion Probabilistic Models*, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239)
# - Song et al. 2021, *Denoising Diffusion Implicit Models*, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502)
# - Salimans & Ho 2022, *Progressive Distillation* (v), [arXiv:2202.00512](https://arxiv.org/abs/2202.00512)
# - Nichol & Dhariwal 2021 (the cosine schedule), [arXiv:2102.09672](https://arxiv.org/abs/2102.09672)
# - Heitz et al. 2023, *Iterative α-(de)Blending*, [arXiv:2305.03486](https://arxiv.org/abs/2305.03486)
# - The article *Introduction into Diffusion & Latent Diffusion Models*
