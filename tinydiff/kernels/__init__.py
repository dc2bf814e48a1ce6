"""The hot loops behind one face: `kernels.conv2d_forward(x, …)` is that of the backend for x, its first array.

Each backend has the same names and signatures, listed in `selection.py`: `reference` is the definition (plain loops),
`numpy` the same in NumPy for any float type, `cpu` compiled by Numba, `cuda` for a GPU.  Unless `use` chooses, CuPy's
arrays go to `cuda`, NumPy's to `cpu` if float32, else to `numpy`.
"""

from collections.abc import Callable
from typing import Any

from tinydiff.kernels.memory import constant_weights, weights_are_constant, weights_changed, weights_version
from tinydiff.kernels.recording import Unrecordable, run_op
from tinydiff.kernels.selection import (
    BACKENDS,
    FASTER,
    MANDATORY,
    backend_of,
    module_of,
    replay_allowed,
    use,
    winograd_allowed,
)


def __getattr__(name: str) -> Callable[..., Any]:
    if name not in MANDATORY + FASTER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return lambda x, *others, **options: kernel(name, x)(x, *others, **options)


def kernel(name: str, x: Any) -> Callable[..., Any]:
    """The kernel `name` of the backend for `x`; LookupError names what is missing, there is no silent fallback."""
    found = getattr(module_of(backend_of(x)), name, None)
    if found is None:
        raise LookupError(f"backend {backend_of(x)!r} has no kernel {name!r}")
    return found


def find_kernel(name: str, x: Any) -> Callable[..., Any] | None:
    """The kernel `name`, one of FASTER, or None where the backend for `x` has none.  LookupError for another name."""
    if name not in FASTER:
        raise LookupError(f"{name!r} is not one of the kernels that a backend may do without: {', '.join(FASTER)}")
    return getattr(module_of(backend_of(x)), name, None)


def add(a: Any, b: Any) -> Any:
    """a + b; arrays and numbers, broadcast."""
    return kernel("add", a)(a, b) if hasattr(a, "dtype") and hasattr(b, "dtype") else a + b
