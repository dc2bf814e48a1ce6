# %% [markdown]
# # Exercises 3: U-Net for denoising and diffusion
#
# Fill in what is missing, run the cell, and run the check below it. A check says "right", or what was expected, what
# came, and where. Images are `(N, H, W, C)`: images, rows, columns, channels. ᾱ, "alpha bar", is the share of the
# image's variance that is left at a noise level: 1 is the image, 0 noise alone. The notebook is
# [03 U-Net for denoising and diffusion](../03_unet_for_denoising_and_diffusion.ipynb).

# %%
from collections.abc import Callable

import numpy as np

from tinydiff.exercises import check

# %% [markdown]
# ## 3.1 The cosine schedule
#
# *2 points, medium, about 4 lines*
#
# How much of the image is left after each of T steps? The cosine schedule begins with
#
# $$f(t) = \cos^2\!\left( \frac{t/T + 0.008}{1.008} \cdot \frac{\pi}{2} \right), \qquad \beta_t = 1 - \frac{f(t)}{f(t-1)}
# \quad (t = 1 \dots T), \qquad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s).$$
#
# Since f(T) is 0, the last β would be 1 and nothing would be left: hold every β at 0.999 or less, before the product.
# `steps` is T. Return ᾱ₁ … ᾱ_T, an array (T,). Notebook section: *Noise, little by little and all at once*.
#
# <details><summary>Hint</summary>
# f is needed at T + 1 places, 0 to T. <code>np.cumprod</code> is the running product.
# </details>


