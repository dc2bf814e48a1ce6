"""Section 2: max-pool, skip connections, the receptive field, the way back up, border weights, the tape's order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from tinydiff import kernels
from tinydiff.exercises.checking import Answer, Exercise, drawn
from tinydiff.ops import concat, max_pool2d, upsample_nearest
from tinydiff.segmentation.border import border_weights

# (N, H, W, C) and the window's size: never square, never one image
POOLS = (((2, 4, 6, 3), 2), ((3, 6, 9, 1), 3), ((4, 8, 4, 2), 4))


def max_pool(answer: Answer) -> None:
    for (shape, size), shift in zip(POOLS, (0.0, -9.0, 0.0), strict=True):
        x = drawn(shape, seed=0)[0] + shift
        with kernels.use("numpy"):
            expected = max_pool2d.forward(x, size=size)[0]
        n, height, width, channels = expected.shape
        windows = x.reshape(n, height, size, width, size, channels)
        hints = {
            "that is the mean of each window, not its largest number": windows.mean((2, 4)),
            "a window is size neighbours; you took numbers that lie far apart": x.reshape(
                n, size, height, size, width, channels
            ).max((1, 3)),
            "numbers may be negative: begin with one of the window's, not with 0": np.maximum(expected, 0),
        }
        answer.expect(answer(x, size), expected, f"y of windows {size}×{size}", hints)


def max_pool_grad(answer: Answer) -> None:
    for (shape, size), rounded in zip(POOLS, (False, True, True), strict=True):
        (x,) = drawn(shape, seed=1)
        if rounded:
            x = np.round(x)  # some windows hold their largest number more than once
        with kernels.use("numpy"):
            y, backward = max_pool2d.forward(x, size=size)
            (dy,) = drawn(y.shape, seed=2)
            (expected,) = backward(dy)
            (turned,) = max_pool2d.forward(x[:, ::-1, ::-1], size=size)[1](dy[:, ::-1, ::-1])
        everywhere = dy.repeat(size, 1).repeat(size, 2)
        won = x == y.repeat(size, 1).repeat(size, 2)
        n, height, width, channels = y.shape
        count = won.reshape(n, height, size, width, size, channels).sum((2, 4)).repeat(size, 1).repeat(size, 2)
        hints = {
            "that is the gradient of a mean: only the place that won gets any": everywhere / size**2,
            "only the place that won gets a gradient, the others get none": everywhere,
            "dy is not used: the gradient that arrives is not all ones": won.astype(float),
            "where several are equally large, the first alone gets the gradient": everywhere * won,
            "where several are equally large, the first gets all of it: nothing is shared": everywhere * won / count,
            "where several are equally large, it is the first that gets the gradient, not the last": turned[
                :, ::-1, ::-1
            ],
        }
        answer.expect(answer(x, dy, size), expected, "dx", hints)


def skip_grads(answer: Answer) -> None:
    for n, height, width, channels, others in ((2, 3, 5, 3, 4), (3, 4, 2, 2, 1), (2, 5, 3, 1, 1)):
        x, up, dy, below = drawn(
            (n, height, width, channels),
            (n, height, width, others),
            (n, height, width, channels + others),
            (n, height, width, channels),
            seed=3,
        )
        across, dup = concat.forward(x, up)[1](dy)
        hints = {
            "x was used twice: what came from below belongs to it as well": (across, dup),
            "x was used twice: what came across belongs to it as well": (below, dup),
            "the gradients are added: nothing is averaged": ((across + below) / 2, dup),
            "in joined, x comes first and up after it": (dy[..., -channels:] + below, dy[..., :-channels]),
        }
        came = answer(dy, below, channels)
        answer.expect(came, (across + below, dup), "dx, dup", hints)


def receptive_field(answer: Answer) -> None:
    for layers in (
        [(3, 1), (3, 1)],
        [(3, 1), (3, 1), (2, 2), (3, 1), (3, 1)],
        [(7, 2), (3, 1), (2, 2), (3, 2), (1, 1)],
        [(5, 3), (4, 2), (1, 3), (3, 1)],
        [],
    ):
        first = last = 0  # of the pixels that one pixel of the result sees, followed from the result to the image
        for kernel, stride in reversed(layers):
            first, last = first * stride, last * stride + kernel - 1
        sizes = [kernel for kernel, _ in layers]
        jumps = np.cumprod([1, *(stride for _, stride in layers)])  # pixels of the image between two of each layer
        hints = {
            "the strides are left out: after a stride of 2, a neighbour lies two pixels of the image away": 1
            + sum(k - 1 for k in sizes),
            "a layer adds kernel − 1 neighbours: its own pixel is there already": 1
            + sum(int(k * j) for k, j in zip(sizes, jumps, strict=False)),
            "a layer's stride widens what later layers add, not what it adds itself": 1
            + sum(int((k - 1) * j) for k, j in zip(sizes, jumps[1:], strict=True)),
            "one pixel is seen before there is any layer: begin with 1": last - first,
        }
        came = answer(list(layers))
        if isinstance(came, float):
            raise answer.wrong(f"a number of pixels is whole: {came!r} came for the layers {layers}")
        answer.expect(came, last - first + 1, f"what is seen through the layers {layers}", hints)


def upsample_and_grad(answer: Answer) -> None:
    for shape in ((2, 3, 5, 3), (3, 2, 4, 1), (2, 4, 1, 2)):
        (x,) = drawn(shape, seed=4)
        with kernels.use("numpy"):
            y, backward = upsample_nearest.forward(x)
            (dy,) = drawn(y.shape, seed=5)
            (dx,) = backward(dy)
        hints = {
            "the four copies lie side by side: repeat each number, do not lay whole images side by side": (
                np.tile(x, (1, 2, 2, 1)),
                dx,
            ),
            "that is the mean over the four copies: a gradient is a sum": (y, dx / 4),
            "x is used four times: all four gradients count, not the first alone": (y, dy[:, ::2, ::2]),
            "dy is not used: the gradient that arrives is not all ones": (y, np.full(shape, 4.0)),
        }
        answer.expect(answer(x, dy), (y, dx), "y, dx", hints)


def _cells(height: int, width: int, **boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Numbered rectangles, n1=(top, left, bottom, right), on a background of 0."""
    labels = np.zeros((height, width), np.int64)
    for name, (top, left, bottom, right) in boxes.items():
        labels[top:bottom, left:right] = int(name[1:])
    return labels


