# %% [markdown]
# # Exercises 5: text to image
#
# Fill in what is missing, run the cell, and run the check below it. A check says "right", or what was expected, what
# came, and where. `dy` and `dloss` are gradients that arrive from above: ∂L/∂y, which has the shape of y, and
# ∂L/∂loss. The notebook is [05 Conclusion: text to image](../05_conclusion_text_to_image.ipynb).

# %%
import numpy as np

from tinydiff.exercises import check

# %% [markdown]
# ## 5.1 The softmax
#
# *2 points, easy, about 2 lines*
#
# Make positive numbers that sum to 1 out of any numbers, along the last axis:
#
# $$y_i = \frac{e^{x_i}}{\sum_j e^{x_j}}$$
#
# `x` (…, K) has any number of axes, one or more; y has the same shape. It must work for numbers such as 1000 and −1000
# as well, in one row or in different rows. Notebook section: *Self-attention by hand*.
#
# <details><summary>Hint</summary>
# <code>np.exp(1000)</code> is infinite. What happens to the fraction if you add the same number to every x of a row?
# </details>
#
# <details><summary>Another hint</summary>
# <code>x.max(-1, keepdims=True)</code> keeps the last axis, with length 1, so that it fits beside x.
# </details>


# %%
def softmax_forward(x: np.ndarray) -> np.ndarray:
    ### BEGIN SOLUTION
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
    ### END SOLUTION


# %%
check("5.1", softmax_forward)

# %% [markdown]
# ## 5.2 Its gradient
#
# *2 points, medium, 1 line*
#
# In the softmax each y of a row depends on every x of that row (δ is 1 where i = j, else 0):
#
# $$\frac{\partial y_i}{\partial x_j} = y_i \, (\delta_{ij} - y_j)$$
#
# `y` (…, K) is what the softmax gave, `dy` the gradient that arrives, of the same shape. Return dx = ∂L/∂x, of the same
# shape. No K×K array is needed. Notebook section: *Self-attention by hand*.
#
# <details><summary>Hint</summary>
# dx at j is the sum over i of dy at i times ∂y at i by x at j. Write the sum as two sums, one with δ and one without.
# </details>


