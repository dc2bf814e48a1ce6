# %% [markdown]
# # Exercises 2: U-Net and computer vision
#
# Fill in what is missing, run the cell, and run the check below it. A check says "right", or what was expected, what
# came, and where. Arrays are `(N, H, W, C)`: images, rows, columns, channels. `dy` is the gradient that arrives from
# above: ∂L/∂y for a loss L. The notebook is [02 U-Net and computer vision](../02_unet_and_computer_vision.ipynb).

# %%
import numpy as np
from scipy.ndimage import distance_transform_edt

from tinydiff.exercises import check

# %% [markdown]
# ## 2.1 Max-pool
#
# *1 point, easy, about 3 lines*
#
# Cut each image into windows of `size` × `size` pixels, side by side, and keep the largest number of each window, in
# each channel:
#
# $$y[n, i, j, c] = \max_{a, b < \text{size}} x[n, i \cdot \text{size} + a, j \cdot \text{size} + b, c]$$
#
# `x` (N, H, W, C), H and W multiples of `size` → (N, H/size, W/size, C). Notebook section: *Max-pool: half the size, twice the view*.
#
# <details><summary>Hint</summary>
# A reshape can part the rows into (H/size, size) and the columns into (W/size, size). Which of the six axes does the
# maximum go over?
# </details>


