# %% [markdown]
# # Exercises 6: Stable Diffusion
#
# Fill in what is missing, run the cell, and run the check below it. A check says "right", or what was expected, what
# came, and where. `dy` is the gradient that arrives from above, ∂L/∂y, which has the shape of y. The notebook is
# [06 Stable Diffusion](../06_stable_diffusion.ipynb).

# %%
import numpy as np

from tinydiff.exercises import check

# The names that a residual block's layers have in a single file, and in diffusers' folders.
BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

# %% [markdown]
# ## 6.1 A merge of byte-pair encoding
#
# *2 points, easy, about 7 lines*
#
# A word is a list of symbols. A merge makes one symbol of two that stand side by side, wherever they do. `symbols` is a
# list of strings, `pair` a tuple of two. Go from the left to the right: what has just been merged is not merged again,
# so that of `a a a` with the pair (a, a) comes `aa a`. Return a new list, and leave `symbols` as it is. Notebook
# section: *Words of any kind: byte-pair encoding*.
#
# <details><summary>Hint</summary>
# Keep a list of what is finished. For each symbol: is it the second of a pair whose first is the last in that list?
# </details>
#
# <details><summary>Another hint</summary>
# Compare both: of the pair (a, a) the symbol <code>aa</code> is no a any more.
# </details>


# %%
def merge_pair(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    ### BEGIN SOLUTION
    finished: list[str] = []
    for symbol in symbols:
        if finished and (finished[-1], symbol) == pair:
            finished[-1] += symbol
        else:
            finished.append(symbol)
    return finished
    ### END SOLUTION


# %%
check("6.1", merge_pair)

# %% [markdown]
# ## 6.2 The causal mask
#
# *2 points, easy, about 4 lines*
#
# CLIP's text encoder was trained to read from the left to the right: word i sees the words 0 … i and none that comes
# after it. `scores` (N, L, L) are q·kᵀ/√d: rows are queries i, columns are keys j. Return the weights (N, L, L), the
# softmax along the last axis, in which every key j > i has the weight 0 and each row sums to 1. An answer is graded
# without the others: write the softmax inside this function. Notebook section: *A text encoder that reads from left to
# right*.
#
# <details><summary>Hint</summary>
# What score has a power e^score of 0? <code>np.triu(np.ones((L, L), bool), 1)</code> is True above the diagonal.
# </details>


# %%
def causal_weights(scores: np.ndarray) -> np.ndarray:
    ### BEGIN SOLUTION
    later = np.triu(np.ones(scores.shape[1:], bool), 1)  # (query, key)
    masked = np.where(later, -np.inf, scores)
    powers = np.exp(masked - masked.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
    ### END SOLUTION


# %%
check("6.2", causal_weights)

# %% [markdown]
# ## 6.3 QuickGELU and its gradient
#
# *2 points, medium, about 4 lines*
#
# CLIP's activation is an approximation of GELU that needs no error function:
#
# $$y = x \cdot \sigma(1.702\, x), \qquad \sigma(s) = \frac{1}{1 + e^{-s}}$$
#
# `x` and `dy` have the same shape. Return y and dx = ∂L/∂x. Notebook section: *A text encoder that reads from left to
# right*.
#
# <details><summary>Hint</summary>
# The derivative of σ(s) is σ(s)·(1 − σ(s)). x stands in two places.
# </details>


# %%
def quick_gelu_and_grad(x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ### BEGIN SOLUTION
    sigma = 1 / (1 + np.exp(-1.702 * x))
    return x * sigma, dy * (sigma + 1.702 * x * sigma * (1 - sigma))
    ### END SOLUTION


# %%
check("6.3", quick_gelu_and_grad)

# %% [markdown]
# ## 6.4 A step of PLMS
#
# *3 points, medium, about 6 lines*
#
# DDIM goes from ᾱ = a to the next timestep's ᾱ = p along the ε that the network sees *here*. PLMS looks ahead: it goes
# along a mix of this ε and those of the steps before, ε₀ the newest:
#
# $$\tfrac12 (3\,\varepsilon_0 - \varepsilon_1), \qquad \tfrac1{12} (23\,\varepsilon_0 - 16\,\varepsilon_1 + 5\,\varepsilon_2), \qquad \tfrac1{24} (55\,\varepsilon_0 - 59\,\varepsilon_1 + 37\,\varepsilon_2 - 9\,\varepsilon_3)$$
#
# With the mix ε′ in the place of ε the step is DDIM's:
#
# $$\hat x_0 = \frac{x - \sqrt{1 - a}\,\varepsilon'}{\sqrt a}, \qquad x_p = \sqrt p\,\hat x_0 + \sqrt{1 - p}\,\varepsilon'$$
#
# `x` and each of `noises` have one shape; `noises` is a list of two, three or four ε, the newest first. Return x_p.
# Notebook section: *PLMS: looking ahead*.
#
# <details><summary>Hint</summary>
# A dictionary from the list's length to the weights. Do the weights of each mix sum to 1?
# </details>


# %%
def plms(x: np.ndarray, noises: list[np.ndarray], a: float, p: float) -> np.ndarray:
    ### BEGIN SOLUTION
    weights = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}
    mixed = sum(w * noise for w, noise in zip(weights[len(noises)], noises, strict=True))
    x0 = (x - np.sqrt(1 - a) * mixed) / np.sqrt(a)
    return np.sqrt(p) * x0 + np.sqrt(1 - p) * mixed
    ### END SOLUTION


# %%
check("6.4", plms)

# %% [markdown]
# ## 6.5 A name in Stable Diffusion's file
#
# *2 points, medium, about 9 lines*
#
# In the file that most people have, the U-Net's way down is one list, `input_blocks.0` to `input_blocks.11`. Block 0 is
# the first convolution. Then each level has three: two residual blocks, and one that halves the image (the last level
# has none). In `input_blocks.i.j.rest`, j = 0 is a residual block and j = 1 the transformer behind it. In diffusers'
# folders, and here, the same layers are named by level:
#
# | in the file | here |
# |---|---|
# | `input_blocks.1.0.in_layers.2.weight` | `down_blocks.0.resnets.0.conv1.weight` |
# | `input_blocks.5.1.proj_in.bias` | `down_blocks.1.attentions.1.proj_in.bias` |
# | `input_blocks.6.0.op.bias` | `down_blocks.1.downsamplers.0.conv.bias` |
#
# `BLOCK`, in the first cell, has the names of a residual block's layers; a transformer's stay as they are. Return our
# name for `name`, which begins with `input_blocks.` and is not of block 0. Notebook section: *What is in the file*.
#
# <details><summary>Hint</summary>
# <code>divmod(i - 1, 3)</code> is (level, layer). <code>name.split(".", 3)</code> cuts off the first three parts.
# </details>


# %%
def diffusers_name(name: str) -> str:
    ### BEGIN SOLUTION
    _, block, place, rest = name.split(".", 3)
    level, layer = divmod(int(block) - 1, 3)
    if rest.startswith("op."):
        return f"down_blocks.{level}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    if place == "1":
        return f"down_blocks.{level}.attentions.{layer}.{rest}"
    stem, kind = rest.rsplit(".", 1)
    return f"down_blocks.{level}.resnets.{layer}.{BLOCK[stem]}.{kind}"
    ### END SOLUTION


# %%
check("6.5", diffusers_name)
