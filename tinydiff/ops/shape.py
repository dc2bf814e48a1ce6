"""Joining and parting channels: what a skip connection is made of."""

from __future__ import annotations

from tinydiff import kernels
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module
from tinydiff.errors import InputError


@op
def concat(a: Array, b: Array) -> tuple[Array, Backward]:
    """b "added to the end of the channels" of a: (…, C), (…, D) → (…, C + D); the gradient is cut at the same place.

    (Ronneberger 2015, arXiv:1505.04597)
    """
    if a.shape[:-1] != b.shape[:-1]:
        raise InputError(f"concat: all axes but the last must be the same; got {a.shape} and {b.shape}")
    cut = a.shape[-1]

    def backward(dy: Array) -> tuple:
        split = kernels.find_kernel("split", dy)
        return split(dy, cut) if split is not None else (dy[..., :cut], dy[..., cut:])

    joined = kernels.find_kernel("concat", a)
    return (array_module(a).concatenate([a, b], axis=-1) if joined is None else joined(a, b)), backward


@op
def slice_channels(x: Array, *, start: int, stop: int) -> tuple[Array, Backward]:
    """Channels start … stop of x: (…, C) → (…, stop − start); the others get no gradient."""
    if not 0 <= start < stop <= x.shape[-1]:
        raise InputError(f"slice_channels: {start} … {stop} is no part of the {x.shape[-1]} channels of x {x.shape}")

    def backward(dy: Array) -> tuple:
        dx = array_module(x).zeros(x.shape, dy.dtype)
        dx[..., start:stop] = dy
        return (dx,)

    return x[..., start:stop], backward


@op
def center_crop(x: Array, *, size: tuple[int, int]) -> tuple[Array, Backward]:
    """The middle of x: (N, H, W, C) → (N, *size, C); what is cut away gets no gradient.

    (Ronneberger 2015, arXiv:1505.04597, section 2)
    """
    if x.ndim != 4 or not (0 < size[0] <= x.shape[1] and 0 < size[1] <= x.shape[2]):
        raise InputError(f"center_crop: {size[0]}×{size[1]} is no part of x {x.shape}")
    top, left = (x.shape[1] - size[0]) // 2, (x.shape[2] - size[1]) // 2
    middle = (slice(None), slice(top, top + size[0]), slice(left, left + size[1]))

    def backward(dy: Array) -> tuple:
        dx = array_module(x).zeros(x.shape, dy.dtype)
        dx[middle] = dy
        return (dx,)

    return x[middle], backward


@op
def global_avg_pool(x: Array) -> tuple[Array, Backward]:
    """The mean over all positions: (N, …, C) → (N, C); each position gets an equal part of the gradient."""
    rows = x.reshape(x.shape[0], -1, x.shape[-1])

    def backward(dy: Array) -> tuple:
        share = (dy / rows.shape[1]).astype(dy.dtype)
        return (array_module(x).broadcast_to(share[:, None], rows.shape).reshape(x.shape),)

    return rows.mean(1), backward