# %%
def cosine_alpha_bar(steps: int) -> np.ndarray:
    ### BEGIN SOLUTION
    t = np.arange(steps + 1)
    f = np.cos((t / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    return np.cumprod(1 - betas)
    ### END SOLUTION


# %%
check("3.1", cosine_alpha_bar)

# %% [markdown]
# ## 3.2 Noise in closed form
#
# *1 point, easy, about 2 lines*
#
# Many small steps of noise are one:
#
# $$x_t = \sqrt{\bar\alpha} \; x_0 + \sqrt{1 - \bar\alpha} \; \varepsilon$$
#
# `x0` and `noise` (ε) are (N, H, W, C). `alpha_bar` is (N,): in training each image has a noise level of its own.
# Return x_t (N, H, W, C). Notebook section: *Noise, little by little and all at once*.
#
# <details><summary>Hint</summary>
# NumPy lines up the last axes. What shape must ᾱ have to go along the first?
# </details>


# %%
def noised(x0: np.ndarray, noise: np.ndarray, alpha_bar: np.ndarray) -> np.ndarray:
    ### BEGIN SOLUTION
    a = alpha_bar[:, None, None, None]
    return np.sqrt(a) * x0 + np.sqrt(1 - a) * noise
    ### END SOLUTION


# %%
check("3.2", noised)

# %% [markdown]
# ## 3.3 The time embedding
#
# *2 points, easy, about 4 lines*
#
# The network is conditioned on the timestep t by a vector of waves. With D/2 frequencies
#
# $$f_k = 10000^{-k / (D/2)}, \qquad k = 0 \dots D/2 - 1,$$
#
# the embedding of t is [cos(t·f₀), cos(t·f₁), …, sin(t·f₀), sin(t·f₁), …]: all cosines, then all sines. `t` is (N,),
# `width` is D, an even number. Return (N, D). Notebook section: *How much noise is there? The time embedding*.
#
# <details><summary>Hint</summary>
# The products of every t with every frequency are a matrix: <code>t[:, None] * frequencies</code>.
# </details>


# %%
def sinusoidal_embedding(t: np.ndarray, width: int) -> np.ndarray:
    ### BEGIN SOLUTION
    half = width // 2
    frequencies = 10_000.0 ** (-np.arange(half) / half)
    angles = t[:, None] * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    ### END SOLUTION


# %%
check("3.3", sinusoidal_embedding)

# %% [markdown]
# ## 3.4 ε, x0 and v
#
# *2 points, medium, about 8 lines*
#
# A network that sees $x_t = \sqrt{\bar\alpha}\, x_0 + \sqrt{1 - \bar\alpha}\, \varepsilon$ may have learnt to predict ε, or x0, or
#
# $$v = \sqrt{\bar\alpha}\, \varepsilon - \sqrt{1 - \bar\alpha}\, x_0 .$$
#
# `prediction` is what it says and `prediction_type` which of the three that is, with the names of diffusers'
# configurations: "epsilon", "sample" (x0) or "v_prediction". `x_t` and `prediction` are (N, H, W, C), `alpha_bar` a number
# inside (0, 1). Return x0 and ε, in this order. Notebook section: *ε, x0 or v*.
#
# <details><summary>Hint</summary>
# For "epsilon" and "sample", solve the first equation for the other one. For "v_prediction", solve both for x0 and ε:
# multiply one by √ᾱ, the other by √(1 − ᾱ), and add or subtract.
# </details>


# %%
def read_prediction(
    prediction: np.ndarray, x_t: np.ndarray, alpha_bar: float, prediction_type: str
) -> tuple[np.ndarray, np.ndarray]:
    signal, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    ### BEGIN SOLUTION
    if prediction_type == "epsilon":
        return (x_t - sigma * prediction) / signal, prediction
    if prediction_type == "sample":
        return prediction, (x_t - signal * prediction) / sigma
    return signal * x_t - sigma * prediction, sigma * x_t + signal * prediction
    ### END SOLUTION


# %%
check("3.4", read_prediction)

# %% [markdown]
# ## 3.5 The posterior
#
# *3 points, hard, about 4 lines*
#
# An image `x0` is known, and how it looks at the noise level ᾱ = a, `x_a`. What was x_p, at a cleaner level p > a? Two
# normal distributions speak of it: from the image, $x_p \sim N(\sqrt p\, x_0,\; 1 - p)$; from what was seen,
# $x_a = \sqrt{a/p}\; x_p + \sqrt{1 - a/p}\; \varepsilon$. Bayes' rule makes one normal distribution of both. Return its mean (N, H, W, C)
# and its variance, a number. At p = 1 they are x0 and 0. Notebook section: *DDPM and DDIM: one step*.
#
# <details><summary>Hint</summary>
# Precisions, 1/variance, add up; the mean is that of both means, weighted by their precisions. As a statement on x_p, the
# second one has the mean x_a/√(a/p) and the variance (1 − a/p)/(a/p).
# </details>
#
# <details><summary>Another hint</summary>
# So that p = 1 divides nothing by 0, multiply numerator and denominator by (1 − p)·(1 − a/p). The denominator becomes
# 1 − a.
# </details>


# %%
def posterior(x0: np.ndarray, x_a: np.ndarray, a: float, p: float) -> tuple[np.ndarray, float]:
    ### BEGIN SOLUTION
    beta = 1 - a / p
    mean = (beta * np.sqrt(p) * x0 + (1 - p) * np.sqrt(a / p) * x_a) / (1 - a)
    return mean, beta * (1 - p) / (1 - a)
    ### END SOLUTION


# %%
check("3.5", posterior)

# %% [markdown]
# ## 3.6 A step of DDIM
#
# *2 points, easy, about 2 lines*
#
# At the level ᾱ = a the network has seen `x_a` (N, H, W, C) and says which `noise` (N, H, W, C) is in it. Find the
# image x̂0 that this means, and mix the *same* noise with it again, for the next level of the list, ᾱ = p:
#
# $$x_p = \sqrt p \; \hat x_0 + \sqrt{1 - p} \; \hat\varepsilon$$
#
# Return x_p. At the last step p is 1. Notebook section: *DDPM and DDIM: one step*.
#
# <details><summary>Hint</summary>
# x_a = √a·x̂0 + √(1 − a)·ε̂: solve it for x̂0 first.
# </details>


# %%
def ddim_step(x_a: np.ndarray, noise: np.ndarray, a: float, p: float) -> np.ndarray:
    ### BEGIN SOLUTION
    x0 = (x_a - np.sqrt(1 - a) * noise) / np.sqrt(a)
    return np.sqrt(p) * x0 + np.sqrt(1 - p) * noise
    ### END SOLUTION


# %%
check("3.6", ddim_step)

# %% [markdown]
# ## 3.7 A step of DDPM
#
# *2 points, medium, about 5 lines*
#
# The same, but x_p is *drawn*: from the posterior of 3.5, with x̂0 in the place of x0,
#
# $$x_p = \frac{(1 - a/p) \sqrt p \; \hat x_0 + (1 - p) \sqrt{a/p} \; x_a}{1 - a}
# + \sqrt{\frac{(1 - a/p)(1 - p)}{1 - a}} \; \varepsilon_\text{fresh}$$
#
# `x_a`, `noise` (what the network says) and `fresh` (drawn from N(0, 1) beforehand) are (N, H, W, C). Return x_p.
#
# <details><summary>Hint</summary>
# x̂0 comes from x_a and noise, as in 3.6. After that, noise is not used any more.
# </details>


# %%
def ddpm_step(x_a: np.ndarray, noise: np.ndarray, a: float, p: float, fresh: np.ndarray) -> np.ndarray:
    ### BEGIN SOLUTION
    x0 = (x_a - np.sqrt(1 - a) * noise) / np.sqrt(a)
    beta = 1 - a / p
    mean = (beta * np.sqrt(p) * x0 + (1 - p) * np.sqrt(a / p) * x_a) / (1 - a)
    return mean + np.sqrt(beta * (1 - p) / (1 - a)) * fresh
    ### END SOLUTION


# %%
check("3.7", ddpm_step)

# %% [markdown]
# ## 3.8 IADB's sampling loop
#
# *2 points, easy, about 3 lines*
#
# Iterative α-(de)blending: the network `direction(x, alpha)` says which way the straight line from noise to data goes, at
# the place x and the share α of data. Go from `x` at α = 0 in `steps` equal steps to α = 1, and ask anew at each:
#
# $$x_{\alpha + 1/n} = x_\alpha + \tfrac1n \, D(x_\alpha, \alpha)$$
#
# `x` (N, …) is noise; return where it ends, (N, …). Notebook section: *IADB: the same on a straight line*.
#
# <details><summary>Hint</summary>
# The network is asked at α = 0, 1/n, …, (n − 1)/n: where each step begins.
# </details>
#
# <details><summary>Another hint</summary>
# <code>x += …</code> would change the caller's noise. <code>x = x + …</code> makes a new array.
# </details>


# %%
def iadb_samples(direction: Callable[[np.ndarray, float], np.ndarray], x: np.ndarray, steps: int) -> np.ndarray:
    ### BEGIN SOLUTION
    for i in range(steps):
        x = x + direction(x, i / steps) / steps
    return x
    ### END SOLUTION


# %%
check("3.8", iadb_samples)
