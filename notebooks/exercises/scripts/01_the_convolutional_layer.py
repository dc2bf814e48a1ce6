# %% [markdown]
# # Exercises 1: the convolutional layer
#
# Fill in what is missing, run the cell, and run the check below it. A check says "right", or what was expected, what
# came, and where. Arrays are `(N, H, W, C)`: images, rows, columns, channels; kernels are `(KH, KW, C, K)`. `dy` is
# the gradient that arrives from above. The notebook is
# [01 The convolutional layer](../01_the_convolutional_layer.ipynb).

# %%
import os

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # for exercise 1.8; it must be set before Numba is imported

import numba
import numpy as np
from numba import cuda

from tinydiff.exercises import check

# %% [markdown]
# ## 1.1 The convolution in loops
#
# *2 points, easy, about 6 lines*
#
# Write the definition: every output pixel is the window of `x` that lies under the kernel, times the kernel, summed over
# rows, columns and channels. No padding, stride 1.
#
# $$y[n, i, j, k] = \sum_{p, q, c} x[n, i + p, j + q, c] \; w[p, q, c, k]$$
#
# `x` (N, H, W, C), `w` (KH, KW, C, K) → (N, H − KH + 1, W − KW + 1, K).
#
# <details><summary>Hint</summary>
# Loop over i and j alone: <code>x[:, i:i+KH, j:j+KW]</code> is (N, KH, KW, C), and <code>np.tensordot(…, w, 3)</code>
# sums over its last three axes.
# </details>


# %%
def conv2d_loops(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    n, height, width, _ = x.shape
    kernel_h, kernel_w, _, filters = w.shape
    ### BEGIN SOLUTION
    y = np.zeros((n, height - kernel_h + 1, width - kernel_w + 1, filters))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            y[:, i, j] = np.tensordot(x[:, i : i + kernel_h, j : j + kernel_w], w, 3)
    return y
    ### END SOLUTION


# %%
check("1.1", conv2d_loops)

# %% [markdown]
# ## 1.2 Its output size
#
# *1 point, easy, 1 line*
#
# A row of `size` pixels gets `padding` zeros at *each* end. How many positions has a kernel of `kernel` pixels that moves
# by `stride`?
#
# <details><summary>Hint</summary>
# Without stride there are size + 2·padding − kernel + 1 positions. With a stride s, how many of 0, s, 2s, … are among
# the offsets from 0 to size + 2·padding − kernel?
# </details>


# %%
def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    ### BEGIN SOLUTION
    return (size + 2 * padding - kernel) // stride + 1
    ### END SOLUTION


# %%
check("1.2", output_size)

# %% [markdown]
# ## 1.3 Stride and padding
#
# *2 points, easy, about 6 lines*
#
# The convolution again, now with `padding` zeros around each image and the kernel moving by `stride`. Write it whole:
# each answer is graded without the others.
#
# <details><summary>Hint</summary>
# <code>np.pad</code> takes a pair (before, after) for each axis. Output pixel i looks at the window that begins at row
# i·stride of the padded image.
# </details>


# %%
def conv2d_strided(x: np.ndarray, w: np.ndarray, stride: int, padding: int) -> np.ndarray:
    kernel_h, kernel_w, _, filters = w.shape
    ### BEGIN SOLUTION
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = (x.shape[1] - kernel_h) // stride + 1, (x.shape[2] - kernel_w) // stride + 1
    y = np.zeros((len(x), rows, columns, filters))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride, j * stride
            y[:, i, j] = np.tensordot(x[:, top : top + kernel_h, left : left + kernel_w], w, 3)
    return y
    ### END SOLUTION


# %%
check("1.3", conv2d_strided)

# %% [markdown]
# ## 1.4 Its gradient by the input
#
# *3 points, medium, about 5 lines*
#
# A loss L depends on y, and `dy` (N, H', W', K) is ∂L/∂y. Each x met several kernel values on its way into several y.
# Collect what it gets back from each:
#
# $$\frac{\partial L}{\partial x[n, a, b, c]} = \sum_{p, q, k} dy[n, a - p, b - q, k] \; w[p, q, c, k]$$
#
# (where dy has no such index, nothing comes). Return `dx` of the shape `x_shape`; no padding, stride 1.
#
# <details><summary>Hint</summary>
# Turn it around: instead of asking for each x who gives, let each dy[:, i, j] give to the window of dx that it was
# computed from, by <code>+=</code>. <code>dy[:, i, j] @ w[p, q].T</code> is (N, C).
# </details>


# %%
def conv2d_input_grad(dy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...]) -> np.ndarray:
    ### BEGIN SOLUTION
    dx = np.zeros(x_shape)
    for p in range(w.shape[0]):
        for q in range(w.shape[1]):
            dx[:, p : p + dy.shape[1], q : q + dy.shape[2]] += dy @ w[p, q].T
    return dx
    ### END SOLUTION


