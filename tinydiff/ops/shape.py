"""Joining, parting and shifting channels: what skip connections and the time embedding are made of."""

from tinydiff import kernels
from tinydiff.arithmetic import getitem
from tinydiff.autograd import Array, Backward, op
from tinydiff.device import array_module
from tinydiff.errors import InputError


@op
def concat(a: Array, b: Array) -> tuple[Array, Backward]:
    """b "added to the end of the channels" of a: (…, C), (…, D) → (…, C + D); the gradient is cut at the same place.

    Raises InputError unless all axes but the last are the same.  (Ronneberger 2015, arXiv:1505.04597)
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
    """Channels start … stop of x: (…, C) → (…, stop − start); the others get no gradient.

    Raises InputError where x has no such channels.
    """
    if not 0 <= start < stop <= x.shape[-1]:
        raise InputError(f"slice_channels: {start} … {stop} is no part of the {x.shape[-1]} channels of x {x.shape}")
    return getitem(x, key=(..., slice(start, stop)))


@op
def center_crop(x: Array, *, size: tuple[int, int]) -> tuple[Array, Backward]:
    """The middle of x: (N, H, W, C) → (N, *size, C); what is cut away gets no gradient.

    Raises InputError where x is smaller.  (Ronneberger 2015, arXiv:1505.04597, section 2)
    """
    if x.ndim != 4 or not (0 < size[0] <= x.shape[1] and 0 < size[1] <= x.shape[2]):
        raise InputError(f"center_crop: {size[0]}×{size[1]} is no part of x {x.shape}")
    top, left = (x.shape[1] - size[0]) // 2, (x.shape[2] - size[1]) // 2
    return getitem(x, key=(slice(None), slice(top, top + size[0]), slice(left, left + size[1])))


@op
def global_avg_pool(x: Array) -> tuple[Array, Backward]:
    """The mean over all positions: (N, …, C) → (N, C); each position gets an equal part of the gradient."""
    rows = x.reshape(x.shape[0], -1, x.shape[-1])  # (N, positions, C)

    def backward(dy: Array) -> tuple:
        share = (dy / rows.shape[1]).astype(dy.dtype)
        return (array_module(x).broadcast_to(share[:, None], rows.shape).reshape(x.shape),)

    return rows.mean(1), backward


@op
def add_channel_bias(x: Array, b: Array) -> tuple[Array, Backward]:
    """Each image's own number for each channel, added at all positions: x (N, …, C), b (N, C) → as x.

        y[n, …, c] = x[n, …, c] + b[n, c]      dx = dy      db = Σ dy over the positions of an image

    Raises InputError where shapes do not fit.  (The time embedding of Ho 2020, arXiv:2006.11239, enters in this way.)
    """
    if x.ndim < 2 or b.shape != (x.shape[0], x.shape[-1]):
        raise InputError(f"add_channel_bias: x must be (N, …, C) and b (N, C), not {x.shape} and {b.shape}")
    everywhere = b.reshape(x.shape[0], *[1] * (x.ndim - 2), x.shape[-1])  # (N, 1, …, 1, C)

    def backward(dy: Array) -> tuple:
        fast = kernels.find_kernel("sum_positions", dy)
        return dy, dy.sum(tuple(range(1, dy.ndim - 1))) if fast is None else fast(dy)

    return kernels.add(x, everywhere), backward
