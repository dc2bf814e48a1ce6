# %% [markdown]
# # Stable Diffusion
#
# The last notebook ended with a map: each part of Stable Diffusion has its small brother here. This one goes the rest of
# the way, from four million parameters to a thousand million. Nothing new has to be built for it. A tokenizer that knows
# every text takes the place of our 54 words, the text encoder reads from left to right, the schedule and the sampler are
# others, and the names in the file have to be translated. Then the same lines that generate garments draw 512×512.
#
# - **Goals.** After this you can encode a text by byte pairs; say why a prompt has 77 places; draw a causal mask; say
#   what PLMS gains over DDIM; find a layer of the U-Net in Stable Diffusion's file; and say what a step costs.
# - **Know first.** Notebooks 03, 04 and 05.
# - **Time.** 1.5 minutes on two cores. With the weights on your disk, and `TINYDIFF_SD` set to their file or folder, the last
#   cells draw an image as well, which takes some minutes more and 6 GB of memory.
# - **Reads.** [apps/stable_diffusion](../tinydiff/apps/stable_diffusion),
#   [models/text_encoder.py](../tinydiff/models/text_encoder.py), [models/unet.py](../tinydiff/models/unet.py),
#   [diffusion/samplers.py](../tinydiff/diffusion/samplers.py)
# - **Exercises.** [exercises/06](exercises/06_stable_diffusion.ipynb)
#
# **What was checked, and what was not.** Every part was compared with diffusers and transformers, which are what people
# run these weights with, on *random* weights: the same seed gives the same image, to within a rounding
# ([how closely](results/stable-diffusion.md)). The real weights were not at hand. Until somebody has run them, that is
# all that can be said.

# %%
import inspect
import os
import time
from collections import Counter

import numpy as np
from IPython.display import Code, Markdown

import tinydiff
from tinydiff import models, ops, viz
from tinydiff.apps.stable_diffusion.byte_pair import CLIPTokenizer, merged, symbols, train_merges
from tinydiff.apps.stable_diffusion.names import autoencoder_name, unet_name
from tinydiff.apps.stable_diffusion.torch_rng import TorchRng
from tinydiff.autograd import Tensor
from tinydiff.datasets.pixels import as_floats
from tinydiff.diffusion import Options, Schedule, cosine, sample, scaled_linear
from tinydiff.diffusion.samplers import ddim_step, dpm_step, plms_step
from tinydiff.viz.words import attention_table
from tinydiff.weights import load_classifier, shipped_weights

viz.style()
rng = np.random.default_rng(0)
pipe = tinydiff.load()  # ours, of 32×32 garments


def show(*things):
    """The source of functions of the library."""
    return Code("\n\n".join(inspect.getsource(thing) for thing in things), language="python")


# %% [markdown]
# ## Side by side
#
# The same classes, once with our settings and once with Stable Diffusion's. `rng=None` makes shapes alone: the large
# ones take no memory yet. What each part has, and how many parameters:

# %%
large_text = models.TextEncoderConfig(49408, 77, 768, 12, 12, hidden_act="quick_gelu", causal=True)
large = models.Denoiser(models.UNetConfig(), large_text, rng=None)  # the defaults are Stable Diffusion 1.x's
large_autoencoder = models.Autoencoder(models.AutoencoderConfig(), rng=None)
pairs = {
    "text encoder": (pipe.denoiser.text_encoder, large.text_encoder),
    "U-Net": (pipe.denoiser.unet, large.unet),
    "autoencoder": (pipe.autoencoder, large_autoencoder),
}


def size(module) -> int:
    return sum(p.data.size for p in module.parameters())


def blocks(module) -> Counter:
    """Parameters of a model's blocks, by the first parts of their names."""
    counts: Counter = Counter()
    for name, p in module.named_parameters():
        first, second, *_ = name.split(".")
        counts[f"{first}.{second}" if second.isdigit() or first in ("encoder", "embeddings") else first] += p.data.size
    return counts


rows = ["| part | block | ours | Stable Diffusion's |", "|---|---|---|---|"]
for part, (small, big) in pairs.items():
    ours, theirs = blocks(small), blocks(big)
    rows.append(f"| **{part}** | | **{size(small):,}** | **{size(big):,}** |")
    rows += [
        f"| | `{name}` | {f'{ours[name]:,}' if ours[name] else '–'} | {count:,} |" for name, count in theirs.items()
    ]
totals = [sum(size(pair[i]) for pair in pairs.values()) for i in (0, 1)]
rows.append(f"| **all** | | **{totals[0]:,}** | **{totals[1]:,}** |")
assert size(large.unet) == 859_520_964 and size(large.text_encoder) == 123_060_480
assert size(large_autoencoder) == 83_653_863
Markdown("\n".join(rows))

