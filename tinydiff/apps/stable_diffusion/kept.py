"""Weights that stay float16, as their file has them, until a layer runs: half the memory, and the same numbers."""

from typing import Any

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import Array
from tinydiff.nn.module import Module, Parameter


class KeptParameter(Parameter):
    """A parameter whose float16 array is made float32 anew whenever its data are asked for, exactly."""

    def __init__(self, array: Array) -> None:
        super().__init__(array)
        self.requires_grad = False

    def _widened(self) -> Array:
        if self._kept.dtype != np.float16:
            return self._kept
        fast = kernels.find_kernel("from_float16", np.float32(0))
        return self._kept.astype(np.float32) if fast is None else fast(self._kept)

    def _keep_array(self, array: Array) -> None:
        self._kept = array

    # What Tensor reads and writes; shapes are known without widening anything.
    _data: Any = property(_widened, _keep_array)  # type: ignore[assignment]
    shape = property(lambda self: self._kept.shape)
    ndim = property(lambda self: self._kept.ndim)
    size = property(lambda self: self._kept.size)
    dtype = property(lambda self: np.dtype(np.float32) if self._kept.dtype == np.float16 else self._kept.dtype)


def keep_as_stored(model: Module) -> None:
    """Let every parameter of the model take arrays of float16 as they are."""
    for _, module in model.named_modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Parameter):
                setattr(module, name, KeptParameter(value.data))
