"""PyTorch's normal random numbers on a CPU, in NumPy, so that a seed means the same image as in diffusers."""

from numbers import Integral
from typing import Any

import numpy as np

from tinydiff.errors import InputError

FEW = 16  # numbers below which PyTorch draws one pair after the other


class TorchRng:
    """What `torch.Generator().manual_seed(seed)` draws by `torch.randn`, to within a rounding, as float32.

    Its words are MT19937's; numbers come by Box and Muller, √(−2·ln u)·(cos 2πw, sin 2πw), from groups of sixteen of
    24 bits each (53 for float64), or where fewer than sixteen are asked for, in pairs of 53 bits, of which the second
    is kept.  Raises InputError for a seed that is no whole number from −2⁶³ to 2⁶⁴ − 1, as PyTorch does.

    >>> TorchRng(0).standard_normal((2, 8))[0, :2].round(4)
    array([-1.1258, -1.1524], dtype=float32)
    """

    def __init__(self, seed: int) -> None:
        if not isinstance(seed, Integral) or isinstance(seed, bool) or not -(2**63) <= seed < 2**64:
            raise InputError(f"TorchRng: seed is {seed!r}, expected a whole number from -2**63 to 2**64 - 1")
        self._words: Any = np.random.RandomState(int(seed) & 0xFFFFFFFF)._bit_generator  # type: ignore[attr-defined]
        self._kept: float | None = None

    def standard_normal(self, shape: Any, dtype: Any = np.float32) -> np.ndarray:
        """N(0, 1) of that shape; images (N, H, W, C) are drawn as (N, C, H, W), the order that PyTorch's have."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if len(shape) == 4:
            n, height, width, channels = shape
            drawn = self._draw(n * channels * height * width, dtype).reshape(n, channels, height, width)
            return np.ascontiguousarray(drawn.transpose(0, 2, 3, 1), dtype)
        return self._draw(int(np.prod(shape)), dtype).reshape(shape).astype(dtype)

    def _draw(self, count: int, dtype: Any) -> np.ndarray:
        if count < FEW:
            return np.array([self._one() for _ in range(count)], np.float64 if dtype == np.float64 else np.float32)
        uniform = self._uniform(count, dtype)
        whole = count - count % FEW
        numbers = np.concatenate([_box_muller(uniform[:whole]), uniform[whole:]])
        if count % FEW:  # the last sixteen are drawn anew, and reach back into the group before
            numbers[-FEW:] = _box_muller(self._uniform(FEW, dtype))
        return numbers

    def _uniform(self, count: int, dtype: Any) -> np.ndarray:
        """In [0, 1), of 24 bits, or of 53 bits as float64."""
        if dtype == np.float64:
            return self._uniform_of_two_words(count)
        return ((self._words.random_raw(count) & 0xFFFFFF) * 2.0**-24).astype(np.float32)

    def _uniform_of_two_words(self, count: int) -> np.ndarray:
        words = self._words.random_raw(2 * count).astype(np.uint64)
        return (((words[::2] << np.uint64(32)) | words[1::2]) & np.uint64((1 << 53) - 1)) * 2.0**-53

    def _one(self) -> float:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return kept
        angle, u = self._uniform_of_two_words(2)
        radius = np.sqrt(-2 * np.log1p(-u))
        self._kept = radius * np.sin(2 * np.pi * angle)
        return radius * np.cos(2 * np.pi * angle)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    """Normal numbers of uniform ones (16·n,), in groups: eight radii, then eight angles."""
    u, w = uniform.reshape(-1, 2, FEW // 2).swapaxes(0, 1)  # (n, 8) each
    radius = np.sqrt(-2 * np.log(1 - u))
    angle = w.dtype.type(2 * np.pi) * w
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)