# %% [markdown]
# Four levels instead of two, wider by five to ten times; the blocks are the same, and so are the names. Where do the
# parameters sit?

# %%
figure, axes = viz.subplots((9, 3.4), 1, 2)
for own, (title, which) in zip(axes, (("ours", 0), ("Stable Diffusion's", 1)), strict=True):
    counts = {part: size(pair[which]) for part, pair in pairs.items()}
    own.barh(list(counts), [n / 1e6 for n in counts.values()], color=viz.PALETTE[:3])
    own.invert_yaxis()
    own.set(title=f"{title}: {sum(counts.values()) / 1e6:,.0f} million", xlabel="million parameters")
figure

# %% [markdown]
# ## Words of any kind: byte-pair encoding
#
# Our vocabulary has 54 words, and a prompt with a 55th is refused. Stable Diffusion's must know every text: names, typing
# errors, emoji, Chinese. A vocabulary of characters could; but then "astronaut" would be nine tokens of which none means
# anything. *Byte-pair encoding* lies between: begin with single bytes, of which everything can be made; then make one
# symbol of the two neighbours that are most frequent, again and again. On a small corpus:

# %%
corpus = "low low low low low lower lower newest newest newest newest newest newest widest widest widest".split()
merges = train_merges(corpus, 11)
words = {word: symbols(word) for word in dict.fromkeys(corpus)}
print(f"{'':>12}", *(f"{' '.join(own):<22}" for own in words.values()))
for pair in merges:
    words = {word: merged(own, pair) for word, own in words.items()}
    print(f"{' + '.join(pair):>12}", *(f"{' '.join(own):<22}" for own in words.values()))

# %% [markdown]
# `</w>` marks the end of a word, so that *est* at the end is another symbol than *est* in the middle. A word that the
# corpus never had is made of what it did have:

# %%
own = symbols("lowest")
for pair in merges:
    own = merged(own, pair)
print("lowest →", own)
assert own == ["low", "est</w>"]
show(merged, train_merges)

# %% [markdown]
# CLIP's tokenizer has 48,894 merges, learnt from the captions of 400 million images. Frequent words are one token, rare
# ones several, and nothing is unknown:

# %%
clip = CLIPTokenizer()
for prompt in (
    "a photograph of an astronaut riding a horse",
    "an antidisestablishmentarian tinydiff",
    "ein Kätzchen, 3 Uhr",
    "猫 🐈",
):
    print(f"{len(clip.text_ids(prompt)):2} tokens: {' | '.join(clip.split(prompt))}")
assert clip.text_ids("a photo of a cat") == [320, 1125, 539, 320, 2368]

# %% [markdown]
# (The last line shows bytes: each is printed as one character, and no merge of theirs was frequent enough to make a whole
# Chinese character out of all three.)
#
# **Why 77?** A text encoder has one vector for each place, and CLIP was trained with 77: a begin, 75 tokens, an end. A
# longer prompt is cut off, in silence in most programs. What comes after the 75th token is never read:

# %%
long = ", ".join(["highly detailed"] * 40)
tokens = clip.encode([long, "a cat"])
print(f"{len(clip.text_ids(long))} tokens, of which {tokens.shape[1] - 2} go in")
print("a cat:", tokens[1, :6], "… ", tokens[1, -1], "  (49406 begins; 49407 ends, and fills the rest)")
assert tokens.shape == (2, 77) and len(clip.text_ids(long)) > 75

# %% [markdown]
# ## A text encoder that reads from left to right
#
# CLIP's text encoder is the transformer of notebook 05 with twelve layers instead of two and two differences. It is
# *causal*: a word sees those before it and none after it. And its activation is QuickGELU.

# %%
seven = ["begin", "a", "red", "dress", "on", "white", "end"]
q, k = rng.standard_normal((2, 1, 7, 16))
v = np.eye(7)[None]  # each word says who it is: what comes out are the weights themselves
everywhere, _ = ops.attention.forward(q, k, np.pad(v, ((0, 0), (0, 0), (0, 9))), heads=1)
causal, _ = ops.attention.forward(q, k, np.pad(v, ((0, 0), (0, 0), (0, 9))), heads=1, causal=True)
assert np.allclose(np.triu(causal[0, :, :7], 1), 0) and np.allclose(causal[0, :, :7].sum(1), 1)
attention_table(causal[0, :, :7], seven, seven, "causal: each row sees what is left of it")

