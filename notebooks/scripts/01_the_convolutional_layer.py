# %% [markdown]
# # The convolutional layer
#
# Three quarters of the arithmetic in tinydiff's U-Net is one operation: put a small grid of numbers on the image,
# multiply, add, move on. This notebook does it by hand, asks what it saves against connecting every pixel with every
# other, makes it thousands of times faster without changing what it computes, and derives its gradient, which is all
# that a network needs in order to learn with it.
#
# - **Goals.** After this you can compute a convolution by hand, and say what stride, padding and channels do to
#   shapes; say what a convolution saves against a fully connected layer, in numbers, and what it gives up; explain
#   each rung of the ladder from plain loops to Winograd; write the layer's gradient and prove it right with finite
#   differences.
# - **Know first.** NumPy arrays, matrix products, the chain rule.
# - **Time.** Half a minute on two cores; a minute more where the kernels are not compiled yet.
# - **Reads.** [ops/conv.py](../tinydiff/ops/conv.py), [kernels/reference.py](../tinydiff/kernels/reference.py),
#   [kernels/numpy_backend.py](../tinydiff/kernels/numpy_backend.py),
#   [kernels/cpu/naive.py](../tinydiff/kernels/cpu/naive.py), [kernels/cpu/im2col.py](../tinydiff/kernels/cpu/im2col.py),
#   [kernels/cpu/micro_kernel.py](../tinydiff/kernels/cpu/micro_kernel.py),
#   [kernels/cpu/winograd.py](../tinydiff/kernels/cpu/winograd.py),
#   [kernels/cuda/naive.py](../tinydiff/kernels/cuda/naive.py), [gradcheck.py](../tinydiff/gradcheck.py)
# - **Exercises.** [exercises/01_the_convolutional_layer.ipynb](exercises/01_the_convolutional_layer.ipynb)

# %%
import inspect
from functools import partial

import numba
import numpy as np
from IPython.display import Code

import tinydiff
from tinydiff import datasets, gradcheck, nn, ops, viz
from tinydiff.viz.convolution import applied, bars, lines, strides, window

viz.style()
numba.set_num_threads(1)  # the times below then compare ways to compute, not numbers of cores
grey, _, _ = datasets.load_fashion("train", data=datasets.shipped_fashion())  # uint8 (13000, 28, 28)
unseen, _, _ = datasets.load_fashion("test", data=datasets.shipped_fashion())
assert grey.shape == (13000, 28, 28) and unseen.shape == (3000, 28, 28)
print(f"{len(grey):,} garments to learn from, {len(unseen):,} unseen ones")


def show(*things):
    """The source of functions of the library, as it is on disk."""
    texts = [inspect.getsource(getattr(thing, "py_func", thing)) for thing in things]
    return Code("\n\n".join(texts), language="python")


# %% [markdown]
# ## One window at a time
#
# > In a convolution layer, a kernel, a two-dimensional grid of values, is used to compute the values of the output
# > pixel by multiplying the surrounding pixels from the input to the corresponding value from the kernel and then
# > adding the values together to get the value of the output. — the article
#
# Do exactly that. The image is an ankle boot, made small enough to read: 8×8 pixels. The kernel is 3×3, negative on
# the left and positive on the right, so that it answers one question: *is it brighter on the right of here?*

# %%
boot = np.pad(unseen[0] / 255, 2).reshape(8, 4, 8, 4).mean((1, 3)).round(1)  # (8, 8)
edge = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])  # (3, 3): Sobel's kernel

by_hand = np.zeros((6, 6))  # a 3×3 window has 6×6 places in an 8×8 image
for i in range(6):
    for j in range(6):
        by_hand[i, j] = np.sum(boot[i : i + 3, j : j + 3] * edge)

y, _ = ops.conv2d.forward(boot[None, :, :, None], edge[:, :, None, None])  # (1, 6, 6, 1)
assert np.allclose(by_hand, y[0, :, :, 0])

# %% [markdown]
# The library's `conv2d` agrees. It wants four axes: images are `(N, H, W, C)`, for N images of H rows, W columns
# and C channels, and kernels `(KH, KW, C, K)`, for K results; here most of these are 1. Go through it: move the
# slider, or read the filmstrip.

# %%
viz.stepper(partial(window, x=boot, w=edge), 36, shown=[7, 15, 22, 29], columns=1)

# %% [markdown]
# At step 15 the window stands where the shaft begins: dark on the left, bright on the right, and the sum is 1.4.
# Inside the shaft left and right nearly cancel (step 22). At the heel it is darker on the right, and the sum is −1.2
# (step 29). The same nine numbers asked the same question everywhere.

# %%
assert np.allclose(by_hand.ravel()[[7, 15, 22, 29]], [0, 1.4, 0.5, -1.2])

# %% [markdown]
# As a formula, with t rows and columns of zeros around the image (the *padding*) and a window that moves s pixels
# at a time (the *stride*):
#
# $$ y_{n,i,j,k} = b_k + \sum_{p,q,c} x_{n,\; i s + p - t,\; j s + q - t,\; c} \; w_{p,q,c,k} $$
#
# Here p and q run over the kernel's rows and columns, c over the channels that come in; k is the channel that goes
# out; $b_k$ is the *bias*, a number added to all of channel k. It is one function:

# %%
show(ops.conv2d.forward)

# %% [markdown]
# Mathematicians call this a *cross-correlation*, and turn the kernel by 180° for a convolution. Networks learn their
# kernels, so that it does not matter to them, until the gradient: there the turned kernel comes back.
#
# The article's claim **holds, with a correction:** for one grey channel it is what the code above does. With colours,
# or anything else of C channels, the kernel is no two-dimensional grid but `(KH, KW, C)`, there are K of them, and
# each result has a bias. The section on channels shows it.
#
# ## What it saves, counted
#
# > If we use a fully connected layer, then for a black and white figure of $n \times m$ pixels, we would need to
# > have $n \times m$ inputs and $n \times m$ outputs, thus $n^2 \times m^2$ neural connection, which is excessive
# > because in an image, the pixels that are closer to each other present more interest in extracting features that
# > those far apart. — the article
#
# A layer from pixels to pixels is a matrix with a row for each output pixel and a column for each input pixel. A
# convolution is linear too, so it *has* such a matrix: push an image through it for each input pixel, with a 1 there
# and 0 elsewhere. For an image of 6×6:


# %%
def matrix(w, size):
    """The matrix (size², size²) of a convolution that keeps the image's size."""
    one_each = np.eye(size * size).reshape(-1, size, size, 1)
    return ops.conv2d.forward(one_each, w[:, :, None, None], padding=1)[0].reshape(size * size, -1).T


rng = np.random.default_rng(0)
full = rng.standard_normal((36, 36))
near = full * (matrix(np.ones((3, 3)), 6) > 0)  # only neighbours are connected, each pair by its own weight
kernel = rng.standard_normal((3, 3))
shared = matrix(kernel, 6)
image = rng.standard_normal((1, 6, 6, 1))
y, _ = ops.conv2d.forward(image, kernel[:, :, None, None], padding=1)
assert np.allclose(shared @ image.ravel(), y.ravel())  # the matrix is the convolution
assert len(np.unique(shared[shared != 0])) == 9
viz.panels(
    [full, near, shared],
    ["fully connected:\n1,296 weights", "neighbours only:\n256 weights", "convolution:\n9 weights"],
    size=4,
    cmap="RdBu_r",
    limits=(-2.5, 2.5),
    bar=True,
)

# %% [markdown]
# There are **two** savings, and the article names the first. From left to middle: pixels that are far apart are not
# connected. From middle to right: all places use the same nine weights (*weight sharing*). The second one is the
# larger: for n×n pixels the first divides the weights by about n²/9, the second by about n².

# %%
assert (np.count_nonzero(near), full.size) == (256, 1296)
print(f"{'image':>9} {'fully connected':>20} {'neighbours':>11} {'kernel':>7}")
for size in (6, 28, 32, 64, 512):
    connections = (3 * size - 2) ** 2  # in each direction a pixel has three neighbours, at the borders two
    print(f"{size:>4}×{size:<4} {size**4:>20,} {connections:>11,} {9:>7}")

layer = nn.Linear(np.random.default_rng(0), 28 * 28, 28 * 28, bias=False)
assert layer.weight.data.size == 28**2 * 28**2 == 614_656
assert np.count_nonzero(matrix(np.ones((3, 3)), 28)) == (3 * 28 - 2) ** 2 == 6_724
assert 512**4 == 68_719_476_736 and abs(4 * 512**4 / 1e9 - 275) < 0.2  # float32: 4 bytes each

# %% [markdown]
# **Holds.** A fully connected layer from 28×28 to 28×28 has $28^2 \cdot 28^2 = 614{,}656$ weights. At Stable
# Diffusion's 512×512 there would be 68.7 billion for one channel, 275 GB in float32. A convolution has 2.4 million
# connections there, and 9 weights.
#
# ## Are near pixels more interesting than far ones?
#
# That is the article's reason, and it can be measured. Take two pixels. Over 13,000 garments, how well does the
# brightness of one predict that of the other? The *correlation* says it: 1 is perfectly, 0 not at all. First for four
# pixels (the crosses) with all others:

# %%
flat = grey.reshape(-1, 784) / 255
used = flat.std(0) > 0.02  # a few pixels in the corners are always black
correlation = np.zeros((784, 784))
correlation[np.ix_(used, used)] = np.corrcoef(flat[:, used].T)

points = [(14, 14), (5, 10), (14, 5), (24, 20)]
maps = [correlation[28 * row + column].reshape(28, 28) for row, column in points]
figure = viz.panels(maps, [f"pixel {p}" for p in points], size=2.9, cmap="RdBu_r", limits=(-1, 1), bar=True)
for axes, (row, column) in zip(figure.axes, points, strict=False):
    axes.plot(column, row, "k+", markersize=14, markeredgewidth=2)
figure

# %% [markdown]
# Dark red is around the cross: neighbours know each other. But look at the third: a pixel on the left sleeve knows
# the *right* sleeve, 17 pixels away. Garments are symmetric. So average over all pairs by distance, and mirror pairs
# apart:

# %%
rows, columns = np.divmod(np.arange(784), 28)
distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns).round().astype(int)
pair = used[:, None] & used
mirror = pair & (rows[:, None] == rows) & (columns[:, None] == 27 - columns)


def mean_by_distance(pairs):
    """The mean correlation of these pairs for each distance that at least 20 of them have."""
    count = np.bincount(distance[pairs])
    far = np.flatnonzero(count >= 20)
    return far, np.bincount(distance[pairs], correlation[pairs])[far] / count[far]


lines(
    {"all pairs": mean_by_distance(pair), "a pixel and its mirror image, left and right": mean_by_distance(mirror)},
    "How well one pixel predicts another",
    "distance in pixels",
    "mean correlation",
)

# %%
far, mean = mean_by_distance(pair)
at = dict(zip(far.tolist(), mean.tolist(), strict=True))
mirrored = correlation[mirror & (distance > 12)].mean()
print(f"distance 1: {at[1]:.2f}, 2: {at[2]:.2f}, 5: {at[5]:.2f}, 15: {at[15]:.2f}; mirror images: {mirrored:.2f}")
assert abs(at[1] - 0.75) < 0.02 and abs(at[15] - 0.09) < 0.02 and abs(mirrored - 0.56) < 0.03

# %% [markdown]
# **Holds, with a correction:** the mean correlation falls from 0.75 at one pixel to 0.09 at fifteen, so a layer that
# sees only neighbours sees most of what there is to see. But *some* far pixels are as informative as near ones:
# mirror images more than 12 pixels apart still correlate by 0.56. A single 3×3 convolution cannot know of them.
# Networks get at them by shrinking the image (notebook 02) and by self-attention (notebook 05).
#
# ## Does it matter? Both learn the same task
#
# A count is not yet an argument: perhaps the million weights are good for something. So train both on the same
# images with the same number of steps. Garments are padded to 32×32. **Task one:** from the image to its vertical
# edges, as the kernel above makes them. Both layers can solve it perfectly; the matrix that does it was shown above.

# %%
from tinydiff.training.optim import AdamW, OptimConfig


def prepared(images):
    """uint8 (N, 28, 28) → float32 (N, 32, 32, 1) in [0, 1]."""
    return np.pad(images / np.float32(255), ((0, 0), (2, 2), (2, 2)))[..., None].astype(np.float32)


class FullyConnected(nn.Module):
    """Every pixel to every pixel: 32×32 → 32×32."""

    def __init__(self):
        self.layer = nn.Linear(np.random.default_rng(0), 1024, 1024)

    def forward(self, x):
        return ops.reshape(self.layer(ops.reshape(x, shape=(len(x.data), 1024))), shape=x.shape)


