"""The hot loops behind one face: each backend has the same names and signatures.

`reference` is the definition (plain loops), `numpy` the same in NumPy for any float type, `cpu` compiled by Numba,
`cuda` compiled for a GPU.  `use` chooses; without a choice CuPy's arrays go to `cuda`, NumPy's to `cpu` where they are
float32, and to `numpy` where they are of another type.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tinydiff.device import check_device
from tinydiff.errors import InputError

MODULES = {
    "reference": "tinydiff.kernels.reference",
    "numpy": "tinydiff.kernels.numpy_backend",
    "cpu": "tinydiff.kernels.cpu",
    "cuda": "tinydiff.kernels.cuda",
}
MANDATORY = (
    "conv2d_forward",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "max_pool2d_forward",
    "max_pool2d_backward",
    "upsample_nearest_forward",
    "upsample_nearest_backward",
)

_chosen: str | None = None
_winograd = True
_SAME: Any = object()  # what stays as it is


class use:
    """Set the backend: `use("numpy")` from here on, or `with use("numpy"):` for a block.  `use(None)` is the default.

    `winograd=False` lets the compiled backend compute every convolution directly; without a backend, `use(winograd=…)`
    leaves the backend as it is.  Raises InputError for a name that is not a backend, or one that is not available here.
    """

    def __init__(self, backend: str | None = _SAME, *, winograd: bool = _SAME) -> None:
        global _chosen, _winograd
        self._before = _chosen, _winograd
        if backend is not _SAME:
            if backend is not None and backend not in MODULES:
                raise InputError(f"use: no backend {backend!r}; there are {', '.join(map(repr, MODULES))}")
            if backend == "cuda":
                check_device("cuda")
            if backend is not None:
                _module(backend)
            _chosen = backend
        if winograd is not _SAME:
            _winograd = bool(winograd)

    def __enter__(self) -> use:
        return self

    def __exit__(self, *_: object) -> None:
        global _chosen, _winograd
        _chosen, _winograd = self._before


def winograd_allowed() -> bool:
    """Whether the compiled backend may use Winograd's convolution, where it is the faster one."""
    return _winograd


def backend_of(x: Any) -> str:
    """The name of the backend that works on the array `x`: the chosen one, else where the array lives."""
    if _chosen is not None:
        return _chosen
    if not isinstance(x, (np.ndarray, np.generic)):
        return "cuda"
    return "cpu" if x.dtype == np.float32 else "numpy"


def kernel(name: str, x: Any) -> Callable[..., Any]:
    """The kernel `name` of the backend for `x`; LookupError names what is missing, there is no silent fallback."""
    found = find_kernel(name, x)
    if found is None:
        raise LookupError(f"backend {backend_of(x)!r} has no kernel {name!r}")
    return found


def find_kernel(name: str, x: Any) -> Callable[..., Any] | None:
    """The kernel `name` if the backend for `x` has one: a faster form of what ops/ writes in array code."""
    return getattr(_module(backend_of(x)), name, None)


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, bias: Any = None) -> Any:
    """a·b for two matrices, either one transposed first, + bias (K,) where none is.

    On `cpu` its sums have one order for any thread count.
    """
    fast = find_kernel("matmul", a)
    if fast is not None:
        return fast(a, b, transpose_a, transpose_b, bias)
    y = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    return y if bias is None else y + bias


def add(a: Any, b: Any) -> Any:
    """a + b; arrays and numbers, broadcast."""
    fast = find_kernel("add", a) if hasattr(a, "dtype") and hasattr(b, "dtype") else None
    y = fast(a, b) if fast is not None else None
    return a + b if y is None else y


def sum_rows(x: Any) -> Any:
    """The sum of x (…, C) over all axes but the last: the gradient of a bias."""
    fast = find_kernel("sum_rows", x)
    return fast(x) if fast is not None else x.reshape(-1, x.shape[-1]).sum(0)


@functools.cache
def _module(backend: str) -> Any:
    try:
        return importlib.import_module(MODULES[backend])
    except ModuleNotFoundError as error:
        raise InputError(
            f"use: the backend {backend!r} is not available here ({error.name} is missing); "
            "there are 'reference', 'numpy' and 'cpu'"
        ) from None