# %% [markdown]
# "dress" knows of "red", and "red" does not know of "dress". Only the end has read the whole prompt; that is the vector
# by which CLIP compares a text with an image. The U-Net, though, is given all 77, and the padding behind the end is made
# of end tokens which have read everything, too. In a causal text encoder the same beginning gives the same vectors,
# whatever follows:

# %%
config = models.TextEncoderConfig(len(clip), 77, 64, 2, 4, hidden_act="quick_gelu", causal=True)
encoder = models.TextEncoder(config, np.random.default_rng(1))
with tinydiff.no_grad():
    first, second = encoder(clip.encode(["a red dress on a beach", "a red dress in the snow"])).data
same = [bool(np.allclose(a, b, atol=1e-6)) for a, b in zip(first, second, strict=True)]
print("the same vectors at places", [i for i, equal in enumerate(same) if equal])
assert same[:4] == [True] * 4 and not any(same[4:])

# %%
x = np.linspace(-5, 3, 200)
figure, (left, right) = viz.subplots((9, 3.2), 1, 2, grid=True)
left.plot(x, ops.gelu.forward(x)[0], label="GELU")
left.plot(x, ops.quick_gelu.forward(x)[0], "--", label="QuickGELU, x·σ(1.702·x)")
left.legend()
difference = ops.quick_gelu.forward(x)[0] - ops.gelu.forward(x)[0]
right.plot(x, difference)
right.set_title("their difference")
assert 0.01 < abs(difference).max() < 0.03
figure

# %% [markdown]
# A difference of 0.02 is nothing, one would think. Taken the one for the other in twelve layers, it changes every vector:
# weights belong to the activation that they were trained with.
#
# ## Another schedule, other timesteps
#
# Stable Diffusion's β grow as the square of a straight line, from .00085 to .012. Its last step still keeps √ᾱ = 0.068 of
# the image, though sampling begins with noise alone. That is known to be a mistake (notebook 03), and the weights are
# trained for it, so it stays. Its timesteps are spaced "leading", with an offset of one: 981, 961, … 1.

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the one that says what the text above says
    schedule = scaled_linear()
    as_configured = Schedule("scaled_linear", schedule.alpha_bar, "leading", 1, False)
figure, axis = viz.subplots((7, 3.2), grid=True)
axis.plot(np.sqrt(cosine().alpha_bar), label="cosine: ours")
axis.plot(np.sqrt(schedule.alpha_bar), label="scaled linear: Stable Diffusion's")
axis.plot(as_configured.timesteps(20), np.sqrt(schedule.alpha_bar[as_configured.timesteps(20)]), "o", label="20 steps")
axis.set(xlabel="timestep", ylabel="√ᾱ, share of the image")
axis.legend()
print(as_configured.timesteps(50)[:4], "…", as_configured.timesteps(50)[-1])
assert as_configured.timesteps(50)[:3] == [981, 961, 941] and as_configured.timesteps(50)[-1] == 1
figure

# %% [markdown]
# ## PLMS: looking ahead
#
# DDIM walks along the ε that the network sees where it stands. Where the slope changes on the way, it ends beside the
# curve. PLMS remembers the last four ε and extrapolates, as Adams and Bashforth did in 1883 for the paths of liquid drops:

# %%
show(plms_step)

# %% [markdown]
# Does it pay? Our own model, 16 prompts, no guidance; the truth is what DPM-Solver++ gives with 200 steps:

# %%
prompts = [f"a {colour} dress on a white background" for colour in ("red", "blue", "green", "black")] * 2
text = pipe.encode_prompt(prompts)
noise = np.random.default_rng(5).standard_normal((len(prompts), *pipe.latent_shape), np.float32)
predict = lambda x, t: pipe.predict(x, t, text)  # noqa: E731


def latents(step, steps):
    options = Options(last=900)  # where the shipped schedule has some image left: see plms_step
    return sample(step, predict, noise, pipe.schedule, steps, rng, pipe.prediction_type, options)


truth = latents(dpm_step, 200)
counts = (6, 10, 16, 25, 50)
errors = {
    name: [float(np.sqrt(((latents(step, n) - truth) ** 2).mean())) for n in counts]
    for name, step in (("DDIM", ddim_step), ("PLMS", plms_step), ("DPM-Solver++(2M)", dpm_step))
}
figure, axis = viz.subplots((7, 3.6), grid=True)
for name, own in errors.items():
    axis.loglog(counts, own, "o-", label=name)
    print(f"{name:>17}:", *(f"{n} steps {error:.3f}  " for n, error in zip(counts, own, strict=True)))
