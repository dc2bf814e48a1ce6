"""Section 2: max-pool, skip connections, the receptive field, the way back up, border weights, the tape's order."""

from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from tinydiff.exercises.checking import Answer, drawn, exercise
from tinydiff.ops import concat, max_pool2d, upsample_nearest
from tinydiff.segmentation.border import border_weights

# (N, H, W, C) and the window's size: never square, never one image
POOLS = (((2, 4, 6, 3), 2), ((3, 6, 9, 1), 3), ((4, 8, 4, 2), 4))


@exercise("2.1", "max-pool", points=1)
def max_pool(answer: Answer) -> None:
    for shape, size in POOLS:
        x = drawn(shape, seed=0)[0] - 2  # some windows hold negative numbers alone
        expected = max_pool2d.forward(x, size=size)[0]
        n, height, width, channels = expected.shape
        windows = x.reshape(n, height, size, width, size, channels)
        apart = x.reshape(n, size, height, size, width, channels).max((1, 3))
        hints = {
            "that is the mean of each window, not its largest number": windows.mean((2, 4)),
            "a window is size neighbours; you took numbers that lie far apart": apart,
            "numbers may be negative: begin with one of the window's, not with 0": np.maximum(expected, 0),
        }
        answer.expect(answer(x, size), expected, f"y of windows {size}×{size}", hints)


@exercise("2.2", "the gradient of max-pool", points=2)
def max_pool_grad(answer: Answer) -> None:
    for (shape, size), decimals in zip(POOLS, (9, 0, 0), strict=True):
        x = drawn(shape, seed=1)[0].round(decimals)  # at 0 some windows hold their largest number more than once
        y, backward = max_pool2d.forward(x, size=size)
        (dy,) = drawn(y.shape, seed=2)
        (turned,) = max_pool2d.forward(x[:, ::-1, ::-1], size=size)[1](dy[:, ::-1, ::-1])
        n, height, width, channels = y.shape
        windows = x.reshape(n, height, size, width, size, channels)
        is_largest = windows == y[:, :, None, :, None]
        everywhere = np.broadcast_to(dy[:, :, None, :, None], windows.shape)
        shared = everywhere * is_largest / is_largest.sum((2, 4), keepdims=True)
        hints = {
            "that is the gradient of a mean: only the place of the largest number gets any": everywhere / size**2,
            "only the place of the largest number gets a gradient, the others get none": everywhere,
            "dy is not used: the gradient that arrives is not all ones": is_largest.astype(float),
            "where several are equally large, the first alone gets the gradient": everywhere * is_largest,
            "where several are equally large, the first gets all of it: nothing is shared": shared,
            "where several are equally large, it is the first that gets the gradient, not the last": turned[
                :, ::-1, ::-1
            ],
        }
        hints = {text: value.reshape(shape) for text, value in hints.items()}
        answer.expect(answer(x, dy, size), backward(dy)[0], "dx", hints)


@exercise("2.3", "the gradient of a skip connection", points=2)
def skip_grads(answer: Answer) -> None:
    for n, height, width, channels, others in ((2, 3, 5, 3, 4), (3, 4, 2, 2, 1), (2, 5, 3, 1, 1)):
        shapes = [(n, height, width, size) for size in (channels, others, channels + others, channels)]
        x, up, dy, below = drawn(*shapes, seed=3)
        across, dup = concat.forward(x, up)[1](dy)
        hints = {
            "x was used twice: what came from below belongs to it as well": (across, dup),
            "x was used twice: what came across belongs to it as well": (below, dup),
            "the gradients are added: nothing is averaged": ((across + below) / 2, dup),
            "in joined, x comes first and up after it": (dy[..., -channels:] + below, dy[..., :-channels]),
        }
        answer.expect(answer(dy, below, channels), (across + below, dup), "dx, dup", hints)


@exercise("2.4", "the receptive field", points=2)
def receptive_field(answer: Answer) -> None:
    for layers in (
        [(3, 1), (3, 1)],
        [(3, 1), (3, 1), (2, 2), (3, 1), (3, 1)],
        [(7, 2), (3, 1), (2, 2), (3, 2), (1, 1)],
        [(5, 3), (4, 2), (1, 3), (3, 1)],
        [],
    ):
        sizes, strides = [k for k, _ in layers], [s for _, s in layers]
        jumps = np.cumprod([1, *strides]).tolist()  # pixels of the image between two of each layer
        expected = 1 + sum((k - 1) * j for k, j in zip(sizes, jumps, strict=False))
        without = 1 + sum(k - 1 for k in sizes)
        whole = 1 + sum(k * j for k, j in zip(sizes, jumps, strict=False))
        own = 1 + sum((k - 1) * j for k, j in zip(sizes, jumps[1:], strict=True))
        hints = {
            "the strides are left out: after a stride of 2, a neighbour lies two pixels of the image away": without,
            "a layer adds kernel − 1 neighbours: its own pixel is there already": whole,
            "a layer's stride widens what later layers add, not what it adds itself": own,
            "one pixel is seen before there is any layer: begin with 1": expected - 1,
        }
        answer.expect(answer.whole(list(layers)), expected, f"what is seen through the layers {layers}", hints)


