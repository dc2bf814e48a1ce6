# %% [markdown]
# # Introduction: a prompt becomes an image
#
# A text-to-image model takes a sentence and generates an image of what it says. This notebook generates first and asks
# afterwards: the image from the first cell is taken apart into what made it, stage by stage, and each stage is shown as
# the arrays that it is. The model is small, 5 million parameters where Stable Diffusion has a billion, and it has the
# same parts in the same places. tinydiff trained it, in the time of a lunch, on two CPU cores.
#
# - **Goals.** After this you can say what happens between a prompt and its image, name the parts of a latent diffusion
#   model with the shapes of what goes in and comes out, and know in which notebook each part is built from nothing.
# - **Know first.** Python and NumPy arrays. No neural networks.
# - **Time.** Half a minute on two cores; a minute more where the kernels are not compiled yet.
# - **Reads.** [pipelines/text_to_image.py](../tinydiff/pipelines/text_to_image.py),
#   [training/presets.py](../tinydiff/training/presets.py), [viz/architecture.py](../tinydiff/viz/architecture.py)
# - **Exercises.** None here; they begin with notebook 01.
#
# A word on the cells: what is asserted in them is what the text says. If this page was made, its figures held.

# %%
import inspect

import numpy as np
from IPython.display import Code

import tinydiff
from tinydiff import viz
from tinydiff.diffusion import Options
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL

viz.style()
pipe = tinydiff.load()  # the weights that come with tinydiff
prompt = "a red dress on a white background"
images = pipe.generate([prompt] * 8, seed=0)
viz.grid(images, columns=8, scale=3)

# %% [markdown]
# Eight red dresses that nobody has ever sewn. Each is an array of 32×32 pixels with a red, a green and a blue value.
# All eight had the same prompt; they differ because each began as other random numbers. The same seed gives the same
# images, bit for bit.

# %%
again = pipe.generate([prompt] * 8, seed=0)
assert images.shape == (8, 32, 32, 3) and images.dtype == np.uint8
assert np.array_equal(images, again)
viz.grid(pipe.generate([prompt] * 8, seed=1), columns=8, scale=3)

# %% [markdown]
# ## The parts, and what flows between them
#
# This is figure 1 of the article, drawn again from the live model: every shape and every number below is read off the
# arrays in memory. To **generate**, follow the lower row from the right: words become vectors, the U-Net, conditioned
# on them, turns noise into a latent in 25 steps, and the decoder makes pixels of the latent. The upper row is what
# **training** needs besides: the encoder turns real images into latents, and noise is added to them, so that the U-Net
# can learn to take it away.

# %%
from tinydiff.viz.architecture import architecture, parts

architecture(pipe)

# %%
sizes = parts(pipe)
parameters = {name: row.parameters for name, row in sizes.items()}
low, high = (share * pipe.schedule.num_train_timesteps for share in GUIDANCE_INTERVAL)
asked = sum(2 if low <= t < high else 1 for t in pipe.schedule.timesteps(25))
generating = asked * sizes["unet"].multiply_adds + sizes["decoder"].multiply_adds + sizes["text encoder"].multiply_adds
print(f"{sum(parameters.values()) / 1e6:.1f} million parameters in all, {parameters['unet'] / 1e6:.1f} in the U-Net")
print(f"{generating / 1e9:.1f} billion multiply-adds for one image")
share = asked * sizes["unet"].multiply_adds / generating
print(f"{100 * share:.0f} % of them in the U-Net, which is asked {asked} times in 25 steps")
assert 4e6 < sum(parameters.values()) < 6e6 and parameters["unet"] > 0.7 * sum(parameters.values())
assert share > 0.95 and 25 < asked < 50

# %% [markdown]
# Almost all of the work is the U-Net's. In most steps it is asked twice, with the words and without; notebook 05 says
# why, under guidance.
#
# ## Stage 1: words become numbers, numbers become vectors
#
# The model knows a few dozen words. A prompt is looked up word by word; a number stands for the beginning, one for the
# end, and zeros fill the row up to 16.

# %%
tokens = pipe.vocabulary.encode([prompt])  # (1, 16)
print(tokens[0])
vectors = pipe.encode_prompt([prompt])[0]  # (16, 96): one row of 96 numbers for each place
assert tokens.shape == (1, 16) and vectors.shape == (16, 96)
names = ["begin", *prompt.split(), "end"] + ["pad"] * 7
figure = viz.panels([vectors], ["each place of the prompt as 96 numbers"], size=8)
figure.set_size_inches(11, 4.6)
figure.axes[0].axis("on")
figure.axes[0].set_aspect("auto")
figure.axes[0].set(yticks=range(16), yticklabels=names, xlabel="which of the 96 numbers")
figure.axes[0].tick_params(labelsize=12)
figure