axis.set(xlabel="steps", ylabel="distance to 200 steps", xticks=counts, xticklabels=counts)
axis.minorticks_off()
axis.legend()
assert errors["PLMS"][-1] < errors["DDIM"][-1] / 2
figure

# %% [markdown]
# PLMS is ahead everywhere, and with fifty steps eight times as near as DDIM. That is where the slope is smooth. With
# guidance in an interval, as we use it, the slope jumps where guidance begins, and what PLMS remembers from before the
# jump leads it astray: there DPM-Solver++ is the better one with few steps.
#
# ## What is in the file
#
# A file of Stable Diffusion's is a list of names and arrays. The names are those of the program that trained it; ours are
# diffusers', in which a layer says which level it is in:

# %%
single = ["time_embed.0.weight", "input_blocks.1.0.in_layers.2.weight", "input_blocks.3.0.op.weight"]
single += ["input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", "middle_block.1.proj_in.weight"]
single += ["output_blocks.5.2.conv.weight", "out.2.weight"]
for name in single:
    print(f"{name:<62} {unet_name(name)}")
print(f"{'decoder.up.3.block.0.conv1.weight':<62} {autoencoder_name('decoder.up.3.block.0.conv1.weight')}")
assert unet_name("input_blocks.3.0.op.weight") == "down_blocks.0.downsamplers.0.conv.weight"

# %% [markdown]
# (The decoder counts its levels backwards.) A `.safetensors` file begins with a table of names, types, shapes and places;
# behind it lie the numbers, which can be mapped into memory without being read. A `.ckpt` is a zip with a *pickle* in it,
# and a pickle is a program: opened the usual way, it may do to your computer whatever it likes. tinydiff runs it on a
# small machine of its own that knows tensors, dictionaries, lists, numbers and strings and calls nothing:

# %%
from tinydiff.apps.stable_diffusion.torch_file import STEPS

print(f"{len(STEPS)} instructions; those that build things:")
print(*(name for name in STEPS if name.startswith(("EMPTY", "TUPLE", "APPEND", "SETITEM", "REDUCE"))))

# %% [markdown]
# PyTorch keeps images and kernels channels first; ours are channels last. When they are loaded, a kernel (K, C, KH, KW)
# becomes (KH, KW, C, K) and a matrix (K, C) becomes (C, K), one array after the other, so that there are never two copies
# of the whole.
#
# And the same seed must give the same noise. PyTorch draws its normal numbers by Box and Muller's formula from the
# Mersenne twister, sixteen at a time; NumPy has the same twister:

# %%
print(TorchRng(42).standard_normal(16)[:4], " # torch.manual_seed(42); torch.randn(16)[:4]")
assert np.allclose(TorchRng(42).standard_normal(4 * 64 * 64)[:2], (1.9269153, 1.4872841))

# %% [markdown]
# ## Guidance, and negative prompts
#
# Guidance goes from u, the prediction for the empty prompt, towards c, that for yours: u + s·(c − u). Nothing says that u
# must be the *empty* prompt. Put "blurry, watermark" in its place and the image is led away from that: a *negative
# prompt* is one line of code. Our own model, asked for a dress in no colour at all, makes green ones. Led away from green,
# and from the same noise:

# %%
asked, negative = ["a dress on a white background"] * 8, "a green dress on a white background"
plain = pipe.generate(asked, seed=3)
not_green = pipe.generate(asked, seed=3, negative_prompt=negative)
viz.grid(np.concatenate([plain, not_green]), columns=8, scale=2)

# %%
from tinydiff.datasets import COLOURS

classifier = load_classifier(shipped_weights())
for name, images in (("without", plain), ("with", not_green)):
    seen = Counter(list(COLOURS)[i] for i in classifier.classify(as_floats(images))[1])
    print(f"{name:>8} a negative prompt:", ", ".join(f"{colour} {n}" for colour, n in seen.most_common()))
assert seen["green"] <= 1

# %% [markdown]
# (Upper row without, lower row with the negative prompt.) It costs nothing more than guidance does: two evaluations of the
# network a step.
#
# ## What a step costs
#
# Our denoiser, and Stable Diffusion's U-Net at its own size, both live. The large one's weights are all zero here, since it
# has none; a zero takes as long to multiply as any other number.

