"""Which backend computes, and what a backend has: the state of `use`, and the one list of kernels."""

import functools
import importlib
from typing import Any

import numpy as np

from tinydiff.device import check_device
from tinydiff.errors import InputError

BACKENDS = {
    "reference": "tinydiff.kernels.reference",
    "numpy": "tinydiff.kernels.numpy_backend",
    "cpu": "tinydiff.kernels.cpu",
    "cuda": "tinydiff.kernels.cuda",
}
# Every backend has these, with the names and arguments of reference.py.
MANDATORY = (
    *("conv2d_forward", "conv2d_input_grad", "conv2d_weight_grad"),
    *("max_pool2d_forward", "max_pool2d_backward"),
    *("upsample_nearest_forward", "upsample_nearest_backward"),
    *("matmul", "add", "sum_rows"),
)
# These are only a faster form of what the named file writes in array code, which runs where a backend has none.
FASTER = (
    *("group_norm", "group_norm_backward"),  # ops/norm.py, SiLU included
    *("attention", "attention_backward"),  # ops/attention.py
    *("gelu", "gelu_backward", "geglu", "geglu_backward"),  # ops/activation.py
    *("concat", "split"),  # ops/shape.py
    "sum_positions",  # ops/shape.py: the gradient of add_channel_bias
    *("adamw", "square_sums"),  # training/optim.py: the step, and the norm of all gradients
)

_backend: str | None = None
_winograd = True
_SAME: Any = object()  # what stays as it is


class use:
    """Set the backend, for all threads: `use("numpy")` from here on, or `with use("numpy"):` for a block.

    `use(None)` goes back to the default.
    `winograd=False` lets the compiled backend compute every convolution directly; without a backend, `use(winograd=…)`
    leaves the backend as it is.  Raises InputError for a name that is not a backend, or one that is not available here.
    """

    def __init__(self, backend: str | None = _SAME, *, winograd: bool = _SAME) -> None:
        global _backend, _winograd
        if backend is not _SAME and backend is not None:
            if backend not in BACKENDS:
                raise InputError(f"use: no backend {backend!r}; there are {', '.join(map(repr, BACKENDS))}")
            check_device("cuda" if backend == "cuda" else "cpu")
            module_of(backend)
        self._before = _backend, _winograd
        _backend = _backend if backend is _SAME else backend
        _winograd = _winograd if winograd is _SAME else bool(winograd)

    def __enter__(self) -> "use":
        return self

    def __exit__(self, *_: object) -> None:
        global _backend, _winograd
        _backend, _winograd = self._before


def winograd_allowed() -> bool:
    """Whether the compiled backend may use Winograd's convolution, where it is the faster one."""
    return _winograd


def backend_of(x: Any) -> str:
    """The name of the backend that works on the array `x`: the chosen one, else where the array lives."""
    if _backend is not None:
        return _backend
    if not isinstance(x, (np.ndarray, np.generic)):
        return "cuda"
    return "cpu" if x.dtype == np.float32 else "numpy"


@functools.cache
def module_of(backend: str) -> Any:
    """The backend's module; InputError, one line, where something that it needs is not installed."""
    try:
        return importlib.import_module(BACKENDS[backend])
    except ModuleNotFoundError as error:
        why = f"is not available here ({error.name} is missing); there are 'reference', 'numpy' and 'cpu'"
        raise InputError(f"use: the backend {backend!r} {why}") from None
