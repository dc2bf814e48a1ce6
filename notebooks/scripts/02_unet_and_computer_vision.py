# %% [markdown]
# # U-Net and computer vision
#
# Which pixels of a microscope's image belong to a cell? The U-Net was made for this question, and for having few
# answers to learn from. This notebook takes it apart: pooling, which lets it see far; skip connections, which let it
# see sharply; and what its makers did to get much out of few images. Here there is *one* image. The network learns from
# its left half, in half a minute, and is tested on the right half.
#
# - **Goals.** After this you can write max-pool and its gradient; measure what a pixel of a network's answer sees; say why
#   a value that is used twice receives two gradients; show the U-Net level by level; and train one on your own images.
# - **Know first.** Notebook 01: convolution and its gradient.
# - **Time.** 2 minutes on two cores.
# - **Reads.** [ops/pool.py](../tinydiff/ops/pool.py), [ops/shape.py](../tinydiff/ops/shape.py),
#   [autograd.py](../tinydiff/autograd.py), [models/unet2015.py](../tinydiff/models/unet2015.py),
#   [segmentation](../tinydiff/segmentation), [segmentation/training.py](../tinydiff/segmentation/training.py)
# - **Exercises.** [U-Net and computer vision](exercises/02_unet_and_computer_vision.ipynb)

# %%
import os

os.environ["TQDM_DISABLE"] = "1"  # progress bars make poor pages

import inspect
from dataclasses import replace

import numpy as np
from IPython.display import Code
from matplotlib.figure import Figure

import tinydiff
from tinydiff import Tensor, ops, viz
from tinydiff.apps.data import load_nuclei
from tinydiff.models.unet2015 import UNet2015, UNet2015Config
from tinydiff.segmentation.metrics import overlap
from tinydiff.segmentation.presets import segmentation_preset
from tinydiff.segmentation.tiles import Geometry
from tinydiff.viz.features import activations, extent, feature_maps, field_of_view, u_shape

viz.style()
rng = np.random.default_rng(0)
image, labels = load_nuclei()  # uint8 (512, 512), and a number for each nucleus, 0 outside
left, right = load_nuclei("left"), load_nuclei("right")


def show(*things):
    """The source of functions of the library."""
    return Code("\n\n".join(inspect.getsource(thing) for thing in things), language="python")


print(f"{labels.max()} nuclei; {np.unique(left[1]).size - 1} of them at least partly in the left half")
viz.panels([image, (labels > 0).astype(float)], ["fluorescent nuclei", "the mask, drawn by an expert"], size=4.2)

# %% [markdown]
# ## Max-pool: half the size, twice the view
#
# > To get more information, after every two convolutional blocks, the image gets scaled down using a 2×2 max-pool …, thus
# > widening the field of view of the kernels and capturing more context. — the article
#
# Of each 2×2 pixels the largest is kept. Backwards, the gradient goes to the pixel that won, and the others, which
# could have been a little different without changing anything, get none.

# %%
x = np.array([[1, 5, 2, 0], [3, 4, 7, 1], [0, 2, 6, 6.5], [8, 1, 3, 2]], float).reshape(1, 4, 4, 1)
y, backward = ops.max_pool2d.forward(x)
dy = np.array([[10.0, 20], [30, 40]]).reshape(1, 2, 2, 1)
(dx,) = backward(dy)
print(y[0, :, :, 0], dx[0, :, :, 0], sep="\n\n")
by_hand = x[0, :, :, 0].reshape(2, 2, 2, 2).max((1, 3))
assert np.array_equal(y[0, :, :, 0], by_hand) and dx.sum() == dy.sum() and (dx != 0).sum() == 4
show(ops.max_pool2d.forward)

# %% [markdown]
# The field of view can be measured: take one pixel of the output, send a gradient back from it, and see which input
# pixels receive any. Four 3×3 convolutions, without and with a max-pool after every two:

# %%
layers = [tinydiff.nn.Conv2d(rng, 4, 4) for _ in range(4)]


def straight(x):
    """Four convolutions."""
    for layer in layers:
        x = ops.relu(layer(x))
    return x


def pooled(x):
    """The same, at half the size from the third on, and at a quarter at the end."""
    x = ops.max_pool2d(ops.relu(layers[1](ops.relu(layers[0](x)))))
    return ops.max_pool2d(ops.relu(layers[3](ops.relu(layers[2](x)))))


shape = (1, 64, 64, 4)
views = {"four convolutions": field_of_view(straight, shape), "with two max-pools": field_of_view(pooled, shape)}
unet = UNet2015(UNet2015Config(in_channels=4, block_out_channels=(8, 16, 32)), rng)
views["a small U-Net"] = field_of_view(unet, shape)
for name, seen in views.items():
    print(f"{name}: sees {extent(seen)[0]}×{extent(seen)[1]} pixels")
