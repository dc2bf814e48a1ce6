"""An array in a file, found without reading it."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from tinydiff.errors import InputError

BFLOAT16 = "bfloat16"  # which NumPy has not
DTYPES = ("float64", "float32", "float16", BFLOAT16, "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class Stored:
    """An array where it lies: `read()` maps it into memory."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int  # of its first byte
    strides: tuple[int, ...] | None = None  # in numbers; None: one after the other

    def read(self) -> np.ndarray:
        """The array, read-only, from the file's own pages; bfloat16 becomes float32."""
        if self.dtype not in DTYPES:
            raise InputError(f"{self.path}: holds {self.dtype}, which is not read; expected float16 or more")
        strides = _strides(self.shape) if self.strides is None else self.strides
        count = 1 + sum((side - 1) * step for side, step in zip(self.shape, strides, strict=True))
        if 0 in self.shape:
            return np.zeros(self.shape, np.float32)
        stored = np.uint16 if self.dtype == BFLOAT16 else np.dtype(self.dtype)
        flat: np.ndarray = np.memmap(self.path, stored, "r", self.offset, (count,))
        if self.dtype == BFLOAT16:  # the upper half of a float32
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        steps = tuple(step * flat.itemsize for step in strides)
        return np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False)


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def itemsize(dtype: str) -> int:
    """Bytes of one number."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize
