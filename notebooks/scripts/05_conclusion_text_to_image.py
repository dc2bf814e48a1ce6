# %% [markdown]
# # Conclusion: text to image
#
# The last piece is the words. This notebook turns them into vectors, lets the vectors attend to each other and the
# image attend to them, shows where in an image each word acts, and says what makes a prompt strong. Then it generates
# what no training image has ever shown. At the end stands a map of Stable Diffusion: what you know of it now, and what
# is still different.
#
# - **Goals.** After this you can derive the skip-gram gradient; compute self-attention by hand and say what 1/√d is for;
#   read an attention map; explain classifier-free guidance and its price; and name each part of Stable Diffusion.
# - **Know first.** Notebooks 03 and 04. The softmax; the chain rule.
# - **Time.** 1 minute on two cores.
# - **Reads.** [models/word2vec.py](../tinydiff/models/word2vec.py), [ops/attention.py](../tinydiff/ops/attention.py),
#   [models/text_encoder.py](../tinydiff/models/text_encoder.py), [apps/attention_maps.py](../tinydiff/apps/attention_maps.py),
#   [diffusion/guidance.py](../tinydiff/diffusion/guidance.py)
# - **Exercises.** [exercises/05](exercises/05_conclusion_text_to_image.ipynb)

# %%
import inspect

import numpy as np
from IPython.display import Code

import tinydiff
from tinydiff import datasets, gradcheck, ops, viz
from tinydiff.datasets import BACKGROUNDS, COLOURS, GARMENTS, UNSEEN
from tinydiff.datasets.pixels import as_floats
from tinydiff.models.word2vec import Word2Vec, skip_gram_loss
from tinydiff.viz.words import attention_table, overlay, word_map
from tinydiff.weights import load_classifier, shipped_weights

viz.style()
rng = np.random.default_rng(0)
pipe, classifier = tinydiff.load(), load_classifier(shipped_weights())
train = datasets.captioned_fashion("train", data=datasets.shipped_fashion())


def show(*things):
    """The source of functions of the library."""
    return Code("\n\n".join(inspect.getsource(thing) for thing in things), language="python")


def classified(images: np.ndarray, what: str) -> np.ndarray:
    """What the evaluation classifier, which learnt from real images, sees: the "garment", "colour" or "background"."""
    return classifier.classify(as_floats(images))[("garment", "colour", "background").index(what)]


print(*train.captions[:4], sep="\n")

# %% [markdown]
# ## Words become vectors: Word2Vec
#
# A word is known by the company it keeps. Word2Vec gives each word a vector v, and each word as a neighbour a second
# one, u, and learns to tell true neighbours from words drawn at random. For a pair that occurred, u·v should be large;
# for k random words, uᵢ·v small:
#
# $$L = -\ln \sigma(u \cdot v) - \sum_i \ln \sigma(-u_i \cdot v), \qquad \sigma(s) = \frac{1}{1 + e^{-s}}$$
#
# Since $\frac{d}{ds} \ln \sigma(s) = 1 - \sigma(s)$, the gradients are
#
# $$\frac{\partial L}{\partial v} = (\sigma(u \cdot v) - 1)\, u + \sum_i \sigma(u_i \cdot v)\, u_i, \qquad \frac{\partial L}{\partial u} = (\sigma(u \cdot v) - 1)\, v, \qquad \frac{\partial L}{\partial u_i} = \sigma(u_i \cdot v)\, v.$$
#
# Where the answer is right already, σ − 1 and σ are near zero and nothing moves. Checked against differences:

# %%
v, u, u_random = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 5, 4))
errors = gradcheck.op_errors(skip_gram_loss, v, u, u_random)
print("errors:", *(f"{error:.0e}" for error in errors))
assert max(errors) < 1e-6
show(skip_gram_loss.forward)

# %% [markdown]
# Train it, live, on 13,000 captions:

# %%
tokens = pipe.vocabulary.encode(train.captions)  # (13000, 16) numbers of words; 0 is padding, 1 begins, 2 ends
words = ["pad", "begin", "end", *pipe.vocabulary.words]
learnt = Word2Vec.train(tokens, len(words), 32, np.random.default_rng(0), epochs=4, window=4)
print("mean loss of each epoch:", *(f"{loss:.3f}" for loss in learnt.losses))
assert learnt.losses[-1] < learnt.losses[0] - 0.1

