"""Plausible wrong answers to section 2: name → (answer, a piece of what must be said)."""

import numpy as np
from scipy.ndimage import distance_transform_edt

from tinydiff import kernels
from tinydiff.ops import max_pool2d, upsample_nearest
from tinydiff.segmentation.border import border_weights


def windows(x, size):
    n, height, width, channels = x.shape
    return x.reshape(n, height // size, size, width // size, size, channels)


def pooled(x, size):
    """The right answer to 2.1."""
    return windows(x, size).max((2, 4))


def from_zero(x, size):
    y = np.zeros((len(x), x.shape[1] // size, x.shape[2] // size, x.shape[3]))
    for a in range(size):
        for b in range(size):
            y = np.maximum(y, x[:, a::size, b::size])
    return y


def overlapping(x, size):
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2)).max((-2, -1))


def far_apart(x, size):
    n, height, width, channels = x.shape
    return x.reshape(n, size, height // size, size, width // size, channels).max((1, 3))


def rectified_in_place(x, size):
    x[x < 0] = 0
    return pooled(x, size)


def pool_grad(x, dy, size):
    """The right answer to 2.2."""
    with kernels.use("numpy"):
        return max_pool2d.forward(x, size=size)[1](dy)[0]


def enlarged(y, size):
    return y.repeat(size, 1).repeat(size, 2)


def all_that_are_equal(x, dy, size):
    return enlarged(dy, size) * (x == enlarged(pooled(x, size), size))


def shared_by_equals(x, dy, size):
    won = x == enlarged(pooled(x, size), size)
    return enlarged(dy, size) * won / enlarged(windows(won, size).sum((2, 4)), size)


def by_value_in_the_image(x, dy, size):
    """Writes dy wherever the winner's value stands in the image, in whatever window; in place of the window alone."""
    dx = np.zeros(x.shape)
    for n, i, j, c in np.ndindex(dy.shape):
        dx[n, ..., c][x[n, ..., c] == pooled(x, size)[n, i, j, c]] = dy[n, i, j, c]
    return dx


def marks_in_place(x, dy, size):
    dx = pool_grad(x, dy, size)
    x[dx != 0] = -np.inf
    return dx


def first_channel_decides(x, dy, size):
    one = pool_grad(np.broadcast_to(x[..., :1], x.shape).copy(), dy, size)
    return one


def last_of_equals(x, dy, size):
    return pool_grad(x[:, ::-1, ::-1], dy[:, ::-1, ::-1], size)[:, ::-1, ::-1]


def skip(djoined, dbelow, channels):
    """The right answer to 2.3."""
    return djoined[..., :channels] + dbelow, djoined[..., channels:]


def cut_in_the_middle(djoined, dbelow, channels):
    middle = djoined.shape[-1] // 2
    return djoined[..., :middle] + dbelow, djoined[..., middle:]


def adds_in_place(djoined, dbelow, channels):
    dbelow += djoined[..., :channels]
    return dbelow, djoined[..., channels:]


def up_first(djoined, dbelow, channels):
    return djoined[..., -channels:] + dbelow, djoined[..., :-channels]


def seen(layers):
    """The right answer to 2.4."""
    first = 1
    for kernel, stride in reversed(layers):
        first = (first - 1) * stride + kernel
    return first


def stride_first(layers):
    field, apart = 1, 1
    for kernel, stride in layers:
        apart *= stride
        field += (kernel - 1) * apart
    return field


def whole_kernels(layers):
    field, apart = 1, 1
    for kernel, stride in layers:
        field += kernel * apart
        apart *= stride
    return field


def doubled(x, dy):
    """The right answer to 2.5."""
    with kernels.use("numpy"):
        y, backward = upsample_nearest.forward(x)
        return y, *backward(dy)


def weights(labels, w0, sigma):
    """The right answer to 2.6."""
    return border_weights(labels, w0, sigma).astype(float)


def distances(labels):
    apart = [distance_transform_edt(labels != number) for number in np.unique(labels)[1:]]
    return np.sort(apart, axis=0)[:2]


def bump(labels, squared, twice, w0):
    return 1 + (labels == 0) * w0 * np.exp(-squared / twice)


def inside_out(labels, w0, sigma):
    apart = [distance_transform_edt(labels == number) for number in np.unique(labels)[1:]]
    d1, d2 = np.sort(apart, axis=0)[:2]
    return bump(labels, (d1 + d2) ** 2, 2 * sigma**2, w0)


def first_two_cells(labels, w0, sigma):
    d1, d2 = (distance_transform_edt(labels != number) for number in np.unique(labels)[1:3])
    return bump(labels, (d1 + d2) ** 2, 2 * sigma**2, w0)


def background_is_a_cell(labels, w0, sigma):
    apart = [distance_transform_edt(labels != number) for number in np.unique(labels)]
    d1, d2 = np.sort(apart, axis=0)[:2]
    return bump(labels, (d1 + d2) ** 2, 2 * sigma**2, w0)


def everywhere(labels, w0, sigma):
    return 1 + w0 * np.exp(-(sum(distances(labels)) ** 2) / (2 * sigma**2))


def forgets_numbers(labels, w0, sigma):
    labels[labels > 0] = 1
    return weights(labels, w0, sigma)


def in_order(end, parents):
    """The right answer to 2.7."""
    order, seen, stack = [], set(), [(end, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((parent, False) for parent in parents[node])]
    return order


def recursive(end, parents):
    order, seen = [], set()

    def visit(node):
        if node not in seen:
            seen.add(node)
            for parent in parents[node]:
                visit(parent)
            order.append(node)

    visit(end)
    return order


def as_first_met(end, parents):
    """Breadth first, turned round."""
    order, queue = [end], [end]
    while queue:
        for parent in parents[queue.pop(0)]:
            if parent not in order[:2000]:
                order.append(parent)
                queue.append(parent)
    return order[::-1]


def without_memory(end, parents):
    order, stack = [], [(end, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        else:
            stack += [(node, True), *((parent, False) for parent in parents[node])]
    return order


def every_node_once(end, parents):
    order = []
    for other in parents:
        order += [node for node in in_order(other, parents) if node not in set(order)]
    return order


def eats_the_graph(end, parents):
    order = in_order(end, parents)
    parents.clear()
    return order


WRONG = {
    "2.1": {
        "mean": (lambda x, size: windows(x, size).mean((2, 4)), "that is the mean of each window"),
        "far apart": (far_apart, "you took numbers that lie far apart"),
        "from zero": (from_zero, "numbers may be negative"),
        "windows overlap": (overlapping, "expected shape (2, 2, 3, 3)"),
        "over the channels too": (lambda x, size: pooled(x, size).max(-1), "expected shape"),
        "the first pixel": (lambda x, size: x[:, ::size, ::size], "y of windows 2×2: expected"),
        "negative ones set to 0 in place": (rectified_in_place, "changes its first argument in place"),
        "always 2": (lambda x, size: pooled(x, 2), "max_pool(array (3, 6, 9, 1), 3) raised ValueError"),
    },
    "2.2": {
        "shared by all": (lambda x, dy, size: enlarged(dy, size) / size**2, "that is the gradient of a mean"),
        "to all": (lambda x, dy, size: enlarged(dy, size), "the others get none"),
        "ones for dy": (lambda x, dy, size: pool_grad(x, np.ones_like(dy), size), "dy is not used"),
        "all that are equal": (all_that_are_equal, "the first alone gets the gradient"),
        "equals share": (shared_by_equals, "nothing is shared"),
        "last of equals": (last_of_equals, "not the last"),
        "by value in the whole image": (by_value_in_the_image, "dx: expected"),
        "first channel decides": (first_channel_decides, "dx: expected"),
        "marks the winners in place": (marks_in_place, "changes its first argument in place"),
        "of y's shape": (lambda x, dy, size: dy, "expected shape (2, 4, 6, 3)"),
    },
    "2.3": {
        "across only": (lambda d, b, c: (d[..., :c], d[..., c:]), "what came from below belongs to it"),
        "below only": (lambda d, b, c: (b, d[..., c:]), "what came across belongs to it"),
        "mean": (lambda d, b, c: ((d[..., :c] + b) / 2, d[..., c:]), "nothing is averaged"),
        "up first": (up_first, "x comes first"),
        "cut in the middle": (cut_in_the_middle, "dx: expected"),
        "adds in place": (adds_in_place, "changes its second argument in place"),
        "swapped": (lambda d, b, c: skip(d, b, c)[::-1], "dx: expected shape"),
        "one result": (lambda d, b, c: skip(d, b, c)[0], "expected 2 results (dx, dup)"),
    },
    "2.4": {
        "without strides": (lambda layers: 1 + sum(k - 1 for k, _ in layers), "the strides are left out"),
        "whole kernels": (whole_kernels, "its own pixel is there already"),
        "own stride first": (stride_first, "not what it adds itself"),
        "from 0": (lambda layers: seen(layers) - 1, "begin with 1"),
        "from the other end": (lambda layers: seen(layers[::-1]), "what is seen through the layers"),
        "product of strides": (lambda layers: int(np.prod([s for _, s in layers])), "what is seen"),
        "a float": (lambda layers: float(seen(layers)), "a number of pixels is whole"),
    },
    "2.5": {
        "tiled": (lambda x, dy: (np.tile(x, (1, 2, 2, 1)), doubled(x, dy)[1]), "do not lay whole images"),
        "mean": (lambda x, dy: (doubled(x, dy)[0], doubled(x, dy)[1] / 4), "a gradient is a sum"),
        "first copy": (lambda x, dy: (doubled(x, dy)[0], dy[:, ::2, ::2]), "all four gradients count"),
        "ones for dy": (lambda x, dy: doubled(x, np.ones_like(dy)), "dy is not used"),
        "columns alone": (lambda x, dy: (x.repeat(2, 2), dy[:, ::2].sum(1)), "y: expected shape"),
        "channels too": (lambda x, dy: (x.repeat(2, 1).repeat(2, 3), dy), "y: expected shape"),
        "swapped": (lambda x, dy: doubled(x, dy)[::-1], "y: expected shape"),
        "halved in place": (
            lambda x, dy: (doubled(x, dy)[0], np.multiply(dy, 1.0001, out=dy)[:, ::2, ::2]),
            "changes its second argument in place",
        ),
    },
    "2.6": {
        "inside too": (everywhere, "inside the cells the weight is 1"),
        "each squared": (
            lambda labels, w0, s: bump(labels, (distances(labels) ** 2).sum(0), 2 * s**2, w0),
            "the sum is squared",
        ),
        "σ²": (lambda labels, w0, s: bump(labels, distances(labels).sum(0) ** 2, s**2, w0), "the 2 of 2·σ²"),
        "2·σ": (lambda labels, w0, s: bump(labels, distances(labels).sum(0) ** 2, 2 * s, w0), "σ is squared"),
        "nearest alone": (lambda labels, w0, s: bump(labels, distances(labels)[0] ** 2, 2 * s**2, w0), "d2, the"),
        "without 1": (lambda labels, w0, s: weights(labels, w0, s) - 1, "the 1 is missing"),
        "inside out": (inside_out, "w: expected"),
        "the first two cells": (first_two_cells, "w: expected"),
        "the background is a cell": (background_is_a_cell, "w: expected"),
        "forgets numbers in place": (forgets_numbers, "changes its first argument in place"),
    },
    "2.7": {
        "recursion": (recursive, "RecursionError"),
        "as first met": (as_first_met, "not when it is first met"),
        "the backward's order": (lambda end, p: in_order(end, p)[::-1], "that is the order of the backward"),
        "without memory": (without_memory, "comes more than once"),
        "all there are": (every_node_once, "was not made from it"),
        "without the end": (lambda end, p: in_order(end, p)[:-1], "'loss' is missing"),
        "direct parents": (lambda end, p: [*p[end], end], "is missing"),
        "empties the graph": (eats_the_graph, "was changed"),
        "as a set": (lambda end, p: set(in_order(end, p)), "expected a list of its nodes"),
        "pairs": (lambda end, p: [(node, True) for node in in_order(end, p)], "expected a list of its nodes"),
    },
}