seen, new = prepared(grey[:1000]), prepared(unseen[:500])
moved = np.roll(new, (2, 2), (1, 2))  # two pixels down and to the right; nothing is cut off: the margin is two wide


# %%
def fit(net, task, rate, steps=300, seen=seen):
    """Train a net on the 1,000 images; every net sees the same ones in the same order."""
    rng = np.random.default_rng(1)
    optimiser = AdamW(net, OptimConfig(steps, 64, lr=rate, warmup=20, weight_decay=0.0))
    for step in range(steps):
        x, y = task(seen[rng.integers(0, len(seen), 64)], rng)
        ops.mse_loss(net(tinydiff.Tensor(x)), tinydiff.Tensor(y)).backward()
        optimiser.step(step)
    return net


def error(net, task, images):
    """The mean squared error."""
    x, y = task(images, np.random.default_rng(2))
    return float(np.mean((net(tinydiff.Tensor(x)).data - y) ** 2))


# %%
def edges(x, rng):
    """An image and its vertical edges, of the size of the image's values."""
    return x, ops.conv2d.forward(x, (edge / 4).astype(np.float32)[:, :, None, None], padding=1)[0]


full = fit(FullyConnected(), edges, 6e-3)
small = fit(nn.Conv2d(np.random.default_rng(0), 1, 1), edges, 0.2)
found = {
    name: [error(net, edges, images) for net in (full, small)]
    for name, images in (("1,000 seen", seen), ("500 unseen", new), ("unseen, moved by two pixels", moved))
}
of_zeros = float(np.mean(edges(new, None)[1] ** 2))
print(f"an answer of 0 everywhere would have {of_zeros:.3f}")
bars(
    ["fully connected\n1,049,600 weights", "convolution 3×3\n10 weights"],
    found,
    "Learning to find edges, 300 steps",
    "mean squared error (log scale)",
    "{:.1g}",
)

# %%
assert sum(p.data.size for p in full.parameters()) == 1_049_600 and sum(p.data.size for p in small.parameters()) == 10
assert found["500 unseen"][1] < 0.05 * found["500 unseen"][0]
assert found["unseen, moved by two pixels"][0] > 2 * found["500 unseen"][0] > 3 * found["1,000 seen"][0]
assert 0.8 < found["unseen, moved by two pixels"][1] / found["500 unseen"][1] < 1.25

few = fit(nn.Conv2d(np.random.default_rng(0), 1, 1), edges, 0.2, seen=seen[:10])
print(f"the convolution, having seen ten images: {error(few, edges, new):.0e} on the 500 unseen")
assert error(few, edges, new) < 0.05 * found["500 unseen"][0]

shown = []
for x in (new[[16]], moved[[16]]):
    shown += [x, edges(x, None)[1], *(net(tinydiff.Tensor(x)).data for net in (full, small))]
titles = ["its edges", "fully connected", "convolution"]
figure = viz.panels(
    [s[0, :, :, 0] for s in shown], ["unseen", *titles, "moved", *titles], columns=4, cmap="RdBu_r", limits=(-1, 1)
)
for number in (0, 4):
    figure.axes[number].images[0].set(cmap="gray", clim=(0, 1))
figure

# %% [markdown]
# What the fully connected layer learnt is how *these* garments' edges look *at these places*. When they move by two
# pixels, its error grows several times over; the convolution does not notice, and ten images were enough for it,
# for every window of every image is an example. Its answer moves with the image, because the same weights meet it
# at every place (*translation equivariance*). The weights that lead to one output pixel, in the middle, as an image,
# and the convolution's kernel:

# %%
to_middle = full.layer.weight.data[:, 16 * 32 + 16].reshape(32, 32)
learnt = small.weight.data[:, :, 0, 0]
figure = viz.panels(
    [to_middle, to_middle[11:22, 11:22], learnt, edge / 4],
    [
        "fully connected:\n1,024 weights of one pixel",
        "the same,\nnear the middle",
        "the convolution's\nkernel",
        "the truth",
    ],
    size=2.8,
    cmap="RdBu_r",
    limits=(-0.5, 0.5),
)
assert abs(learnt - edge / 4).max() < 0.01
figure

# %% [markdown]
# The convolution found the kernel that made the data, to two digits, from ten weights. The fully connected layer has
# something like it in the middle, smeared, and would need to find it 1,024 times over.
#
# **Task two:** take noise out of images. Now knowing the places of garments *helps*, and three nets compete. The
# third is a stack of three convolutions with ReLU (negative numbers become 0) between them.


# %%
def noisy(x, rng):
    """An image with normal noise of standard deviation 0.3, and the image."""
    return x + 0.3 * rng.standard_normal(x.shape, np.float32), x


class Stack(nn.Module):
    """Three 3×3 convolutions, eight channels between them."""

    def __init__(self, rng):
        self.first, self.second, self.third = nn.Conv2d(rng, 1, 8), nn.Conv2d(rng, 8, 8), nn.Conv2d(rng, 8, 1)

    def forward(self, x):
        return self.third(ops.relu(self.second(ops.relu(self.first(x)))))


nets = {
    "fully connected": fit(FullyConnected(), noisy, 6e-3),
    "one convolution 7×7": fit(nn.Conv2d(np.random.default_rng(0), 1, 1, size=7), noisy, 2e-2),
    "three convolutions 3×3": fit(Stack(np.random.default_rng(0)), noisy, 1e-2),
}
weights = [sum(p.data.size for p in net.parameters()) for net in nets.values()]
cleaned = {
    name: [error(net, noisy, images) for net in nets.values()]
    for name, images in (("unseen", new), ("unseen, moved by two pixels", moved))
}
bars(
    [f"{name}\n{count:,} weights" for name, count in zip(nets, weights, strict=True)],
    cleaned,
    "Taking noise of variance 0.09 out, 300 steps",
    "mean squared error",
    "{:.3f}",
    log=False,
)

# %%
(dense, single, stack), (dense_moved, single_moved, stack_moved) = cleaned.values()
assert weights == [1_049_600, 50, 737]
assert stack < dense < single and dense_moved > 1.6 * dense and stack_moved < 1.2 * stack < 0.6 * dense_moved

