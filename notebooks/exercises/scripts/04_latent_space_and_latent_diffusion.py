# %% [markdown]
# # Exercises 4: latent space and latent diffusion
#
# Fill in what is missing, run the cell, and run the check below it. A check says "right", or what was expected, what
# came, and where. Images and latents are `(N, H, W, C)`: images, rows, columns, channels. `dz` and `dkl`
# are gradients that arrive from above: ∂L/∂z and ∂L/∂KL for a loss L. The notebook is
# [04 Latent space and latent diffusion](../04_latent_space_and_latent_diffusion.ipynb).

# %%
from collections.abc import Callable

import numpy as np

from tinydiff.exercises import check

# %% [markdown]
# ## 4.1 The reparameterisation
#
# *2 points, easy, about 4 lines*
#
# The encoder gives each number of a latent a mean μ and the logarithm of a variance, ln σ². The decoder sees a sample z
# from that distribution. Write it so that gradients pass through it, with noise ε that was drawn beforehand from
# N(0, 1):
#
# $$z = \mu + e^{\frac12 \ln \sigma^2} \, \varepsilon$$
#
# `mean` (μ), `log_variance` (ln σ²), `noise` (ε) and `dz`, the gradient that arrives, all have one shape, (N, H, W, C).
# Return three arrays of that shape: z, ∂L/∂μ and ∂L/∂(ln σ²). Notebook section: *How it is trained*.
#
# <details><summary>Hint</summary>
# Nothing is summed: each z depends on its own μ and its own ln σ². So each gradient is dz times the derivative of z by
# that number.
# </details>
#
# <details><summary>Another hint</summary>
# The derivative of an exponential is the exponential times the derivative of its exponent.
# </details>


# %%
def reparameterised(
    mean: np.ndarray, log_variance: np.ndarray, noise: np.ndarray, dz: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ### BEGIN SOLUTION
    deviation = np.exp(log_variance / 2)
    z = mean + deviation * noise
    return z, dz, dz * noise * deviation / 2
    ### END SOLUTION


# %%
check("4.1", reparameterised)

# %% [markdown]
# ## 4.2 The KL divergence
#
# *3 points, medium, about 5 lines*
#
# How far do these distributions lie from N(0, 1)? The divergence is summed over the numbers of a latent (rows, columns,
# channels), and its mean is taken over the N images:
#
# $$\mathrm{KL} = \frac{1}{N} \sum_{n, i, j, c} \tfrac12 \left( \mu^2 + \sigma^2 - 1 - \ln \sigma^2 \right)$$
#
# `mean` (μ) and `log_variance` (ln σ²) are (N, H, W, C). `dkl` is a number, the gradient ∂L/∂KL that arrives: in the
# training it is the small weight of KL in the loss. Return the number KL, and ∂L/∂μ and ∂L/∂(ln σ²) of shape
# (N, H, W, C). Notebook section: *How it is trained*.
#
# <details><summary>Hint</summary>
# The encoder gives the logarithm, and the gradient is asked by the logarithm. Write σ² as
# <code>np.exp(log_variance)</code> everywhere before you take the derivative.
# </details>
#
# <details><summary>Another hint</summary>
# Both gradients must be zero where the distribution is N(0, 1) already: where μ = 0 and where ln σ² = 0.
# </details>


# %%
def kl_divergence(mean: np.ndarray, log_variance: np.ndarray, dkl: float) -> tuple[float, np.ndarray, np.ndarray]:
    ### BEGIN SOLUTION
    n = len(mean)
    variance = np.exp(log_variance)
    kl = np.sum(mean**2 + variance - 1 - log_variance) / (2 * n)
    return kl, dkl * mean / n, dkl * (variance - 1) / (2 * n)
    ### END SOLUTION


# %%
check("4.2", kl_divergence)

# %% [markdown]
# ## 4.3 The scaling factor
#
# *2 points, medium, about 8 lines*
#
# Diffusion wants latents with a standard deviation of 1, and an autoencoder's have another one. So they are multiplied
# by a *scaling factor*: 1 divided by the standard deviation of all numbers of the training images' latents (over
# images, rows, columns and channels together). It is measured once and stays. What diffusion sees is scaled, what the
# decoder sees is not.
#
# Given are the autoencoder's two functions, `encode` (images (N, H, W, 3) → latents) and `decode` (latents →
# images), and the training `images`. Return two new functions: one from images to latents with the factor, one
# from latents with the factor to images. They are used on other images than these.
#
# <details><summary>Hint</summary>
# Define two functions inside this one, and return both. They may use a number that you computed before them.
# </details>
#
# <details><summary>Another hint</summary>
# Decoding what was encoded must give what the autoencoder would give without any factor.
# </details>


# %%
def with_scaling_factor(
    encode: Callable[[np.ndarray], np.ndarray], decode: Callable[[np.ndarray], np.ndarray], images: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    ### BEGIN SOLUTION
    factor = 1 / encode(images).std()

    def scaled_encode(images: np.ndarray) -> np.ndarray:
        return encode(images) * factor

    def scaled_decode(latents: np.ndarray) -> np.ndarray:
        return decode(latents / factor)

    return scaled_encode, scaled_decode
    ### END SOLUTION


# %%
check("4.3", with_scaling_factor)

# %% [markdown]
# ## 4.4 PSNR
#
# *1 point, easy, about 4 lines*
#
# How well did images come back? The peak signal-to-noise ratio, in decibels:
#
# $$\mathrm{PSNR} = 10 \, \log_{10} \frac{255^2}{\frac1M \sum_m (a_m - b_m)^2}$$
#
# The mean is over all M numbers of all images. `images` (a) and `others` (b) are uint8 (N, H, W, C). Return a number.
# For equal images it is infinite, `np.inf`. Notebook section: *What an autoencoder does*.
#
# <details><summary>Hint</summary>
# Try <code>np.array([3], np.uint8) - np.array([5], np.uint8)</code>.
# </details>


# %%
def peak_signal_to_noise(images: np.ndarray, others: np.ndarray) -> float:
    ### BEGIN SOLUTION
    error = np.mean((images.astype(float) - others) ** 2)
    if error == 0:
        return np.inf
    return 10 * np.log10(255**2 / error)
    ### END SOLUTION


# %%
check("4.4", peak_signal_to_noise)