assert extent(views["four convolutions"]) == (9, 9)
assert extent(views["with two max-pools"])[0] > 12 and extent(views["a small U-Net"])[0] > 24
viz.panels([np.log10(seen + 1e-6) for seen in views.values()], list(views), size=3.2, cmap="viridis", limits=(-6, 0))

# %% [markdown]
# (Logarithms: dark is nothing, bright much.) **Holds.** Each 3×3 convolution adds one pixel on each side; behind a
# max-pool one pixel is two of the image, so that each later convolution adds two, and so on: the view doubles where
# depth without pooling adds. It is not even: the middle is seen best, and with max-pool only winners are seen.
#
# ## Skip connections
#
# > When reconstructing the image, the saved information from the corresponding resolution is added to the end of the
# > channels and then incorporated. — the article
#
# **Holds, word for word**: `concat(saved, x)` along the channels. On the way down *where* is given up for *what*; the
# skip connection hands *where* across. For the gradient it means that a value is used twice: once on the way down and
# once beside. Its gradient is the sum of both, and it may go on only when both have arrived. On the tape:

# %%
saved = Tensor(rng.standard_normal((1, 2, 2, 3)), requires_grad=True)
doubled = saved * 2.0  # the way down
joined = ops.concat(saved, doubled)  # and across
dy = rng.standard_normal(joined.shape)
joined.backward(dy)
assert np.allclose(saved.grad, dy[..., :3] + 2 * dy[..., 3:])  # both, added up
print("the gradient that came across, and twice the one from below: their sum arrives")
show(Tensor.backward)

# %% [markdown]
# Topological order sees to it: from the end, every node is visited after all nodes that used it. (Exercise 2.7 writes
# the function that puts them in this order.)
#
# ## The U-Net, level by level
#
# > … running 3×3 ReLu kernels to create different convolutions, starting from 3, then going to 64, to 128, to 256, to 512,
# > and finally to 1024 channels. — the article

# %%
paper = UNet2015(UNet2015Config(), rng=None)  # shapes alone
widths = [paper.config.in_channels, *paper.config.block_out_channels]
kernels = {block.conv1.weight.shape[:2] for block in paper.down}
parameters = sum(p.data.size for p in paper.parameters())
print(
    widths,
    kernels,
    f"{parameters:,} parameters; a pixel of the answer sees up to {Geometry(paper.config).receptive_radius} pixels to each side",
)
assert widths == [3, 64, 128, 256, 512, 1024] and kernels == {(3, 3)} and 31e6 < parameters < 31.1e6

# %% [markdown]
# **Holds.** (In the paper the first number is 1, since its images are grey.) The network that comes with tinydiff has
# 16 to 128 channels and has learnt from the left half. Here are its features for a piece of the right half; at each
# level the channel that varies most.

# %%
segmenter = tinydiff.load_segmenter()
from tinydiff.segmentation import normaliser

prepare = normaliser(image, segmenter.model.config.in_channels)
piece = prepare(right[0][100:228, 60:188])
u_shape(segmenter.model, piece)

# %%
found = activations(segmenter.model, piece[None])
names = [name for name in found if name.startswith(("down.", "up.")) and name.count(".") == 1] + ["classify"]
viz.stepper(
    lambda i: feature_maps(found[names[i]][0], 8, names[i]), len(names), label="layer", shown=[0, 2, 3, 5, 7], columns=1
)

# %% [markdown]
# At the top, edges and brightness; at the bottom, 16×16 places that say "cell" or "between cells" over a wide area; on
# the way up, sharp again.
#
# ## One image is enough
#
# > … introducing a new way of segmentation that required significantly less training data while outperforming older
# > methods. — the article
#
# Train it, now. The older method first: Otsu's threshold, which learns nothing. Then a U-Net for 20, 60 and 150 steps.

# %%
import sys

sys.path.append("results")  # the script that made that page's table: its threshold, and a training by name
from segmentation import otsu, trained

preset = segmentation_preset("quick")
preset = replace(preset, model=replace(preset.model, block_out_channels=(12, 24, 48, 96)))
truth = right[1] > 0
masks = {"Otsu's threshold": right[0] > otsu(right[0])}
for steps in (20, 60, 150):
    row, mask = trained(f"{steps} steps", [left], replace(preset, optim=replace(preset.optim, steps=steps)), strip=0.2)
    masks[f"U-Net, {steps} steps"] = mask
    print(f"{steps:3} steps, {row.seconds:4.1f} s")