shown = []
for y in (new[[1]], moved[[1]]):
    x, _ = noisy(y, np.random.default_rng(3))
    shown += [x, *(net(tinydiff.Tensor(x)).data for net in nets.values()), y]
titles = ["fully connected", "one 7×7", "three 3×3", "clean"]
viz.panels([s[0, :, :, 0] for s in shown], ["noisy", *titles, "moved", *titles], columns=5, cmap="gray", limits=(0, 1))

# %% [markdown]
# > The purpose of the convolutional layer is to optimize the resources needed to process the images and extract the
# > most information from those images. — the article
#
# Resources, for 64 images of 32×32:

# %%
from tinydiff.bench.timing import time_interleaved

batch = np.random.default_rng(0).standard_normal((64, 32, 32, 1), np.float32)
w_full, w_small = full.layer.weight.data, small.weight.data
seconds = time_interleaved(
    lambda: ops.linear.forward(batch.reshape(64, -1), w_full), lambda: ops.conv2d.forward(batch, w_small, padding=1)
)
for name, w, adds, took in zip(
    ("fully connected", "convolution"), (w_full, w_small), (1024 * 1024, 1024 * 9), seconds, strict=True
):
    print(f"{name:>15}: {w.nbytes:>9,} bytes of weights, {64 * adds:>10,} multiply-adds, {1e3 * took:.2f} ms")
assert w_full.nbytes == 4 * 1024 * 1024 and w_small.nbytes == 36 and round(1024 / 9) == 114

# %% [markdown]
# "Optimize the resources": **Holds.** 36 bytes of weights instead of 4 MB, 114 times fewer multiply-adds, and, as the
# first task showed, ten images to learn from where a thousand did not suffice. Only the time of this one shrinks
# far less than the multiply-adds: with one channel the processor mostly moves numbers. That changes with many
# channels.
#
# "Extract the most information": **Does not hold** as it stands. Whatever a convolution computes, a fully connected
# layer can compute too (its matrix was shown above), and on noise the million weights beat one convolution of 7×7:
# they know where garments lie. What holds is that a *weight* of a convolution extracts more, because it serves at
# every place; a stack of three with 737 weights then beats the million.
#
# ## Kernels by hand
#
# Which nine numbers do what? A kernel that sums to 1 keeps brightness; one that sums to 0 answers differences, and
# nothing where the image is flat. Red is positive, blue negative.