# %%
synonyms = datasets.captions.SYNONYMS
groups = {
    "garments": [
        n for name in GARMENTS for n in (*name.split(), *sum((s.split() for s in synonyms.get(name, ())), []))
    ],
    "colours": [n for name in COLOURS for n in (name, *synonyms.get(name, ()))],
    "backgrounds": [n for name in BACKGROUNDS for n in (name, *synonyms.get(name, ()))],
}
known = {word for own in groups.values() for word in own}
groups["other words"] = [word for word in words[3:] if word not in known]
word_map(learnt.vectors[3:], words[3:], groups)

# %% [markdown]
# Nobody labelled the colours. Words that can stand in each other's place have come together. For some words, the
# nearest, by the cosine of the angle between vectors:

# %%
found = {}
for word in ("sneaker", "pants", "violet", "grey", "white"):
    near = [words[i] for i, _ in learnt.nearest(words.index(word), 4)]
    found[word] = near
    print(f"{word:>8}: {', '.join(near)}")
group_of = {word: group for group, own in groups.items() for word in own}
same_group = np.mean([group_of[near[0]] == group_of[word] for word, near in found.items()])
assert same_group >= 0.6

# %%
ranks = []
for name, others in synonyms.items():
    for other in others:
        if name in words and other in words:
            order = [words[i] for i, _ in learnt.nearest(words.index(name), len(words))]
            ranks.append(order.index(other) + 1)
print(
    f"{len(ranks)} pairs of synonyms; the one is the other's nearest in {np.mean(np.array(ranks) == 1):.0%}, median rank {np.median(ranks):.0f}"
)
print(f"by chance the median rank would be about {len(words) // 2}")
assert np.median(ranks) < len(words) / 4

# %% [markdown]
# Synonyms are near, though not nearest (rank 8 of 53 in the middle): in these captions "sneaker" and "trainer" keep the
# same company, and so does every other garment that takes the same article. Two words that mean opposite things,
# "black" and "white", are near as well. Word2Vec learns what can *replace* a word, not what it means.
#
# ## Self-attention by hand
#
# Vectors of words alone cannot say that *red* belongs to *dress*. Attention lets each word ask the others. Each makes
# three vectors of itself: a query q (what I look for), a key k (what I have), a value v (what I say). Five words and
# two numbers for each, made up so that they can be read: the first number is "I am a colour", the second "I am a
# garment".

# %%
five = ["a", "red", "dress", "on", "white"]
q = np.array([[0, 0], [0, 4], [4, 0], [0, 0], [0, 4]], float)  # colours look for garments, garments for colours
k = np.array([[0, 0], [2, 0], [0, 2], [0, 0], [1, 0]], float)  # "white" stands far away, and its key is weaker
values = np.array([[0, 0], [1, 0], [0, 1], [0, 0], [-1, 0]], float)  # 1: red, −1: white; the second: dress

scores = q @ k.T / np.sqrt(2)  # (5, 5): how well each key answers each query
weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)  # softmax: positive, and each row sums to 1
mixed = weights @ values  # (5, 2): each word, with what it attends to mixed in

library, _ = ops.attention.forward(q[None], k[None], values[None], heads=1)
assert np.allclose(library[0], mixed) and np.allclose(weights.sum(1), 1)
print("dress becomes", mixed[2].round(2), "(red is [1, 0], white [−1, 0])")
assert mixed[2, 0] > 0.8 and round(weights[2, 1], 2) == 0.93
attention_table(weights, five, five, "softmax(q·kᵀ/√d)")

# %% [markdown]
# "dress" attends to "red" (0.93 in its row), "red" and "white" to "dress". The words that ask for nothing attend to all
# alike.
#
# Why 1/√d? If q and k have d numbers of variance 1, then q·k has the variance d. Large scores make the softmax a choice
# of one, and where it has chosen, its gradient is nearly zero:
#
# $$p = \mathrm{softmax}(s): \qquad \frac{\partial p_i}{\partial s_j} = p_i (\delta_{ij} - p_j), \qquad ds = p \odot (dp - \textstyle\sum_j p_j\, dp_j).$$

# %%
d, length = 64, 16
q64, k64 = rng.standard_normal((2, 1000, length, d))
for name, factor in (("with 1/√d", 1 / np.sqrt(d)), ("without", 1.0)):
    p, backward = ops.softmax.forward((q64[:, :1] @ k64.swapaxes(1, 2))[:, 0] * factor)  # (1000, 16)
    dp = rng.standard_normal(p.shape)
    (ds,) = backward(dp)
    by_hand = p * (dp - (p * dp).sum(1, keepdims=True))
    assert np.allclose(ds, by_hand)
    share = float(np.median(p.max(1)))
    print(
        f"{name:>9}: the largest weight is {share:.2f} (1/16 = 0.06 would be all alike), gradient {np.abs(ds).mean():.4f}"
    )
assert share > 0.9
errors = gradcheck.op_errors(ops.attention, *rng.standard_normal((3, 2, 3, 4)), heads=2)
assert max(errors) < 1e-6

# %% [markdown]
# ## The same word in two prompts
#
# The text encoder is two layers of self-attention on top of the word vectors. What it says of "dress" depends on the
# rest:

# %%
first, second = pipe.encode_prompt([f"a {colour} dress on a white background" for colour in ("red", "blue")])
before = pipe.denoiser.text_encoder.embeddings.token_embedding.weight.data[words.index("dress")]
dress = 3  # its place behind "begin", "a", "red"
cosine = float(first[dress] @ second[dress] / np.linalg.norm(first[dress]) / np.linalg.norm(second[dress]))
print(f"'dress' beside red and 'dress' beside blue: cosine {cosine:.2f}; before the encoder they are one vector")
assert cosine < 0.9

# %% [markdown]
# ## Where does a word act?
#
# In the U-Net the *image's places* ask, and the *words* answer: cross-attention. Its weights, seen for one word over
# all places, are a map of where the word acts. Ours has cross-attention at 4×4 places, so that the maps are coarse.
# Over the steps, for one word:

# %%
prompt = "a red dress on a gray background"
maps = tinydiff.attention_maps(pipe, prompt, seed=4)  # .maps (steps, words, 4, 4)


def frame(step: int):
    """What is expected at a step, and where each of four words acts."""
    chosen = [maps.words.index(word) for word in ("red", "dress", "gray", "background")]
    shown = [overlay(maps.predicted[step], maps.maps[step, place]) for place in chosen]
    return viz.panels([maps.predicted[step], *shown], ["expected", *(maps.words[place] for place in chosen)], size=1.7)


viz.stepper(frame, len(maps.maps), shown=[0, 8, 16, 24], columns=1)

# %%
mean = maps.maps.mean(0)  # (words, 4, 4)
edge = np.ones((4, 4), bool)
edge[1:3, 1:3] = False
for word in ("dress", "gray"):
    own = mean[maps.words.index(word)]
    print(f"{word:>6}: weight {own[~edge].mean():.3f} in the middle, {own[edge].mean():.3f} at the edge")
total = mean.sum(0).mean()
print(f"all seven words together: {total:.2f}; the rest goes to begin, end and padding")
assert total < 0.5

# %% [markdown]
# Bright places attend to the word. The maps are less tidy than those in papers about large models, for a reason: the
# text encoder has already spread each word over all places of the prompt (notebook 00), so that "on" knows of "red" as
# well, and more than half of the attention goes to tokens without a word. A map shows where a *token* is attended to,
# and a token is not only its word.
#
# ## Guidance
#
# A prompt can be exaggerated. Ask the network twice, conditioned on the text (c) and unconditional, with the empty
# prompt (u), and go further in the direction from u to c: $u + s\,(c - u)$, with the *guidance scale* s. At s = 1 that
# is c. In training every tenth caption is empty, so that the network knows both. This is *classifier-free guidance*:

# %%
from tinydiff.diffusion import classifier_free_guidance, ddim_step, sample
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL

show(classifier_free_guidance)

# %% [markdown]
# It makes the function that a sampler calls of the one that the network is, and that is all that there is to do:

# %%
text = pipe.encode_prompt(["a green coat on a black background"])  # (1, 16, 96)
with tinydiff.no_grad():
    empty = pipe.denoiser.text_encoder(pipe.vocabulary.unconditional(1)).data
start = np.random.default_rng(7).standard_normal((1, *pipe.latent_shape), np.float32)
images = []
for guidance_scale in (0.0, 1.0, 5.0):
    low, high = (share * pipe.schedule.num_train_timesteps for share in GUIDANCE_INTERVAL)
    predict = classifier_free_guidance(pipe.predict, text, empty, guidance_scale, (low, high))
    latents = sample(ddim_step, predict, start, pipe.schedule, 25, rng, pipe.prediction_type)
    images.append(pipe.decode(latents)[0])
same = pipe.generate(["a green coat on a black background"], seed=7)[0]  # guidance scale 5 is its default
assert np.array_equal(images[-1], same)
viz.grid(np.stack(images), ["unconditional", "guidance scale 1", "guidance scale 5"], columns=3, scale=4)

# %% [markdown]
# The same noise each time. Now for eight prompts and five scales:

# %%
prompts = [f"a {colour} {garment} on a white background" for colour, garment in zip(COLOURS, GARMENTS, strict=False)]
scales = (0.0, 1.0, 2.0, 5.0, 12.0)
rows = [pipe.generate(prompts, guidance_scale=scale, seed=2) for scale in scales]
print("rows: guidance scale", *scales)
viz.grid(
    np.concatenate(rows),
    [""] * len(prompts) * 4 + [p.removesuffix(" on a white background") for p in prompts],
    columns=8,
    scale=2,
)

# %% [markdown]
# At 0 the images are unconditional. At 1 most images are right, at 5 nearly all; more than that changes little but the
# contrast. The price is diversity: with guidance, images resemble each other. Measured on 120 prompts, by the
# evaluation classifier and by the mean distance between images of one prompt:

# %%
from tinydiff.evaluation.evaluate import drawn_prompts, features_of

asked_prompts, asked = drawn_prompts(120, False, np.random.default_rng(1))
right, spread = {}, {}
for interval in ((0.0, 1.0), GUIDANCE_INTERVAL):
    for scale in (1.0, 5.0):
        guidance = {"guidance_scale": scale, "guidance_interval": interval, "seed": 1}
        images = pipe.generate(asked_prompts, **guidance)
        right[interval, scale] = float((classified(images, "garment") == asked[0]).mean())
        alike = features_of(classifier, pipe.generate(["a blue shirt on a white background"] * 24, **guidance))
        spread[interval, scale] = float(np.linalg.norm(alike[:, None] - alike, axis=-1).mean())
        print(
            f"guidance scale {scale:.0f} at noise levels {interval}: {right[interval, scale]:4.0%} right, spread {spread[interval, scale]:.2f}"
        )
usual = GUIDANCE_INTERVAL
assert right[usual, 5.0] > right[usual, 1.0] + 0.05
assert spread[(0.0, 1.0), 5.0] < spread[usual, 5.0] < spread[usual, 1.0]

# %% [markdown]
# The last lines show a refinement, the *guidance interval*: guidance only at the lower 0.7 of the timesteps. At the
# noisiest levels it would decide at once what every blue shirt looks like; left out there, it costs less diversity and
# images stay right.
#
# ## A combination that never was
#
# Eight pairs of garment and colour were kept out of the training altogether. The model has seen dresses and it has seen
# green things.

# %%
pairs = sorted(UNSEEN)
never = [f"a {list(COLOURS)[colour]} {GARMENTS[garment]} on a grey background" for garment, colour in pairs]
new = pipe.generate(never, seed=0)
viz.grid(new, never, columns=8, scale=3)

# %%
many = pipe.generate(never * 8, seed=3)
garments, colours = np.array(pairs * 8).T
both = (classified(many, "garment") == garments) & (classified(many, "colour") == colours)
print(f"{both.mean():.0%} of {len(many)} images show the garment and the colour that never occurred together")
assert both.mean() > 0.85

# %% [markdown]
# Words combine, because the same attention acts on both, and their vectors are the same in every sentence.
#
# What fails? A word that it does not know is an error, not a guess; two garments or two colours in one prompt are
# outside of its grammar, and come out as one of the two, or as something else altogether:

# %%
try:
    pipe.generate(["a red zebra on a white background"])
except tinydiff.InputError as error:
    print("InputError:", error)