iou = {name: overlap(mask, truth).iou for name, mask in masks.items()}
for name, value in iou.items():
    print(f"{name:>18}: intersection over union {value:.3f}")
assert iou["U-Net, 150 steps"] > iou["Otsu's threshold"] + 0.04 and iou["U-Net, 150 steps"] > 0.8
assert iou["U-Net, 20 steps"] < iou["U-Net, 150 steps"]

# %%
from tinydiff.segmentation.images import errors

area = slice(120, 330)
shown = [right[0][area], *(errors(mask, right[1])[area] for mask in masks.values())]
viz.panels(shown, ["image", *(f"{name}\nIoU {value:.2f}" for name, value in iou.items())], size=2.6)

# %% [markdown]
# (White: right; the two colours: too much and too little.) This is the article's figure 6, "three generations",
# repeated: the masks get better with the steps.
#
# **Holds:** from half of one image the U-Net is better than a threshold that was made for such images. With
# 1,000 steps it reaches 0.889 and Otsu 0.767 ([results](results/segmentation.md)).
#
# > This set, then, is given to the U-Net to train on, for as many generations as needed until an accuracy threshold is
# > reached. — the article
#
# **Holds**, if the accuracy is measured on what is *not* learnt from. `tinydiff train segmentation --until-iou 0.85`
# does that, on a validation strip that it keeps aside.
#
# > After merging all the channels and obtaining the final resolution, it returns the segmentation mask of the image.
# > — the article
#
# **Holds, with a correction:** it returns a *probability* for each class at each pixel; the mask is where it is above
# ½.

# %%
result = segmenter.segment(right[0])
probability = result.probability
unsure = float(((probability > 0.05) & (probability < 0.95)).mean())
print(f"{result.count} cells; {100 * unsure:.0f} % of the pixels lie between 5 and 95 %")
figure = viz.panels(
    [right[0][area], probability[area], result.cells[area] % 7], ["image", "probability", "single cells"], size=3
)
assert probability.min() >= 0 and probability.max() <= 1 and 0 < unsure < 0.3
figure

# %% [markdown]
# ## What are the skip connections worth?
#
# The same network without them, a plain encoder and decoder of as many parameters:

# %%
long = replace(preset, optim=replace(preset.optim, steps=150), model=replace(preset.model, skips=False))
row, without = trained("without", [left], long, strip=0.2)
scores = {"with": iou["U-Net, 150 steps"], "without": row.iou}
print({name: round(value, 3) for name, value in scores.items()})
assert scores["with"] > scores["without"]
viz.panels(
    [right[0][area], errors(masks["U-Net, 150 steps"], right[1])[area], errors(without, right[1])[area]],
    ["image", f"with: IoU {scores['with']:.2f}", f"without: {scores['without']:.2f}"],
    size=3,
)

# %% [markdown]
# Without them outlines are coarse after so few steps. It is a matter of time on this image: after 1,000 steps both are
# at 0.88 to 0.89. Skip connections are worth a tenfold shorter training here.
#
# ## Much from little: elastic deformation and heavy borders
#
# Tissue bends. An image that is deformed is another image, with the mask deformed in the same way, for nothing. Below,
# the same piece, four times: shifts drawn at random on a 3×3 grid, of standard deviation *elastic sigma*, made smooth
# between.

# %%
from scipy import ndimage

from tinydiff.segmentation.augment import Augmentation, deformation
from tinydiff.segmentation.border import border_weights

grid = left[0][:128, :128].copy()
grid[::16], grid[:, ::16] = 255, 255  # lines, so that the deformation is seen
deformed = []
for seed in range(4):
    where = np.mgrid[0:128, 0:128] + deformation(np.random.default_rng(seed), 128, Augmentation().elastic_sigma)
    deformed.append(ndimage.map_coordinates(grid, where, order=1, mode="mirror"))
viz.panels([grid, *deformed], ["the piece", *(f"deformed {i}" for i in range(1, 5))], size=2.2, cmap="gray")

# %% [markdown]
# Cells that touch must stay two. The pixels between them are few, and a mistake there costs the loss little; so they
# get more weight: $w = 1 + w_0 \exp(-(d_1 + d_2)^2 / 2\sigma^2)$, with the distances to the two nearest cells.