# %%
tokens = pipe.vocabulary.encode(["a red dress on a white background"])
ours = tinydiff.summary(pipe.denoiser, np.zeros((1, 8, 8, 4), np.float32), np.array([500]), tokens, depth=0).total
x, context = (Tensor(rng.standard_normal(shape, np.float32)) for shape in ((1, 64, 64, 4), (1, 77, 768)))
whole = tinydiff.summary(large.unet, x, np.array([500]), context, depth=1)
print(f"ours, 32×32 images: {ours.multiply_adds / 1e9:.2f} billion multiply-adds, {ours.milliseconds / 1e3:.3f} s")
print(
    f"Stable Diffusion's, 512×512: {whole.total.multiply_adds / 1e9:.0f} billion, {whole.total.milliseconds / 1e3:.1f} s"
)
assert whole.total.multiply_adds > 4000 * ours.multiply_adds
whole

# %% [markdown]
# The first levels cost most, where there are most places: 4,096 of them, each of which attends to all others. The matrix of
# one such attention would have 4,096 × 4,096 numbers for each of 8 heads, half a gigabyte. It is never there as a whole:
# the compiled kernel works through the keys in pieces and keeps a running sum.
#
# Every step asks the U-Net twice for the sake of guidance, and an image takes 20 to 50 steps: minutes on two cores, seconds
# on a graphics card. That is why it works in a latent space: in pixels the first level would have 64 times the places, and
# its attention 4,096 times the pairs.
# [The page](results/stable-diffusion.md) has what was measured at full size.
#
# ## With the real weights
#
# They are not ours to ship. Stable Diffusion 1.x's are under the *CreativeML Open RAIL-M* licence: free to use, also
# commercially, and to pass on, as long as its limits of use travel along. It forbids, among others, to break the law with
# them; to exploit or harm minors; to spread false information in order to harm; to spread personal data that can harm a
# person; to defame, disparage or harass; to decide automatically about somebody's rights; to discriminate by behaviour or
# by protected characteristics; to exploit the weaknesses of a group; to give medical advice; and to predict crimes or
# assess people for the administration of justice. Read it before you use them. And whatever such a model draws is made of
# what its two billion images from the web had in them, prejudices included.

# %%
path = os.environ.get("TINYDIFF_SD")
if path:
    start = time.monotonic()
    real = tinydiff.load(path)
    print(real)
    image = real.generate(["a photograph of an astronaut riding a horse"], steps=20, sampler="dpm", seed=42)
    print(f"{time.monotonic() - start:.0f} s")
    viz.grid(image, scale=1)
else:
    print("TINYDIFF_SD is not set: no weights, no image. With them: tinydiff.load(path).generate([prompt], seed=42)")

# %% [markdown]
# ## What to take away
#
# - Stable Diffusion is the model of these notebooks with more of everything. The same classes carry its weights.
# - Byte-pair encoding knows every text: frequent words are one token, rare ones several. 75 tokens go in.
# - CLIP's text encoder is causal: the same beginning gives the same vectors.
# - PLMS and DPM-Solver++ look ahead with what they remember; DDIM does not.
# - A negative prompt stands where the empty one stood.
# - A step costs what the places and the channels of the first level cost.
#
# ## Questions
#
# 1. Why is the padding behind a prompt made of *end* tokens and not of zeros?
#
# <details><summary>Answer</summary>
# Because CLIP's training did it so, and the U-Net learnt to read those vectors. They are not empty: each has attended to
# the whole prompt, so that they are places in which the prompt is summed up.
# </details>
#
# 2. A model was trained with ε as its prediction on a schedule that keeps √ᾱ = 0.068 at its last step. What images can it
#    hardly make?
#
# <details><summary>Answer</summary>
# Very dark and very bright ones. In training the noisiest image still showed how bright it was on the whole; sampling
# begins with noise of mean zero, which says "medium". (Lin et al. 2023, arXiv:2305.08891.)
# </details>
#
# 3. Why can a `.safetensors` file be opened without reading it, and a `.ckpt` not quite?
#
# <details><summary>Answer</summary>
# The one begins with a table that says where each array lies. In the other that table is what a program builds when it is
# run; the arrays lie in the zip as they are, so that only the program, some hundred kilobytes, has to be gone through.
# </details>
#
# ## Sources
#
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752)
# - Radford et al. 2021, *CLIP*, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020)
# - Sennrich, Haddow & Birch 2016, byte-pair encoding, [arXiv:1508.07909](https://arxiv.org/abs/1508.07909)
# - Liu et al. 2022, *Pseudo Numerical Methods for Diffusion Models* (PLMS), [arXiv:2202.09778](https://arxiv.org/abs/2202.09778)
# - Lin et al. 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, [arXiv:2305.08891](https://arxiv.org/abs/2305.08891)
# - *CreativeML Open RAIL-M*, the licence of Stable Diffusion 1.x's weights
# - The article *Introduction into Diffusion & Latent Diffusion Models*