IMAGES = (
    _cells(9, 13, n1=(1, 1, 4, 5), n2=(1, 6, 7, 9), n3=(6, 1, 8, 4)),
    _cells(8, 12, n2=(0, 0, 3, 3), n5=(2, 5, 6, 8), n7=(5, 9, 8, 12), n9=(0, 10, 2, 12)),
    _cells(5, 7, n1=(0, 0, 2, 2), n4=(3, 4, 5, 7)),
)


def border_weight_map(answer: Answer) -> None:
    for labels, w0, sigma in zip(IMAGES, (10.0, 6.0, 3.0), (1.5, 2.0, 5.0), strict=True):
        places = np.indices(labels.shape)[..., None]
        apart = []  # each pixel's distance to each cell
        for number in np.unique(labels)[1:]:
            cell = np.array(np.nonzero(labels == number))[:, None, None]
            apart.append(np.sqrt(((places - cell) ** 2).sum(0)).min(-1))
        d1, d2 = np.sort(apart, axis=0)[:2]
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
        expected = border_weights(labels, w0, sigma).astype(float)
        answer.expect(answer(labels, w0, sigma), expected, "w", hints, tolerance=1e-5)  # the library's is float32


CHAIN = 20_000  # nodes one after another: deeper than Python's recursion
GRAPHS: tuple[tuple[str, dict[str, list[str]]], ...] = (
    ("loss", {"loss": ["y"], "y": ["x", "w"], "x": [], "w": []}),
    # a skip connection; c is met first from the end, and may yet come only after b, which it was made from
    ("joined", {"joined": ["saved", "up"], "up": ["deep"], "deep": ["saved"], "saved": ["x"], "x": [], "lost": ["x"]}),
    ("e", {"e": ["c", "d"], "d": ["b", "c"], "c": ["b", "a"], "b": ["a", "a"], "a": []}),
    ("x", {"x": []}),
    (str(CHAIN), {str(i): [str(i - 1)] if i else [] for i in range(CHAIN + 1)}),
)


def topological_order(answer: Answer) -> None:
    for end, parents in GRAPHS:
        given = {node: list(made_from) for node, made_from in parents.items()}
        came = answer(end, given)
        about = f"the graph {parents}" if len(parents) < 10 else f"a chain of {len(parents):,} nodes"
        if given != parents:
            raise answer.wrong(f"{about} was changed: whoever gave it still needs it")
        if not isinstance(came, (list, tuple)) or not set(map(str, came)) <= parents.keys():
            raise answer.wrong(f"{about}: expected a list of its nodes; {came!r:.60} came")
        _judge_order(answer, list(came), end, parents, about)


def _judge_order(answer: Answer, came: list[Any], end: str, parents: dict[str, list[str]], about: str) -> None:
    """Each node that `end` was made from, once, after all of its own parents."""
    shown = came if len(came) < 10 else f"{len(came):,} nodes"
    needed, found = {end}, [end]
    while found:
        fresh = set(parents[found.pop()]) - needed
        needed |= fresh
        found += fresh
    counted = Counter(came).most_common(1)
    if counted and counted[0][1] > 1:
        raise answer.wrong(
            f"{about}: {counted[0][0]!r} comes more than once in {shown}"
            "\n  Hint: remember the nodes that you have seen; one that is used twice is still one node"
        )
    if missing := needed - set(came):
        raise answer.wrong(f"{about}: {min(missing)!r} is missing in {shown}")
    if extra := set(came) - needed:
        raise answer.wrong(
            f"{about}: {min(extra)!r} is in {shown}, and {end!r} was not made from it"
            "\n  Hint: begin at the end and go from each node to its parents"
        )
    place = {node: i for i, node in enumerate(came)}
    for node in came:
        for parent in parents[node]:
            if place[parent] > place[node]:
                turned = all(place[p] > place[n] for n in came for p in parents[n])
                raise answer.wrong(
                    f"{about}: {node!r} was made from {parent!r} and comes before it in {shown}\n  Hint: "
                    + (
                        "that is the order of the backward; parents first was asked for, its reverse"
                        if turned
                        else "a node may be listed only when all of its parents are, not when it is first met"
                    )
                )


EXERCISES = (
    Exercise("2.1", "max-pool", "max_pool", 1, max_pool),
    Exercise("2.2", "the gradient of max-pool", "max_pool_grad", 2, max_pool_grad),
    Exercise("2.3", "the gradient of a skip connection", "skip_grads", 2, skip_grads),
    Exercise("2.4", "the receptive field", "receptive_field", 2, receptive_field),
    Exercise("2.5", "nearest ×2 and its gradient", "upsample_and_grad", 2, upsample_and_grad),
    Exercise("2.6", "border weights", "border_weight_map", 3, border_weight_map),
    Exercise("2.7", "the order of the backward", "topological_order", 3, topological_order),
)