odd = ["a red and blue dress on a white background", "a dress and a sneaker on a white background", "dress red white"]
known_words = [text for text in odd if set(text.split()) <= set(words)]
print("known words only:", known_words)
viz.grid(pipe.generate([text for text in known_words for _ in range(4)], seed=5), columns=4, scale=3)

# %% [markdown]
# ## What the article claims
#
# > At its core, there are two layers: the convolutional layer, which is responsible for image generation, and the
# > self-attention layer, which is responsible for text processing. — the article
#
# Count what each does, and then switch parts off. In the U-Net's transformers, take away the self-attention, or the
# cross-attention, by making their output zero:

# %%
from tinydiff.nn.blocks import TransformerBlock

noise = np.zeros((1, *pipe.latent_shape), np.float32)
table = tinydiff.summary(pipe.denoiser.unet, noise, np.zeros(1), pipe.encode_prompt([prompt])).rows
whole = table[0].multiply_adds
share = {
    layer: sum(r.multiply_adds for r in table if r.layer_type == layer) / whole
    for layer in ("Conv2d", "Attention", "FeedForward")
}
print("multiply-adds of the U-Net:", {layer: f"{part:.0%}" for layer, part in share.items()})
blocks = [module for _, module in pipe.denoiser.unet.named_modules() if isinstance(module, TransformerBlock)]


def without(name: str) -> np.ndarray:
    """Images of the 120 prompts, with one of the two attentions switched off."""
    kept = [getattr(block, name).to_out[0].weight.data for block in blocks]
    biases = [getattr(block, name).to_out[0].bias.data for block in blocks]
    for block in blocks:
        layer = getattr(block, name).to_out[0]
        layer.weight.assign(np.zeros_like(layer.weight.data))
        layer.bias.assign(np.zeros_like(layer.bias.data))
    try:
        return pipe.generate(asked_prompts, seed=1)
    finally:
        for block, weight, bias in zip(blocks, kept, biases, strict=True):
            layer = getattr(block, name).to_out[0]
            layer.weight.assign(weight)
            layer.bias.assign(bias)


variants = {
    "whole": pipe.generate(asked_prompts, seed=1),
    "no self-attention": without("attn1"),
    "no cross-attention": without("attn2"),
}
score = {}
for name, images in variants.items():
    score[name] = [
        float((classified(images, what) == truth).mean())
        for what, truth in zip(("garment", "colour"), asked, strict=False)
    ]
    print(f"{name:>18}: garment {score[name][0]:4.0%}, colour {score[name][1]:4.0%}")
assert score["no cross-attention"][0] < 0.3 and score["whole"][0] > 0.85
viz.grid(np.concatenate([images[:8] for images in variants.values()]), columns=8, scale=2)

# %% [markdown]
# (Rows: whole, without self-attention, without cross-attention.)
#
# **Holds, with corrections.** Convolutions do most of the work of generating, but attention takes part in it. Text
# is processed by self-attention in the text encoder, as the article says; it reaches the image by *cross*-attention,
# without which the prompt has no effect at all. The U-Net's own self-attention is hardly missed at this size, where
# convolutions reach every place; in large images it lets far places agree.
#
# > … the integration of self-attention and Word2Vec embeddings … — the article
#
# **Holds here, does not hold for Stable Diffusion:** tinydiff's text encoder begins with Word2Vec's vectors, as the
# article describes. Stable Diffusion uses CLIP's text encoder, which learnt from 400 million pairs of images and
# captions.
#
# > … a sophisticated framework that enables the generation of images from textual descriptions. — the article
#
# **Holds**, measured above: garments right for nearly all prompts, and for pairs that never occurred.
#
# ## The map of Stable Diffusion
#
# The same classes, given Stable Diffusion 1.x's settings, have its parameters: count them.

# %%
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.unet import UNet, UNetConfig

large_unet = sum(p.data.size for p in UNet(UNetConfig(), rng=None).parameters())  # shapes alone, no memory
large_autoencoder = sum(p.data.size for p in Autoencoder(AutoencoderConfig(), rng=None).parameters())
ours = sum(p.data.size for p in pipe.denoiser.unet.parameters())
print(f"U-Net: Stable Diffusion's {large_unet:,}, ours {ours:,}; its autoencoder {large_autoencoder:,}")
assert large_unet == 859_520_964 and 80e6 < large_autoencoder < 90e6