# %%
kernels = {
    "vertical edges": edge,
    "horizontal edges": edge.T,
    "blur": np.full((3, 3), 1 / 9),
    "sharpen": np.array([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "outline": np.array([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
}
pullover = unseen[1] / 255
applied(pullover, kernels)

# %% [markdown]
# *Sharpen* is the image plus its differences from its neighbours: 1·middle + (4·middle − neighbours). *Blur* is the
# mean of nine. The edge kernel is a blur in one direction and a difference in the other. Since all of it is linear,
# two in a row are one larger kernel: blur after blur is a 5×5 blur. That is why networks put something that is not
# linear, such as ReLU, between convolutions: without it, a stack could do no more than one layer.

# %%
image = pullover[None, :, :, None]
blur = kernels["blur"][:, :, None, None]
twice = ops.conv2d.forward(ops.conv2d.forward(image, blur)[0], blur)[0]
tent = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 81  # (5, 5): how many ways lead from each pixel to the result
once = ops.conv2d.forward(image, tent[:, :, None, None])[0]
assert np.allclose(twice, once)

# %% [markdown]
# > Kernel values can vary depending on the extracted features. — the article
#
# So far they were chosen; in a network they are learnt. These are the 16 kernels of the first layer of tinydiff's
# autoencoder, `(3, 3, 3)` each: three rows, three columns, and a red, a green and a blue value, shown as a colour
# (grey is 0). Below, what each makes of an image.

# %%
from tinydiff.datasets.pixels import as_floats

pipe = tinydiff.load()
first = pipe.autoencoder.encoder.conv_in
learnt = first.weight.data  # (3, 3, 3, 16)
sneaker = datasets.captioned_fashion("test", data=datasets.shipped_fashion()).images[36]  # uint8 (32, 32, 3)
assert learnt.shape == (3, 3, 3, 16)
viz.panels(
    list(0.5 + (learnt / (2 * abs(learnt).max((0, 1, 2)))).transpose(3, 0, 1, 2)),
    [f"kernel {i}" for i in range(learnt.shape[3])],
    columns=8,
    size=1.3,
)

# %%
maps, _ = ops.conv2d.forward(as_floats(sneaker[None]), learnt, first.bias.data, padding=1)  # (1, 32, 32, 16)
most = float(abs(maps).max())
viz.panels(
    list(maps[0].transpose(2, 0, 1)),
    [f"map {i}" for i in range(maps.shape[3])],
    columns=8,
    size=1.3,
    cmap="RdBu_r",
    limits=(-most, most),
)

# %% [markdown]
# How alike are they? The cosine of the angle between two kernels is ±1 where they are the same up to size, 0 where
# they have nothing in common:

# %%
directions = learnt.reshape(-1, learnt.shape[3])  # (27, 16)
directions = directions / np.linalg.norm(directions, axis=0)
cosines = abs(directions.T @ directions)[np.triu_indices(learnt.shape[3], 1)]
print(f"|cosine| of two kernels: median {np.median(cosines):.2f}, largest {cosines.max():.2f}")
assert np.median(cosines) < 0.4 and cosines.max() < 0.95

# %% [markdown]
# **Holds, with a correction:** no two of the kernels are alike, and each makes another map of the same shoe: here its
# colour against the background, there an outline. But the values do not vary with the image. It is the other way
# round: the values *decide* which feature is extracted. Training finds them, and from then on they are the same for
# every image.
#
# ## Stride and padding
#
# A window must lie inside the image, so that a 3×3 kernel loses a ring of pixels. *Padding* with t zeros on each
# side gives it back. A *stride* s moves the window s pixels at a time and makes the result s times smaller:
#
# $$ H' = \left\lfloor \frac{H + 2t - K_H}{s} \right\rfloor + 1 $$

# %%
strides(7, 7, 3, [(1, 0), (1, 1), (2, 0), (2, 1)])

# %%
for height in range(5, 12):
    for size in (1, 3, 5):
        for stride in (1, 2, 3):
            for padding in (0, 1, 2):
                x, w = np.ones((1, height, height, 1)), np.ones((size, size, 1, 1))
                y, _ = ops.conv2d.forward(x, w, stride=stride, padding=padding)
                assert y.shape[1] == (height + 2 * padding - size) // stride + 1

# %% [markdown]
# Each dot is the middle of a window, and there is one number of the result for each; grey is padding. The U-Net
# shrinks images with stride 2, padding 1. The same boot again; the result is 4×4, and this is its third row:

# %%
viz.stepper(partial(window, x=boot, w=edge, stride=2, padding=1), 16, shown=[8, 9, 10, 11], columns=1)

# %% [markdown]
# Padding has a price: the zeros are black, and at the border the edge kernel answers an edge between image and
# padding wherever the image is not black there. A network can even use this to know where the border is. On a white
# image, which has no edges, the answer should be 0 everywhere:

# %%
white, _ = ops.conv2d.forward(np.ones((1, 6, 6, 1)), edge[:, :, None, None], padding=1)
print(white[0, :, :, 0].astype(int))
assert (white[0, :, 1:-1] == 0).all() and (white[0, :, 0] > 0).all() and (white[0, :, -1] < 0).all()

# %% [markdown]
# ## Channels
#
# A colour image has three numbers for each pixel, and inside a network there are dozens. The kernel then has a grid
# for each channel that comes in, all products are added up, and there is such a kernel for each channel that goes
# out: `(KH, KW, C, K)`. A 1×1 kernel sees one pixel, all of its channels, and mixes them. This one is *redness*:

# %%
redness = np.array([1, -0.5, -0.5]).reshape(1, 1, 3, 1)  # (KH, KW, C, K)
x = sneaker[None] / 255  # (1, 32, 32, 3)
red, _ = ops.conv2d.forward(x, redness)  # (1, 32, 32, 1)
channels = [x[0, :, :, c] for c in range(3)]
figure = viz.panels([x[0], *channels, red[0, :, :, 0]], ["image", "red", "green", "blue", "redness"], size=2.5)
for axes in figure.axes[1:4]:
    axes.images[0].set(cmap="gray", clim=(0, 1))
figure

# %% [markdown]
# The shoe is red (positive), the sky is the contrary (negative), the white stripe is neither. A 1×1 convolution is
# nothing but a fully connected layer over the channels, the same at each pixel:

# %%
rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((2, 5, 6, 7)), rng.standard_normal((1, 1, 7, 4)), rng.standard_normal(4)
assert np.allclose(ops.conv2d.forward(x, w, b)[0], ops.linear.forward(x, w[0, 0], b)[0])

layer = nn.Conv2d(np.random.default_rng(0), 64, 128)
weights, adds = 3 * 3 * 64 * 128 + 128, 16 * 16 * 3 * 3 * 64 * 128
assert weights == sum(p.data.size for p in layer.parameters()) == 73_856
print(f"3×3, 64 → 128 channels: {weights:,} weights, {adds:,} multiply-adds on 16×16 pixels")

# %% [markdown]
# Channels are where convolutions cost: *within* a pixel everything is connected with everything. 64 → 128 channels on
# 16×16 pixels is 19 million multiply-adds, and a U-Net has dozens of such layers. Which brings us to speed.
#
# ## The ladder
#
# The definition is this. It is slow, obvious, and what everything else must equal:

# %%
from tinydiff.kernels import numpy_backend, reference
from tinydiff.kernels.cpu import im2col, micro_kernel, naive, winograd_transforms

show(reference.conv2d_forward)

# %% [markdown]
# **Rung 1, plain loops.** Python interprets each of the seven nested loops, and makes an object of each number.
#
# **Rung 2, NumPy.** Turn the loops inside out: for each of the nine taps (the kernel's places), shift the whole
# image and multiply it by that tap's `(C, K)` matrix. Nine matrix products remain, and those run in a library that
# others have tuned for decades (BLAS): on a micro-kernel like that of rung 5. So this rung is fast long before we know
# why, and with many channels it stays ahead of rungs 3 and 4.

# %%
show(numpy_backend.conv2d_forward)

# %% [markdown]
# **Rung 3, compiled loops.** Numba makes machine code of rung 1 as it stands. This is the whole file:

# %%
show(naive)

# %% [markdown]
# The innermost loop over k becomes vector instructions, 8 or 16 numbers at once. Yet each multiply-add still loads y
# and stores it again, so that the processor mostly moves numbers.
#
# **Rung 4, im2col.** Copy every output position's patch into a row of a matrix, and the whole convolution is one
# matrix product. It costs memory, nine times the image for a 3×3 kernel; but a product's loops may be ordered as one
# likes. Here each number of w that is loaded serves four positions, and a block of w stays in the cache meanwhile:

# %%
show(im2col.matmul_blocked)

# %% [markdown]
# **Rung 5, the micro-kernel.** Keep 12 pixels × 32 filters of sums (on AVX-512) in the processor's registers until
# they are done. Each step then loads 2 vectors of w and 12 single numbers of x, and does 24 vector multiply-adds with
# them: the arithmetic units are hardly ever idle. And nothing is copied: a table of addresses, the *indirection
# buffer*, says where each patch's pixels are. This is what it computes, in NumPy:

# %%
show(micro_kernel.model)

# %% [markdown]
# And this is the same loop emitted instruction by instruction, since compilers do not find it:

# %%
show(micro_kernel.multiply_rows)

# %% [markdown]
# **Rung 6, Winograd.** The micro-kernel does every multiplication at full speed; Winograd does fewer of them. A
# convolution is a product of polynomials, whose coefficients are the pixels and the kernel's numbers, and a polynomial
# is known from its values at a few points. So: evaluate both (matrices Bᵀ and G), multiply values, and interpolate
# (Aᵀ). Four outputs of a 3-tap kernel in one dimension need 12 multiplications directly, and 6 values this way:

# %%
d, g = np.random.default_rng(0).standard_normal(6), np.random.default_rng(1).standard_normal(3)
direct = np.correlate(d, g)  # 4 outputs, 12 multiplications
a, b_t, g_m = winograd_transforms.A, winograd_transforms.B, winograd_transforms.G  # (6, 4), (6, 6), (6, 3)
assert np.allclose(a.T @ ((g_m @ g) * (b_t @ d)), direct)  # 6 multiplications of values

tile_2d, kernel_2d = np.random.default_rng(2).standard_normal((6, 6)), np.random.default_rng(3).standard_normal((3, 3))
values = (g_m @ kernel_2d @ g_m.T) * (b_t @ tile_2d @ b_t.T)  # (6, 6): 36 multiplications for 4×4 outputs
direct = ops.conv2d.forward(tile_2d[None, :, :, None], kernel_2d[:, :, None, None])[0][0, :, :, 0]
assert np.allclose(a.T @ values @ a, direct)
print(f"two dimensions: {values.size} multiplications instead of {direct.size * 9}")

# %% [markdown]
# A quarter. The evaluations cost something too, but a pixel is evaluated once for all K filters and a kernel once for
# all positions, so with many channels that hardly counts. The price is rounding: a few times the direct way's.
#
# **Are all of them the same function?** Each against the loops, on 16×16 pixels, 32 → 32 channels:

# %%
rungs = {
    "loops": {"backend": "reference"},
    "NumPy (BLAS)": {"backend": "numpy"},
    "micro-kernel": {"backend": "cpu", "winograd": False},
    "Winograd": {"backend": "cpu", "winograd": True},
}


def climb(rung, x, w):
    """A padded convolution on one rung of the ladder."""
    with tinydiff.use(**rungs[rung]):
        return ops.conv2d.forward(x, w, padding=1)[0]


rng = np.random.default_rng(0)
x, w = rng.standard_normal((1, 16, 16, 32), np.float32), rng.standard_normal((3, 3, 32, 32), np.float32)
results = {rung: climb(rung, x, w) for rung in rungs}
results["compiled loops"] = naive.conv2d_forward(x, w, None, 1, (1, 1, 1, 1))
results["im2col"] = im2col.conv2d_forward(x, w, None, 1, (1, 1, 1, 1))
for name, y in results.items():
    off = abs(y - results["loops"]).max() / abs(results["loops"]).max()
    print(f"{name:>14}: differs by {off:.0e} of the largest value")
    assert off < 1e-5

# %% [markdown]
# float32 has seven digits, and they agree in six. Now the times: `ladder_rows`, which `tinydiff bench ladder` runs
# too, on this small convolution; and the fast ones again on a batch of 32 with 64 channels, as in training.

# %%
from tinydiff.bench.conv import ladder_rows

small_rows = {row.name: row for row in ladder_rows(rounds=7)}
x, w = rng.standard_normal((32, 16, 16, 64), np.float32), rng.standard_normal((3, 3, 64, 64), np.float32)
work = x.size * 9 * 64  # multiply-adds
large = [name for name in rungs if name != "loops"]
contenders = {name: partial(climb, name, x, w) for name in large}
contenders["compiled loops"] = partial(naive.conv2d_forward, x, w, None, 1, (1, 1, 1, 1))
contenders["im2col"] = partial(im2col.conv2d_forward, x, w, None, 1, (1, 1, 1, 1))
large_rates = {
    name: 1e-9 * work / seconds
    for name, seconds in zip(contenders, time_interleaved(*contenders.values(), rounds=7), strict=True)
}

for name, row in small_rows.items():
    print(f"{name:>14}: {1e3 * row.ours:10.3f} ms, {row.ratio:8,.0f} times as fast as the loops")
bars(
    list(small_rows),
    {
        "1×16×16, 32 → 32 channels": [row.rate / 2 for row in small_rows.values()],
        "32×16×16, 64 → 64 channels": [large_rates.get(name, np.nan) for name in small_rows],
    },
    "The ladder",
    "billions of multiply-adds a second, counted as the direct way needs them (log scale)",
)

# %% [markdown]
# The largest step is away from the interpreter: three orders of magnitude and more. What is left above it is another
# factor of five to ten. NumPy stands above the two rungs after it because BLAS brings a micro-kernel of its own;
# compare those two with each other, and the micro-kernel with BLAS. im2col is at most a third faster than the compiled
# loops, and where its patches fill more than the cache it gains nothing: copying is what it pays for one good product,
# and what the micro-kernel saves. Winograd needs many channels and positions to pay;
# then it gets through more of the direct way's multiply-adds in a second than the micro-kernel can do, because it does
# not do them. Times are this machine's, on one thread: run the cell for yours.
#
# **Rung 7, a GPU.** Thousands of threads, and each makes one number of y. The four outer loops of the definition
# vanish: a thread asks for its number, `cuda.grid(1)`, and computes from it which n, i, j, k are its own. The inner
# three loops stand as before. It is shown here and not run, since no GPU is needed for anything in these notebooks.

# %%
from tinydiff.kernels.cuda import naive as gpu_plain
from tinydiff.kernels.cuda import product as gpu_tiles

show(gpu_plain._forward)

# %% [markdown]
# As on the CPU, this moves more than it computes: each x and each w is fetched anew for each product. The cure is the
# same: sums that stay in registers. In [kernels/cuda/product.py](../tinydiff/kernels/cuda/product.py) 64 threads
# together fetch a piece of x and of w into memory that they share, and each multiplies an 8×8 part of the result whose
# sums stay in registers:

# %%
show(gpu_tiles._multiply_one)

# %% [markdown]
# ## The gradient
#
# To learn, a layer must answer: if the loss L (a single number, how wrong the network is) changes by $dy = \partial
# L/\partial y$ for each output, how does it change for each input, each weight, each bias? Take one output channel's
# bias first. It is added to every output of its channel, so by the chain rule all of their gradients add up:
#
# $$ db_k = \sum_{n,i,j} dy_{n,i,j,k} $$
#
# The weight $w_{p,q,c,k}$ appears in every output of channel k, each time multiplied by another pixel:
#
# $$ dw_{p,q,c,k} = \sum_{n,i,j} \frac{\partial y_{n,i,j,k}}{\partial w_{p,q,c,k}}\, dy_{n,i,j,k}
#    = \sum_{n,i,j} x_{n,\,i+p-t,\,j+q-t,\,c}\; dy_{n,i,j,k} $$
#
# (stride 1). The pixel $x_{n,u,v,c}$ appears in those outputs whose window holds it: with tap (p, q) in the output at
# $i = u - p + t$, $j = v - q + t$. So
#
# $$ dx_{n,u,v,c} = \sum_{p,q,k} dy_{n,\;u-p+t,\;v-q+t,\;k}\; w_{p,q,c,k} $$
#
# Mind the signs. In the forward the index of x *grows* with p; here that of dy *falls*. Count the kernel from its
# other end, $p' = K_H - 1 - p$, and it grows again: **dx is a convolution of dy with the kernel turned by 180°**, its
# channels exchanged, and $K_H - 1 - t$ zeros around. In NumPy, tap by tap:


# %%
def gradients(x, w, dy, t=1):
    """dx, dw, db of a convolution with stride 1 and t zeros around the image."""
    (taps_h, taps_w), (_, out_h, out_w, _) = w.shape[:2], dy.shape
    padded = np.pad(x, ((0, 0), (t, t), (t, t), (0, 0)))  # (N, H + 2t, W + 2t, C)
    dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
    for p in range(taps_h):
        for q in range(taps_w):
            rows, columns = slice(p, p + out_h), slice(q, q + out_w)  # the pixels that tap (p, q) met
            dw[p, q] = np.einsum("nijc,nijk->ck", padded[:, rows, columns], dy)
            dpadded[:, rows, columns] += dy @ w[p, q].T  # (N, H', W', K)·(K, C)
    dx = dpadded[:, t : t + x.shape[1], t : t + x.shape[2]]
    return dx, dw, dy.sum((0, 1, 2))


# %% [markdown]
# It is all that a convolution needs in order to learn. Is it right? Do not trust the derivation, nor the code:
# *wiggle*. Move one weight by a small h both ways and see how the loss moves (*central differences*):
#
# $$ \frac{\partial L}{\partial w} \approx \frac{L(w + h) - L(w - h)}{2h}, \qquad L = \sum y \cdot dy $$
#
# That L has the gradient dy by y. Let dy be random: with all ones, several wrong gradients would pass. Compute in
# float64: the difference of two nearly equal numbers loses half of the digits.

# %%
rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((2, 5, 6, 3)), rng.standard_normal((3, 3, 3, 4)), rng.standard_normal(4)
y, backward = ops.conv2d.forward(x, w, b, padding=1)
dy = rng.standard_normal(y.shape)
dx, dw, db = gradients(x, w, dy)

h, place = 1e-6, (0, 2, 1, 3)  # one weight: row 0, column 2, from channel 1 to channel 3
one = np.zeros_like(w)
one[place] = h
higher, lower = ((ops.conv2d.forward(x, w + s * one, b, padding=1)[0] * dy).sum() for s in (1, -1))
print(f"by formula {dw[place]:.6f}, by wiggling {(higher - lower) / (2 * h):.6f}")
assert abs(dw[place] - (higher - lower) / (2 * h)) < 1e-6

# %% [markdown]
# `tinydiff.gradcheck` does this for every number of an array:

# %%
show(gradcheck.numeric)

# %% [markdown]
# `op_errors` does it for x, w and b, and gives the largest difference relative to the largest gradient. Yours, and
# the library's:

# %%
from types import SimpleNamespace


def mine(x, w, b):
    """The library's forward with the gradient from above."""
    return ops.conv2d.forward(x, w, b, padding=1)[0], lambda dy: gradients(x, w, dy)


for name, errors in (
    ("yours", gradcheck.op_errors(SimpleNamespace(forward=mine), x, w, b)),
    ("library", gradcheck.op_errors(ops.conv2d, x, w, b, padding=1)),
    ("library, stride 2", gradcheck.op_errors(ops.conv2d, x, w, b, padding=1, stride=2)),
):
    print(f"{name:>17}: dx {errors[0]:.0e}, dw {errors[1]:.0e}, db {errors[2]:.0e}")
    assert max(errors) < 1e-7
for ours, theirs in zip((dx, dw, db), backward(dy), strict=True):
    assert np.allclose(ours, theirs, rtol=1e-10)


def turned(w):
    """The kernel turned by 180°, its channels exchanged: (KH, KW, C, K) → (KH, KW, K, C)."""
    return w[::-1, ::-1].swapaxes(2, 3)


assert np.allclose(dx, ops.conv2d.forward(dy, turned(w), padding=1)[0])  # KH − 1 − t = 3 − 1 − 1 = 1

# %% [markdown]
# All are right, and dx *is* a convolution with the turned kernel: that is how the fast kernels compute it, with the
# same micro-kernel and the same Winograd.
#
# ## What a wrong gradient does
#
# The classic mistake is to forget the turn. See it with a kernel that looks like an F. Forward, each dot of the input
# leaves a *turned* F in the output (the window meets the dot first with its last row). Backward, each dot of dy must
# leave an *upright* F in dx: these are the pixels that this output looked at.

# %%
letter = np.zeros((5, 5))
letter[:, 1], letter[0, 1:4], letter[2, 1:3] = 1, 1, 1
f = letter[:, :, None, None]
dots = np.zeros((1, 18, 18, 1))
dots[0, [4, 5, 13], [4, 13, 8], 0] = 1
forward, backward = ops.conv2d.forward(dots, f, padding=2)
right = backward(dots)[0]
wrong = ops.conv2d.forward(dots, f, padding=2)[0]  # as if dx were dy with the kernel as it is
shown = [letter, dots[0, :, :, 0], forward[0, :, :, 0], right[0, :, :, 0], wrong[0, :, :, 0]]
titles = ["kernel", "dots", "forward: y of dots", "right: dx of dots", "wrong: not turned"]
assert np.array_equal(right[0, 2:7, 2:7, 0], letter) and np.array_equal(wrong[0, 2:7, 2:7, 0], letter[::-1, ::-1])
viz.panels(shown, titles, cmap="gray", size=2.5)


# %% [markdown]
# The check finds it at once, unless the kernel is the same when turned, as a blur is. So check with random numbers,
# never with a nice case:


# %%
def unturned(x, w, b):
    """The same with the mistake: dx by the kernel as it is."""

    def back(dy):
        return ops.conv2d.forward(dy, w.swapaxes(2, 3), padding=1)[0], *gradients(x, w, dy)[1:]

    return ops.conv2d.forward(x, w, b, padding=1)[0], back


nice = np.full((3, 3, 3, 4), 1 / 9)
off_random = gradcheck.op_errors(SimpleNamespace(forward=unturned), x, w, b)[0]
off_nice = gradcheck.op_errors(SimpleNamespace(forward=unturned), x, nice, b)[0]
print(f"error of dx with the mistake: random kernel {off_random:.1f}, blur {off_nice:.0e}")
assert off_random > 0.3 and off_nice < 1e-7

# %% [markdown]
# And what does it cost? Undo a blur by gradient descent. The pullover was smeared by a lopsided kernel; begin with a
# black image, and go again and again a little way against the gradient of the squared error:
# $x \leftarrow x - 0.4\,dx$.

# %%
smear = np.array([[0.5, 0.2, 0], [0.2, 0.1, 0], [0, 0, 0]])[:, :, None, None]
blurred, _ = ops.conv2d.forward(image, smear, padding=1)  # (1, 28, 28, 1)


def deblur(wrong, steps=40):
    """Gradient descent on x; returns the last image and the squared error before each step."""
    x, losses = np.zeros_like(image), []
    for _ in range(steps):
        y, backward = ops.conv2d.forward(x, smear, padding=1)
        losses.append(float(np.sum((y - blurred) ** 2)))
        dy = 2 * (y - blurred)
        x = x - 0.4 * (ops.conv2d.forward(dy, smear, padding=1)[0] if wrong else backward(dy)[0])
    return x, losses


(sharp, falling), (noise, rising) = deblur(wrong=False), deblur(wrong=True)
shown = [image, blurred, sharp, deblur(wrong=True, steps=4)[0], noise]
titles = [
    "the pullover",
    "smeared",
    "right gradient,\n40 steps",
    "wrong gradient,\n4 steps",
    "wrong gradient,\n40 steps",
]
viz.panels([s[0, :, :, 0] for s in shown], titles, cmap="gray", limits=(0, 1))

# %%
assert falling[-1] < 1e-3 * falling[0] and rising[2] < rising[0] < rising[-1]
curves = {"right gradient": (range(40), falling), "kernel not turned": (range(40), rising)}
lines(curves, "Undoing a blur by gradient descent", "step", "squared error (log scale)", log=True)

# %% [markdown]
# The right gradient finds the pullover again. The wrong one improves a little for a few steps, which is what makes
# such mistakes hard to notice, and then runs away. In a deep network, where other layers make up for it, it may only
# learn badly. Hence this project's principle: no gradient without a check.
#
# ## Is the convolution responsible for image generation?
#
# > the convolutional layer, which is responsible for image generation — the article
#
# Count the multiply-adds of one step of the U-Net and of the decoder, by layer:

# %%
noise = np.zeros((1, *pipe.latent_shape), np.float32)
text = pipe.encode_prompt(["a red dress on a white background"])
unet = tinydiff.summary(pipe.denoiser.unet, noise, np.zeros(1), text).rows
decoder = tinydiff.summary(pipe.autoencoder.decoder, noise).rows
shares = []
for name, rows in (("U-Net", unet), ("decoder", decoder)):
    share = sum(row.multiply_adds for row in rows if row.layer_type == "Conv2d") / rows[0].multiply_adds
    shares.append(share)
    print(f"{name}: {100 * share:.0f} % of {rows[0].multiply_adds / 1e6:.0f} million multiply-adds in convolutions")
assert 0.65 < shares[0] < 0.85 and shares[1] > 0.9

# %% [markdown]
# **Holds, with a correction:** convolutions do most of the work, about three quarters of it in the U-Net and nearly
# all in the decoder. But they share it with attention, which sits between them in the same U-Net, moves information
# between far pixels, and lets the text in; without it the image would not depend on what was asked for. Notebook 05
# shows that.
#
# ## What to take away
#
# - A convolution is a matrix with two restrictions: only neighbours are connected, and every place has the same
#   weights.
# - Fewer weights need fewer images, and what is learnt at one place holds at all places. The price is that far
#   pixels and absolute places are out of sight.
# - $H' = \lfloor (H + 2t - K_H)/s \rfloor + 1$; weights $K_H K_W C K + K$; multiply-adds $H' W' K_H K_W C K$.
# - The same function can be computed thousands of times faster: compile it, keep numbers in registers, then do fewer
#   multiplications. The slow loops stay as the definition that all others are tested against.
# - dw pairs each dy with the pixels that it met; dx is a convolution of dy with the turned kernel; and a gradient is
#   right when central differences say so, with random numbers.
#
# ## Questions
#
# 1. A 3×3 convolution with padding 1 is followed by another one. How far can an input pixel lie from an output pixel
#    that it influences? And after ten?
#
# <details><summary>Answer</summary>
# Each layer sees one pixel further in each direction: two pixels after two (5×5), ten after ten (21×21). That is
# slow; a stride of 2 doubles the reach of every layer after it. Notebook 02 measures this field of view.
# </details>
#
# 2. Why does the moved garment not disturb the convolution, and what would disturb it?
#
# <details><summary>Answer</summary>
# The same weights are applied at every place, so that moving the input moves the output. It holds away from the
# borders (padding differs from what would be there) and for stride 1: with stride 2 only moves by even numbers of
# pixels move the output as a whole. Turned or enlarged garments are not covered: the kernel does not turn with them.
# </details>
#
# 3. Somebody checks a gradient of a convolution with `w = np.ones(...)` and `dy = np.ones(...)`, and it passes. What
#    has been shown?
#
# <details><summary>Answer</summary>
# Very little. A kernel of ones is the same when it is turned, when rows and columns are exchanged, and when its
# channels are mixed up, and a dy of ones hides errors of place: only sums are compared. Use random numbers and sides
# that differ.
# </details>
#
# ## Sources
#
# - LeCun et al. 1989, *Backpropagation Applied to Handwritten Zip Code Recognition*,
#   [doi:10.1162/neco.1989.1.4.541](https://doi.org/10.1162/neco.1989.1.4.541)
# - Dumoulin & Visin 2016, *A guide to convolution arithmetic for deep learning*,
#   [arXiv:1603.07285](https://arxiv.org/abs/1603.07285)
# - Lavin & Gray 2015, *Fast Algorithms for Convolutional Neural Networks*,
#   [arXiv:1509.09308](https://arxiv.org/abs/1509.09308)
# - Dukhan 2019, *The Indirect Convolution Algorithm*, [arXiv:1907.02129](https://arxiv.org/abs/1907.02129)
# - Islam et al. 2020, *How Much Position Information Do Convolutional Neural Networks Encode?*,
#   [arXiv:2001.08248](https://arxiv.org/abs/2001.08248)
# - Xiao et al. 2017, *Fashion-MNIST*, [arXiv:1708.07747](https://arxiv.org/abs/1708.07747)
# - The article *Introduction into Diffusion & Latent Diffusion Models*