# %%
def softmax_grad(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    ### BEGIN SOLUTION
    return y * (dy - (dy * y).sum(-1, keepdims=True))
    ### END SOLUTION


# %%
check("5.2", softmax_grad)

# %% [markdown]
# ## 5.3 Attention
#
# *2 points, medium, about 4 lines*
#
# L queries ask, M keys answer, and each query gets a mixture of the M values. For each of N examples:
#
# $$y = \mathrm{softmax}\left( \frac{q \, k^\mathsf{T}}{\sqrt{d}} \right) v$$
#
# The softmax is along the last axis. `q` (N, L, d), `k` and `v` (N, M, d) → y (N, L, d). One head. An answer is
# graded without the others: write the softmax inside this function. Notebook section: *Self-attention by hand*.
#
# <details><summary>Hint</summary>
# <code>a @ b</code> multiplies the matrices in the last two axes, for each n. <code>k.swapaxes(1, 2)</code> is
# (N, d, M). Write the shape behind each line.
# </details>


# %%
def attention_forward(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    ### BEGIN SOLUTION
    scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[2])  # (N, L, M)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights @ v
    ### END SOLUTION


# %%
check("5.3", attention_forward)

# %% [markdown]
# ## 5.4 Its three gradients
#
# *3 points, hard, about 8 lines*
#
# Go through attention backwards, one step at a time:
#
# $$s = \frac{q \, k^\mathsf{T}}{\sqrt{d}}, \qquad p = \mathrm{softmax}(s), \qquad y = p \, v$$
#
# `q` (N, L, d), `k` and `v` (N, M, d), and the gradient `dy` (N, L, d). Return dq, dk and dv, each of the shape of what
# it is the gradient of. Compute p anew. As in 5.3, write the softmax inside this function.
#
# <details><summary>Hint</summary>
# For a product of matrices y = a b: da = dy bᵀ and db = aᵀ dy. The shapes allow nothing else, as long as L, M and d
# differ.
# </details>
#
# <details><summary>Another hint</summary>
# In order: dv from dy; dp from dy; ds from dp by the gradient of the softmax (5.2); dq and dk from ds. What stands
# between q kᵀ and s?
# </details>


# %%
def attention_grads(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ### BEGIN SOLUTION
    root = np.sqrt(q.shape[2])
    p = np.exp(q @ k.swapaxes(1, 2) / root)  # (N, L, M)
    p /= p.sum(-1, keepdims=True)
    dp = dy @ v.swapaxes(1, 2)  # (N, L, M)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True))
    dq, dk = ds @ k / root, ds.swapaxes(1, 2) @ q / root
    return dq, dk, p.swapaxes(1, 2) @ dy
    ### END SOLUTION


# %%
check("5.4", attention_grads)

# %% [markdown]
# ## 5.5 Skip-gram and its gradients
#
# *3 points, hard, about 10 lines*
#
# Word2Vec learns from pairs of words. v is the vector of a word, u that of a word that stood near it, and u₁ … u_k
# those of k words drawn at random. The loss is small where u·v is large and each uᵢ·v is small:
#
# $$\mathrm{loss} = \frac1N \sum_n \Big[ -\ln \sigma(u \cdot v) - \sum_{i=1}^{k} \ln \sigma(-u_i \cdot v) \Big], \qquad \sigma(s) = \frac{1}{1 + e^{-s}}$$
#
# `centre` (v) and `context` (u) are (N, D), `negatives` (all uᵢ) is (N, k, D): N pairs, vectors of D numbers. `dloss`
# is a number, the gradient ∂L/∂loss. Return the number loss, and ∂L/∂v (N, D), ∂L/∂u (N, D) and ∂L/∂uᵢ (N, k, D).
# Notebook section: *Words become vectors: Word2Vec*.
#
# <details><summary>Hint</summary>
# First the scores, u·v (N,) and uᵢ·v (N, k): <code>np.einsum("nd,nkd->nk", centre, negatives)</code> is the second.
# Then the gradients by the scores, then those by the vectors.
# </details>
#
# <details><summary>Another hint</summary>
# The derivative of ln σ(s) is 1 − σ(s). And 1 − σ(−s) = σ(s).
# </details>


# %%
def skip_gram(
    centre: np.ndarray, context: np.ndarray, negatives: np.ndarray, dloss: float
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    ### BEGIN SOLUTION
    n = len(centre)
    near = 1 / (1 + np.exp(-np.einsum("nd,nd->n", centre, context)))  # σ of the scores
    random = 1 / (1 + np.exp(-np.einsum("nd,nkd->nk", centre, negatives)))
    loss = -(np.log(near).sum() + np.log(1 - random).sum()) / n
    dnear = dloss * (near - 1)[:, None] / n  # (N, 1)
    drandom = dloss * random[..., None] / n  # (N, k, 1)
    dcentre = dnear * context + (drandom * negatives).sum(1)
    return loss, dcentre, dnear * centre, drandom * centre[:, None]
    ### END SOLUTION


# %%
check("5.5", skip_gram)

# %% [markdown]
# ## 5.6 Classifier-free guidance
#
# *2 points, easy, about 5 lines*
#
# The network is asked twice: `u` is its unconditional prediction, for the empty prompt, `c` that for the prompt, both
# (N, H, W, C). With the guidance scale s (`guidance_scale`) the prediction is
#
# $$u + s \, (c - u)$$
#
# It acts only at timesteps t with `low` ≤ t < `high`. At all others the prediction is that for the prompt. One
# exception: guidance scale 0 means that there is no prompt, so that with it the prediction is the unconditional one at
# *every* timestep. Return the prediction to use at timestep `t`.
#
# <details><summary>Hint</summary>
# Three cases, in this order: no prompt; outside the interval; else the formula. What does the formula give for s = 1?
# </details>


# %%
def classifier_free_guidance(
    u: np.ndarray, c: np.ndarray, guidance_scale: float, t: int, low: int, high: int
) -> np.ndarray:
    ### BEGIN SOLUTION
    if guidance_scale == 0:
        return u
    if not low <= t < high:
        return c
    return u + guidance_scale * (c - u)
    ### END SOLUTION


# %%
check("5.6", classifier_free_guidance)

# %% [markdown]
# ## 5.7 The nearest words
#
# *2 points, medium, about 5 lines*
#
# Which words are used like a given one? Those whose vectors point the same way: the cosine of the angle between two
# vectors is large,
#
# $$\cos(a, b) = \frac{a \cdot b}{\lVert a \rVert \; \lVert b \rVert}$$
#
# `vectors` (V, D) has a row for each of V words, and none is zero; `word` is the number of a row; `k` is less than V.
# Return two arrays (k,): the numbers of the k words that are nearest to `word`, the nearest first, without the word
# itself; and their cosines in the same order. Notebook section: *Words become vectors: Word2Vec*.
#
# <details><summary>Hint</summary>
# <code>np.linalg.norm(vectors, axis=1)</code> are the lengths of all rows. <code>np.argsort</code> gives indices in
# ascending order.
# </details>


# %%
def nearest_words(vectors: np.ndarray, word: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    ### BEGIN SOLUTION
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = vectors @ vectors[word] / (lengths * lengths[word])  # (V,)
    order = np.argsort(-cosines)
    order = order[order != word][:k]
    return order, cosines[order]
    ### END SOLUTION


# %%
check("5.7", nearest_words)