# %% [markdown]
# | in Stable Diffusion 1.x | here | notebook | what is still different |
# |---|---|---|---|
# | CLIP's text encoder, 123 million parameters, 49,408 tokens, 77 places | [Word2Vec](../tinydiff/models/word2vec.py) and [two layers](../tinydiff/models/text_encoder.py), 0.2 million, 54 words, 16 places | 05 | learnt from 400 million captioned images; causal; parts of words instead of words |
# | autoencoder, 512×512×3 → 64×64×4, 84 million | [the same classes](../tinydiff/models/autoencoder.py), 32×32×3 → 8×8×4, 0.8 million | 04 | a perceptual and an adversarial loss besides |
# | U-Net, 860 million, four levels | [the same classes](../tinydiff/models/unet.py), 4 million, two levels | 01, 02, 03 | wider and deeper; nothing else |
# | time embedding, residual blocks, transformers with cross-attention | [nn/blocks.py](../tinydiff/nn/blocks.py), with the same names | 03, 05 | nothing |
# | scaled linear schedule, predicts ε (2.x: v) | [cosine schedule](../tinydiff/diffusion/schedule.py), predicts v | 03 | ends at 0.5 % of the image; ours ends at none |
# | PLMS, DDIM, DPM-Solver++, 20 to 50 steps | [DDPM, DDIM, DPM-Solver++(2M), Heun](../tinydiff/diffusion/samplers.py), 25 steps | 03 | PLMS |
# | guidance scale 7.5 everywhere | [guidance scale 5, in an interval](../tinydiff/diffusion/guidance.py) | 05 | a newer idea |
# | scaling factor 0.18215 | measured: 0.71 | 04 | nothing |
# | trained on two billion images, 150,000 hours of a GPU | 60,000 garments, half an hour of two CPU cores | | the world |
# | safety checker, invisible watermark | none: it knows garments only | | |
#
# ## What to take away
#
# - Word2Vec puts words near each other that can replace each other; attention gives a word the meaning that it has *here*.
# - Attention is a mixture: softmax(q·kᵀ/√d)·v. In self-attention all three come from one sequence, in cross-attention the
#   questions come from the image and the answers from the words.
# - Classifier-free guidance exaggerates what the words change. It buys accuracy with diversity, and where in the noise it acts matters.
# - Words combine in images because they combine in vectors.
# - Stable Diffusion is these parts, two hundred times larger.
#
# ## Questions
#
# 1. Why is the loss of Word2Vec not zero even for the best vectors?
#
# <details><summary>Answer</summary>
# The same pair occurs both as true neighbours and, by chance, as a random pair. The best u·v is the logarithm of how
# much more often the pair occurs than by chance (minus ln k), and there the loss is that of a fair bet.
# </details>
#
# 2. Shuffle the words of a prompt. What changes in an attention layer without position embeddings?
#
# <details><summary>Answer</summary>
# Nothing but the order of its results: each word asks the same questions and gets the same answers. Position
# embeddings, added to the word vectors, are what tells the order.
# </details>
#
# 3. Guidance asks the network twice. Could one train a network that needs to be asked once?
#
# <details><summary>Answer</summary>
# Yes: condition it on the scale as well, and train it to predict u + s·(c − u) of the first network. That is guidance
# distillation (Meng et al. 2022, arXiv:2210.03142).
# </details>
#
# ## Sources
#
# - Mikolov et al. 2013, *Distributed Representations of Words and Phrases*, [arXiv:1310.4546](https://arxiv.org/abs/1310.4546)
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762)
# - Ho & Salimans 2022, *Classifier-Free Diffusion Guidance*, [arXiv:2207.12598](https://arxiv.org/abs/2207.12598)
# - Kynkäänniemi et al. 2024, *Applying Guidance in a Limited Interval*, [arXiv:2404.07724](https://arxiv.org/abs/2404.07724)
# - Hertz et al. 2022, *Prompt-to-Prompt* (attention maps), [arXiv:2208.01626](https://arxiv.org/abs/2208.01626)
# - Radford et al. 2021, *CLIP*, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020)
# - Rombach et al. 2022, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752)
# - The article *Introduction into Diffusion & Latent Diffusion Models*