# %%
def max_pool(x: np.ndarray, size: int) -> np.ndarray:
    ### BEGIN SOLUTION
    n, height, width, channels = x.shape
    return x.reshape(n, height // size, size, width // size, size, channels).max((2, 4))
    ### END SOLUTION


# %%
check("2.1", max_pool)

# %% [markdown]
# ## 2.2 The gradient of max-pool
#
# *2 points, medium, about 9 lines*
#
# `x` (N, H, W, C) went through the max-pool of 2.1, and `dy` (N, H/size, W/size, C) is ∂L/∂y. In each window the pixel
# that won gets all of dy, the others get nothing. Where several are equally large, the first in reading order wins.
# Return `dx`, of x's shape.
#
# <details><summary>Hint</summary>
# A window as <code>(N, size·size, C)</code> has its winner at <code>argmax(1)</code>, (N, C), which takes the first of
# equals. Its row in the window is that number <code>// size</code>, its column <code>% size</code>.
# </details>
#
# <details><summary>Another hint</summary>
# Without such indices: go through the places (a, b) of a window in reading order, and remember which windows have had
# their winner.
# </details>


# %%
def max_pool_grad(x: np.ndarray, dy: np.ndarray, size: int) -> np.ndarray:
    ### BEGIN SOLUTION
    y = x.reshape(len(x), dy.shape[1], size, dy.shape[2], size, -1).max((2, 4))
    dx = np.zeros(x.shape)
    open_windows = np.ones(y.shape, bool)  # their winner is not found yet
    for a in range(size):
        for b in range(size):
            won = open_windows & (x[:, a::size, b::size] == y)
            dx[:, a::size, b::size] = won * dy
            open_windows &= ~won
    return dx
    ### END SOLUTION


# %%
check("2.2", max_pool_grad)

# %% [markdown]
# ## 2.3 The gradient of a skip connection
#
# *2 points, easy, 2 lines*
#
# In a U-Net the features `x` (N, H, W, C) are used twice: they go on down, and they are handed across, where they meet
# `up` (N, H, W, D), which comes from below: `joined = np.concatenate([x, up], axis=3)`. Two gradients arrive: `djoined`
# (N, H, W, C + D) for joined, and `dbelow` (N, H, W, C) for x on its way down. `channels` is C. Return ∂L/∂x and ∂L/∂up.
# Notebook section: *Skip connections*.
#
# <details><summary>Hint</summary>
# Change one number of x a little. By how much does the loss change along the one way, and by how much along the other?
# </details>


# %%
def skip_grads(djoined: np.ndarray, dbelow: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    ### BEGIN SOLUTION
    return djoined[..., :channels] + dbelow, djoined[..., channels:]
    ### END SOLUTION


# %%
check("2.3", skip_grads)

# %% [markdown]
# ## 2.4 The receptive field
#
# *2 points, medium, about 5 lines*
#
# `layers` is a list of (kernel, stride), in the order in which an image goes through them; a 2×2 max-pool is (2, 2).
# How many pixels of the image, in one direction, can change one pixel of the result? Without any layer it is 1.
# Notebook section: *Max-pool: half the size, twice the view*, where it is measured.
#
# <details><summary>Hint</summary>
# Draw three layers of kernel 3 in one dimension, the first with stride 2. How far apart in the image are two
# neighbours behind each layer? A layer adds kernel − 1 such distances.
# </details>


# %%
def receptive_field(layers: list[tuple[int, int]]) -> int:
    ### BEGIN SOLUTION
    seen, apart = 1, 1  # pixels of the image: seen by a pixel, between neighbours
    for kernel, stride in layers:
        seen += (kernel - 1) * apart
        apart *= stride
    return seen
    ### END SOLUTION


# %%
check("2.4", receptive_field)

# %% [markdown]
# ## 2.5 Nearest ×2 and its gradient
#
# *2 points, easy, about 4 lines*
#
# On the way up every pixel becomes four equal ones:
#
# $$y[n, i, j, c] = x[n, \lfloor i/2 \rfloor, \lfloor j/2 \rfloor, c]$$
#
# `x` (N, H, W, C); `dy` (N, 2H, 2W, C) is ∂L/∂y. Return y and ∂L/∂x.
#
# <details><summary>Hint</summary>
# <code>repeat</code> takes an axis. For the gradient, collect what each pixel gets back from all of its copies;
# <code>dy[:, ::2, ::2]</code> is the first copy's.
# </details>


# %%
def upsample_and_grad(x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ### BEGIN SOLUTION
    y = x.repeat(2, axis=1).repeat(2, axis=2)
    n, height, width, channels = x.shape
    return y, dy.reshape(n, height, 2, width, 2, channels).sum((2, 4))
    ### END SOLUTION


# %%
check("2.5", upsample_and_grad)

# %% [markdown]
# ## 2.6 Border weights
#
# *3 points, medium, about 6 lines*
#
# So that cells which nearly touch are kept apart, the background between them weighs more in the loss:
#
# $$w = 1 + w_0 \, \exp\!\left( -\frac{(d_1 + d_2)^2}{2 \sigma^2} \right)$$
#
# where d₁ and d₂ are the distances, in pixels, from this pixel of the background to the nearest and to the
# second-nearest cell. Inside the cells w is 1. `labels` (H, W) holds a number for each cell's pixels and 0 outside; there
# are two cells or more, they do not touch, and some numbers may not occur. Return w (H, W), float64. Notebook section:
# *Much from little: elastic deformation and heavy borders*.
#
# <details><summary>Hint</summary>
# <code>distance_transform_edt(mask)</code> gives each True pixel's distance to the nearest False one. Which mask has the
# cell with the number n as its only False pixels?
# </details>
#
# <details><summary>Another hint</summary>
# <code>np.unique(labels)</code> names the cells. Stack their distances and sort along that axis: d₁ and d₂ are the first
# two.
# </details>


# %%
def border_weight_map(labels: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    ### BEGIN SOLUTION
    distances = [distance_transform_edt(labels != number) for number in np.unique(labels) if number > 0]
    d1, d2 = np.sort(distances, axis=0)[:2]
    border = w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return 1 + np.where(labels > 0, 0, border)
    ### END SOLUTION


# %%
check("2.6", border_weight_map)

# %% [markdown]
# ## 2.7 The order of the backward
#
# *3 points, hard, about 12 lines*
#
# A value that is used twice may hand its gradient on only when both parts have arrived. So the backward needs an order.
# `parents` says of each node what it was made from: `{"y": ["x", "w"], "x": [], "w": []}`. Return a list of the nodes
# that `end` was made from, with `end` itself, each once, and each *after* all of its parents: a topological order. The
# backward goes through it from its end to its beginning. Networks are deep and Python's recursion ends at about 1,000 calls: the
# check has a chain of 20,000 nodes. Notebook section: *Skip connections*.
#
# <details><summary>Hint</summary>
# With recursion it would be short: to visit a node, visit its parents, then list it, unless it was visited before.
# </details>
#
# <details><summary>Another hint</summary>
# Keep a stack of (node, done). A node that is taken from it for the first time is put back as done, and its parents on
# top of it. When it comes up again as done, all of its parents are listed.
# </details>


# %%
def topological_order(end: str, parents: dict[str, list[str]]) -> list[str]:
    ### BEGIN SOLUTION
    order, seen, stack = [], set(), [(end, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(parent, False) for parent in parents[node]]
    return order
    ### END SOLUTION


# %%
check("2.7", topological_order)