@exercise("2.5", "nearest ×2 and its gradient", points=2)
def upsample_and_grad(answer: Answer) -> None:
    for shape in ((2, 3, 5, 3), (3, 2, 4, 1), (2, 4, 1, 2)):
        (x,) = drawn(shape, seed=4)
        y, backward = upsample_nearest.forward(x)
        (dy,) = drawn(y.shape, seed=5)
        (dx,) = backward(dy)
        side_by_side = "the four copies lie side by side: repeat each number, do not lay whole images side by side"
        hints = {
            side_by_side: (np.tile(x, (1, 2, 2, 1)), dx),
            "that is the mean over the four copies: a gradient is a sum": (y, dx / 4),
            "x is used four times: all four gradients count, not the first alone": (y, dy[:, ::2, ::2]),
            "dy is not used: the gradient that arrives is not all ones": (y, np.full(shape, 4.0)),
        }
        answer.expect(answer(x, dy), (y, dx), "y, dx", hints)


def _cells(height: int, width: int, **boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Labels (height, width): numbered rectangles, n1=(top, left, bottom, right), on a background of 0."""
    labels = np.zeros((height, width), np.int64)
    for name, (top, left, bottom, right) in boxes.items():
        labels[top:bottom, left:right] = int(name[1:])
    return labels


LABELS = (
    _cells(9, 13, n1=(1, 1, 4, 5), n2=(1, 6, 7, 9), n3=(6, 1, 8, 4)),
    _cells(8, 12, n2=(0, 0, 3, 3), n5=(2, 5, 6, 8), n7=(5, 9, 8, 12), n9=(0, 10, 2, 12)),
    _cells(5, 7, n1=(0, 0, 2, 2), n4=(3, 4, 5, 7)),
)


@exercise("2.6", "border weights", points=3)
def border_weight_map(answer: Answer) -> None:
    for labels, w0, sigma in zip(LABELS, (10.0, 6.0, 3.0), (1.5, 2.0, 5.0), strict=True):
        apart = [distance_transform_edt(labels != number) for number in np.unique(labels)[1:]]
        d1, d2 = np.sort(apart, axis=0)[:2]  # each pixel's distance to the nearest cell and to the next
        height = w0 * (labels == 0)  # of the bump, which only the background has
        squared, twice = (d1 + d2) ** 2, 2 * sigma**2
        hints = {
            "inside the cells the weight is 1": 1 + w0 * np.exp(-squared / twice),
            "the sum is squared, (d1 + d2)², not each distance": 1 + height * np.exp(-(d1**2 + d2**2) / twice),
            "the 2 of 2·σ² is missing": 1 + height * np.exp(-squared / sigma**2),
            "σ is squared": 1 + height * np.exp(-squared / (2 * sigma)),
            "d2, the distance to the second-nearest cell, is missing": 1 + height * np.exp(-(d1**2) / twice),
            "the 1 is missing: far from all borders a pixel still counts": height * np.exp(-squared / twice),
        }
        answer.expect(answer(labels, w0, sigma), border_weights(labels, w0, sigma), "w", hints, 1e-5)  # in float32


CHAIN = 20_000  # nodes one after another: deeper than Python's recursion
GRAPHS: tuple[tuple[str, dict[str, list[str]]], ...] = (
    ("loss", {"loss": ["y"], "y": ["x", "w"], "x": [], "w": []}),
    # a skip connection; c is met first from the end, and may yet come only after b, which it was made from
    ("joined", {"joined": ["saved", "up"], "up": ["deep"], "deep": ["saved"], "saved": ["x"], "x": [], "lost": ["x"]}),
    ("e", {"e": ["c", "d"], "d": ["b", "c"], "c": ["b", "a"], "b": ["a", "a"], "a": []}),
    ("x", {"x": []}),
    (str(CHAIN), {str(i): [str(i - 1)] if i else [] for i in range(CHAIN + 1)}),
)


@exercise("2.7", "the order of the backward", points=3)
def topological_order(answer: Answer) -> None:
    for end, parents in GRAPHS:
        given = {node: list(made_from) for node, made_from in parents.items()}
        came = answer(end, given)
        about = f"the graph {parents}" if len(parents) < 10 else f"a chain of {len(parents):,} nodes"
        if given != parents:
            raise answer.wrong(f"{about} was changed: whoever gave it still needs it")
        if not isinstance(came, (list, tuple)) or not set(map(str, came)) <= parents.keys():
            raise answer.wrong(f"{about}: expected a list of its nodes; {came!r:.60} came")
        if wrong := _wrong_order(list(came), end, parents):
            raise answer.wrong(f"{about}: {wrong}")


def _wrong_order(came: list[Any], end: str, parents: dict[str, list[str]]) -> str:
    """What is wrong, if each node that `end` was made from must come once, after all of its own parents."""
    shown = came if len(came) < 10 else f"{len(came):,} nodes"
    needed, found = {end}, [end]
    while found:
        fresh = set(parents[found.pop()]) - needed
        needed |= fresh
        found += fresh
    place = {node: i for i, node in enumerate(came)}  # for a node that comes twice, the last one
    for i, node in enumerate(came):
        if place[node] != i:
            once = "remember the nodes that you have seen; one that is used twice is still one node"
            return f"{node!r} comes more than once in {shown}\n  Hint: {once}"
    if missing := needed - set(came):
        return f"{min(missing)!r} is missing in {shown}"
    if extra := set(came) - needed:
        begin = "begin at the end and go from each node to its parents"
        return f"{min(extra)!r} is in {shown}, and {end!r} was not made from it\n  Hint: {begin}"
    early = [(node, parent) for node in came for parent in parents[node] if place[parent] > place[node]]
    if not early:
        return ""
    hint = "a node may be listed only when all of its parents are, not when it is first met"
    if len(early) == sum(len(parents[node]) for node in came):  # each and every pair
        hint = "that is the order of the backward; parents first was asked for, its reverse"
    node, parent = early[0]
    return f"{node!r} was made from {parent!r} and comes before it in {shown}\n  Hint: {hint}"