# %% [markdown]
# A row is not the meaning of a word alone. Self-attention lets each place look at all others. Change one word, and see
# which rows move, as a share of their length:

# %%
other = pipe.encode_prompt(["a blue dress on a white background"])[0]
moved = np.linalg.norm(other - vectors, axis=1) / np.linalg.norm(vectors, axis=1)
for name, share in list(zip(names, moved, strict=True))[:9]:
    print(f"{name:<11} moved by {100 * share:3.0f} %")
assert (moved[:9] > 0.3).all()

# %% [markdown]
# One word changed, and *every* row moved, even "begin" and "on": each place has attended to the colour and carries it.
# The U-Net can then find it wherever it looks. Notebook 05 builds both, the vectors of words (Word2Vec) and
# self-attention.
#
# ## Stage 2: noise
#
# The image begins as random numbers, drawn from a normal distribution: not 32×32×3 of them but 8×8×4. That is the
# **latent space**, an image's short form, 12 times fewer numbers than its pixels.

# %%
rng = np.random.default_rng(0)
noise = rng.standard_normal((1, *pipe.latent_shape), np.float32)  # (1, 8, 8, 4)
assert 32 * 32 * 3 == 12 * noise.size
viz.panels(
    list(noise[0].transpose(2, 0, 1)), [f"channel {i}" for i in range(4)], limits=(-3, 3), cmap="RdBu_r", bar=True
)

# %% [markdown]
# ## Stage 3: 25 small steps
#
# At each step the U-Net is given the latent, conditioned on how noisy it is and on the text. Its answer is a guess of
# the clean latent. The sampler goes a small way there and asks again. Below, for each step: what the latent *is*,
# decoded to pixels, and what the U-Net *expects* it to become. Move the slider, or read the filmstrip.

# %%
seen = []
keep = Options(callback=lambda done, x, x0: seen.append((x, x0)))
latents = pipe.sample(pipe.encode_prompt([prompt]), noise, 25, rng, options=keep)  # (1, 8, 8, 4)
frames = [[pipe.decode(latent)[0] for latent in pair] for pair in seen]  # uint8 (32, 32, 3) each


def frame(step: int):
    """The latent after this step, and the image that is expected, both decoded."""
    return viz.panels(frames[step], ["latent", "expected"], size=1.7)


viz.stepper(frame, 25, shown=[0, 3, 6, 10, 15, 24], columns=3)

# %% [markdown]
# The expectation is a blur at first: so much noise fits many dresses, and their mean is a blurred one. Colour and
# outline come first, detail last. In numbers: how far each step's expectation lies from where the sampling loop ends.

# %%
from matplotlib.figure import Figure

final = latents
distance = [float(np.sqrt(np.mean((x0 - final) ** 2))) for _, x0 in seen]
begins = sum(t >= high for t in pipe.schedule.timesteps(25))  # the first step with guidance
figure = Figure(figsize=(8, 3.2), layout="constrained")
axes = figure.subplots()
axes.plot(distance, "o-")
axes.axvline(begins - 0.5, color="#777777", ls="--")
axes.annotate("guidance begins", (begins - 0.7, 1.0), ha="right")
axes.set(xlabel="step", ylabel="root mean square", title="distance of the expected latent from the final one")
axes.grid(alpha=0.3)
assert distance[begins] == max(distance) and distance[-1] < 1e-5
assert distance[begins - 1] < distance[0] and distance[15] < distance[0]
figure

# %% [markdown]
# The distance falls step by step, but for one jump: there the model begins to *exaggerate* what the prompt asks for, by
# a factor of 5, and its first exaggerated guess overshoots (the dark dress of step 10). It settles within a few steps.
# Notebook 05 says why that makes better images.
#
# ## Stage 4: the latent becomes pixels
#
# The decoder, a convolutional network, makes 3,072 numbers of 256. It knows nothing of prompts; it knows what garments
# look like.

# %%
image = pipe.decode(latents)[0]  # uint8 (32, 32, 3)
channels = list(final[0].transpose(2, 0, 1))
print(f"latent: from {final.min():.1f} to {final.max():.1f}, standard deviation {final.std():.2f}")
viz.panels([*channels, image], [*(f"channel {i}" for i in range(4)), "decoded"])

# %% [markdown]
# No channel is "the red one", but the dress can be seen in each: the latent keeps *where* things are. Notebook 04 takes
# it apart.
#
# That is all: `encode_prompt`, `sample`, `decode`. The method with which this notebook began calls the three in a row.

# %%
assert np.array_equal(pipe.generate([prompt], seed=0)[0], image)
Code(inspect.getsource(type(pipe).generate), language="python")

# %% [markdown]
# ## What the words do
#
# The same noise, other words. What noise decides and what words decide is separate enough that the pose often stays:

# %%
prompts = [
    "a red dress on a white background",
    "a blue dress on a white background",
    "a green coat on a black background",
    "a yellow sneaker on a grey background",
    "a purple bag on a sky background",
    "an orange ankle boot on a white background",
]
generated = pipe.decode(pipe.sample(pipe.encode_prompt(prompts), noise.repeat(6, 0), 25, rng))
viz.grid(generated, prompts, columns=6, scale=4)

# %% [markdown]
# The evaluation classifier, which learnt from real photographs of garments, says whether the images show what was
# asked.

# %%
from tinydiff.datasets import COLOURS, GARMENTS
from tinydiff.datasets.pixels import as_floats
from tinydiff.weights import load_classifier, shipped_weights

garment, colour, background = load_classifier(shipped_weights()).classify(as_floats(generated))
named = [f"{list(COLOURS)[c]} {GARMENTS[g]}" for g, c in zip(garment, colour, strict=True)]
print(*named, sep="\n")
right = sum(name in asked for name, asked in zip(named, prompts, strict=True))
assert right >= 5, f"only {right} of 6 images show what was asked for"

# %% [markdown]
# ## What the article claims
#
# > Stable Diffusion is a type of diffusion model called a Latent Diffusion Model. — the article
#
# **Holds**, and you have just seen all three words: *model*, a network with fixed weights; *diffusion*, noise taken
# away in steps; *latent*, on 8×8×4 numbers instead of pixels.
#
# > At its core, there are two layers: the convolutional layer, which is responsible for image generation, and the
# > self-attention layer, which is responsible for text processing. — the article
#
# A first count of where the U-Net's parameters lie; notebook 05 has the whole answer.

# %%
rows = tinydiff.summary(pipe.denoiser.unet, noise, np.zeros(1), pipe.encode_prompt([prompt])).rows
convolutions = sum(r.parameters for r in rows if r.layer_type == "Conv2d")
attention = sum(r.parameters for r in rows if r.layer_type == "SpatialTransformer")
whole = rows[0].parameters
print(
    f"convolutions outside transformers and within them: {100 * convolutions / whole:.0f} % of the U-Net's parameters"
)
print(f"transformers, which hold self-attention and cross-attention: {100 * attention / whole:.0f} %")
assert convolutions > 0.4 * whole and attention > 0.1 * whole

# %% [markdown]
# **Holds, with a correction:** convolutions are most of the U-Net, but attention is inside the U-Net too. It takes part
# in generating the image, and it is there that the words act on it (cross-attention).
#
# ## Where to go from here
#
# | notebook | what you will build |
# |---|---|
# | [01 The convolutional layer](01_the_convolutional_layer.ipynb) | the operation that does most of the work, its gradient, and how it gets fast |
# | [02 U-Net and computer vision](02_unet_and_computer_vision.ipynb) | the network's shape, on the task that it was made for |
# | [03 U-Net for denoising and diffusion](03_unet_for_denoising_and_diffusion.ipynb) | noise, and the way from noise to an image |
# | [04 Latent space](04_latent_space_and_latent_diffusion.ipynb) | the short form of images, and what it saves |
# | [05 Text to image](05_conclusion_text_to_image.ipynb) | words, attention, guidance: the whole |
#
# ## What to take away
#
# - A latent diffusion model is three networks: a text encoder, a U-Net, and an autoencoder's decoder.
# - An image begins as noise of the latent's shape. The seed decides the noise, so that it decides the image.
# - The U-Net always guesses the *clean* latent. Small steps turn blurred guesses into a sharp one.
# - Nearly all computing time is the U-Net's, since it runs at every step, and at most of them twice.
#
# ## Questions
#
# 1. Why are the eight dresses of the first cell different, though the prompt is the same?
#
# <details><summary>Answer</summary>
# Each began as other noise. With deterministic sampling (DDIM) nothing else is random: the same noise and the same
# words give the same image.
# </details>
#
# 2. The U-Net sees 8×8×4 numbers, and images have 32×32×3. Who turns the one into the other, and is that part
#    conditioned on the prompt?
#
# <details><summary>Answer</summary>
# The autoencoder's decoder. It is not conditioned on the text: all that the prompt asks for must be in the latent by
# then.
# </details>
#
# 3. With 50 steps instead of 25, how much longer does an image take?
#
# <details><summary>Answer</summary>
# About twice as long: the U-Net has nearly all multiply-adds and runs in proportion to the steps; the text encoder and
# the decoder run once.
# </details>
#
# ## Sources
#
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*,
#   [arXiv:2112.10752](https://arxiv.org/abs/2112.10752)
# - Song et al. 2021, *Denoising Diffusion Implicit Models*, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502)
# - Xiao et al. 2017, *Fashion-MNIST*, [arXiv:1708.07747](https://arxiv.org/abs/1708.07747)
# - The article *Introduction into Diffusion & Latent Diffusion Models*