# %%
two = np.zeros((40, 60), np.int32)
rows, columns = np.mgrid[0:40, 0:60]
two[(rows - 20) ** 2 + (columns - 17) ** 2 < 144] = 1
two[(rows - 20) ** 2 + (columns - 43) ** 2 < 144] = 2
weights = border_weights(two)
print(f"weight between the two: {weights[20, 30]:.1f}; at the corner {weights[0, 0]:.1f}; inside {weights[20, 17]:.1f}")
assert weights[20, 30] > 8 and weights[0, 0] < 1.1 and weights[20, 17] == 1
area_weights = border_weights(right[1])[area]
viz.panels(
    [two, weights, right[0][area] / 255, area_weights],
    ["two cells", "weights", "image", "its weights"],
    size=3,
    cmap="viridis",
)

# %% [markdown]
# ## Any size: overlap tiles
#
# An image of 4096×4096 pixels does not fit. It is cut into tiles, and each tile is seen with so much around it that its
# answer is that of the whole image: as far as the field of view reaches. No seam, and that is exact:

# %%
from tinydiff.segmentation.tiles import predict

model = segmenter.model
normalised = prepare(image[:192, :192])
whole = predict(model, normalised, tile=192)
tiled = predict(model, normalised, tile=64)
print(
    f"largest difference between one tile and nine: {abs(whole - tiled).max():.1e}; margin {Geometry(model.config).margin} pixels"
)
assert abs(whole - tiled).max() < 1e-4

# %% [markdown]
# ## How few are enough?
#
# The left half in tiles of 64×64 pixels. From how many does the network learn? 60 steps each:

# %%
tiles = [
    (left[0][t : t + 64, s : s + 64], left[1][t : t + 64, s : s + 64])
    for t in range(0, 512, 64)
    for s in range(0, 256, 64)
]
order = np.random.default_rng(0).permutation(len(tiles))
curve = {}
for count in (1, 4, 16):
    chosen = replace(preset, size=64, optim=replace(preset.optim, steps=60, batch=16))
    row, _ = trained(f"{count} tiles", [tiles[i] for i in order[:count]], chosen, strip=0.0)
    curve[count] = row.iou
    print(f"{count:2} tiles: intersection over union {row.iou:.3f}")
figure = Figure(figsize=(7, 3.2), layout="constrained")
axes = figure.subplots()
axes.plot(list(curve), list(curve.values()), "o-", label="U-Net, 60 steps")
axes.axhline(iou["Otsu's threshold"], color="#777777", ls="--", label="Otsu's threshold")
axes.set(
    xscale="log", xlabel="training tiles of 64×64 pixels", ylabel="intersection over union", title="On the right half"
)
axes.set_xticks([1, 4, 16], ["1", "4", "16"])
axes.minorticks_off()
axes.legend()
axes.grid(alpha=0.3)
assert max(curve.values()) > iou["Otsu's threshold"]
figure

# %% [markdown]
# A few tiles with some dozen nuclei are enough, on images that look alike. The [results](results/segmentation.md) have
# the curve over 300 steps and three random choices of the tiles: one tile 0.72 to 0.88, four 0.885, all 32 0.888 on
# average. It depends on *which* tile when there is one only.
#
# ## What to take away
#
# - Pooling widens the view by doubling; convolutions alone widen it by adding.
# - Skip connections hand positions across. Values that are used twice receive the sum of two gradients.
# - The answer is a probability for each pixel. A mask is a decision made of it.
# - Few images suffice if they are deformed, mirrored and weighted where it matters, and if the rest looks like them.
#
# ## Questions
#
# 1. Max-pool throws three of four numbers away. Why is the image's size not a problem on the way back up?
#
# <details><summary>Answer</summary>
# Because the positions come across the skip connections, at full size, from before the pooling. What came up from below
# says *what* is there; what came across says *where exactly*.
# </details>
#
# 2. The network is tested on the right half of the image from whose left half it learnt. What does that not tell you?
#
# <details><summary>Answer</summary>
# How it does on other images: with another microscope, stain, kind of cell or brightness. For that it must be tested on
# images from elsewhere.
# </details>
#
# 3. Why is the margin of a tile the field of view, and not one pixel more or less?
#
# <details><summary>Answer</summary>
# With less, pixels at the tile's edge would miss something that they see in the whole image, and a seam appears. More
# changes nothing: no answer depends on it. (Max-pool adds one condition: tiles must begin at multiples of its grid.)
# </details>
#
# ## Sources
#
# - Ronneberger, Fischer & Brox 2015, *U-Net*, [arXiv:1505.04597](https://arxiv.org/abs/1505.04597)
# - Caicedo et al. 2019, *Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl*, Nature Methods 16
# - Luo et al. 2016, *Understanding the Effective Receptive Field*, [arXiv:1701.04128](https://arxiv.org/abs/1701.04128)
# - Otsu 1979, *A Threshold Selection Method from Gray-Level Histograms*
# - The article *Introduction into Diffusion & Latent Diffusion Models*