# %%
check("1.4", conv2d_input_grad)

# %% [markdown]
# ## 1.5 Its gradient by the kernel
#
# *3 points, medium, about 5 lines*
#
# Each kernel value was used at every position of every image. Its gradient is the sum over all of them:
#
# $$\frac{\partial L}{\partial w[p, q, c, k]} = \sum_{n, i, j} x[n, i + p, j + q, c] \; dy[n, i, j, k]$$
#
# `kernel_size` is (KH, KW); return `dw` (KH, KW, C, K).
#
# <details><summary>Hint</summary>
# For one (p, q) it is a product of two matrices: x's shifted window and dy, summed over n, i and j.
# <code>np.tensordot(a, b, ([0, 1, 2], [0, 1, 2]))</code> sums over the first three axes of both.
# </details>


# %%
def conv2d_weight_grad(x: np.ndarray, dy: np.ndarray, kernel_size: tuple[int, int]) -> np.ndarray:
    ### BEGIN SOLUTION
    _, height, width, filters = dy.shape
    dw = np.zeros((*kernel_size, x.shape[3], filters))
    for p in range(kernel_size[0]):
        for q in range(kernel_size[1]):
            dw[p, q] = np.tensordot(x[:, p : p + height, q : q + width], dy, ([0, 1, 2], [0, 1, 2]))
    return dw
    ### END SOLUTION


# %%
check("1.5", conv2d_weight_grad)

# %% [markdown]
# ## 1.6 im2col
#
# *2 points, medium, about 6 lines*
#
# A convolution is one product of two matrices, if the windows stand in rows. Make that matrix: a row for each image and
# position (n, i, j), in it the window's numbers in the order kernel row, kernel column, channel:
# (N, H, W, C) → (N·H'·W', KH·KW·C). Then `im2col(x, …) @ w.reshape(-1, K)` is the convolution.
#
# <details><summary>Hint</summary>
# <code>x[:, p:p+H', q:q+W']</code> are all numbers that position (p, q) of the kernel meets. Stack these along a new axis
# before the channels, then reshape.
# </details>


# %%
def im2col(x: np.ndarray, kernel_h: int, kernel_w: int) -> np.ndarray:
    ### BEGIN SOLUTION
    n, height, width, channels = x.shape
    rows, columns = height - kernel_h + 1, width - kernel_w + 1
    taps = [x[:, p : p + rows, q : q + columns] for p in range(kernel_h) for q in range(kernel_w)]
    return np.stack(taps, axis=3).reshape(n * rows * columns, kernel_h * kernel_w * channels)
    ### END SOLUTION


# %%
check("1.6", im2col)

# %% [markdown]
# ## 1.7 Compiled by Numba, faster than loops
#
# *3 points, medium, about 10 lines*
#
# Write `conv2d_compiled(x, w)`: the plain loops of 1.1, one number at a time, compiled, at least ten times as fast as the library's plain loops. `x` and
# `w` are float32. Numba knows loops, numbers and arrays; it does not know `tensordot` over three axes, and needs none.
#
# <details><summary>Hint</summary>
# Put <code>@numba.njit</code> above the function. Seven loops: n, i, j, k, and p, q, c for the sum.
# </details>


# %%
### BEGIN SOLUTION
@numba.njit
def conv2d_compiled(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    n, height, width, channels = x.shape
    kernel_h, kernel_w, _, filters = w.shape
    y = np.zeros((n, height - kernel_h + 1, width - kernel_w + 1, filters), np.float32)
    for image in range(n):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                for p in range(kernel_h):
                    for q in range(kernel_w):
                        for c in range(channels):
                            for k in range(filters):
                                y[image, i, j, k] += x[image, i + p, j + q, c] * w[p, q, c, k]
    return y


### END SOLUTION


# %%
check("1.7", conv2d_compiled)

# %% [markdown]
# ## 1.8 A kernel for a GPU
#
# *3 points, hard, about 8 lines*
#
# On a GPU the same function runs in thousands of threads, each of which finds out who it is and computes one output
# pixel. Write the kernel for one image `x` (H, W) and one kernel `w` (KH, KW), into `y` (H − KH + 1, W − KW + 1). There
# are more threads than pixels: those beyond the edge must do nothing. No GPU is needed here, Numba simulates one.
#
# <details><summary>Hint</summary>
# <code>i, j = cuda.grid(2)</code> is this thread's place. Sum in a local number and write it once.
# </details>


# %%
@cuda.jit
def convolve_kernel(x, w, y):
    ### BEGIN SOLUTION
    i, j = cuda.grid(2)
    if i < y.shape[0] and j < y.shape[1]:
        total = 0.0
        for p in range(w.shape[0]):
            for q in range(w.shape[1]):
                total += x[i + p, j + q] * w[p, q]
        y[i, j] = total
    ### END SOLUTION


# %%
check("1.8", convolve_kernel)
