"""Which backend computes, and what a backend has: the state of `use`, and the one list of kernels."""

import functools
import importlib
import os
from contextvars import ContextVar
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
    "from_float16",  # apps/stable_diffusion/kept.py
    "sum_positions",  # ops/shape.py: the gradient of add_channel_bias
    *("adamw", "square_sums"),  # training/optim.py: the step, and the norm of all gradients
    *("record", "record_step", "record_update"),  # replay.py: of a forward pass, a step's gradients, its update
)

_process: dict[str, Any] = {"backend": None, "winograd": True, "replay": True}
_block: ContextVar[dict[str, Any] | None] = ContextVar("block", default=None)  # the same, in `with use(…)`
_SAME: Any = object()  # what stays as it is


class use:
    """Choose the backend: `use("numpy")` from here on for all threads, `with use("numpy"):` in a block for its own.

    A block comes first; threads that it starts do not see it.  `use(None)` goes back to where the arrays live.
    `winograd=False` lets the compiled backend compute every convolution directly, and `replay=False` lets nothing be
    recorded and replayed (`replay.py`); what is not given stays as it is, the backend too.  Raises InputError for a
    name that is not a backend, or one that is not available here.
    """

    _choice: dict[str, Any] = {}

    def __init__(self, backend: str | None = _SAME, *, winograd: bool = _SAME, replay: bool = _SAME) -> None:
        if backend is not _SAME and backend is not None:
            if backend not in BACKENDS:
                raise InputError(f"use: no backend {backend!r}; there are {', '.join(map(repr, BACKENDS))}")
            check_device("cuda" if backend == "cuda" else "cpu")
            module_of(backend)
        asked = {"backend": backend, "winograd": winograd, "replay": replay}
        self._choice = {name: value for name, value in asked.items() if value is not _SAME}

    def __enter__(self) -> "use":
        self._token, self._choice = _block.set((_block.get() or _process) | self._choice), {}
        return self

    def __exit__(self, *_: object) -> None:
        _block.reset(self._token)

    def __del__(self) -> None:  # without a block it is a statement; until then no other thread may see the choice
        _process.update(self._choice)
        self._choice = {}

    def __repr__(self) -> str:
        self.__del__()  # what a notebook shows, it keeps
        return f"use({', '.join(f'{name}={value!r}' for name, value in _process.items())})"


def winograd_allowed() -> bool:
    """Whether the compiled backend may use Winograd's convolution, where it is the faster one."""
    return (_block.get() or _process)["winograd"]


def replay_allowed() -> bool:
    """Whether what comes again may be recorded and replayed."""
    return (_block.get() or _process)["replay"]


def backend_of(x: Any) -> str:
    """The name of the backend that works on the array `x`: the chosen one, else where the array lives."""
    if (chosen := (_block.get() or _process)["backend"]) is not None:
        return chosen
    if not isinstance(x, (np.ndarray, np.generic)):
        return "cuda"
    return "cpu" if x.dtype == np.float32 else "numpy"


@functools.cache
def module_of(backend: str) -> Any:
    """The backend's module; InputError, one line, where something that it needs is missing or mistaken."""
    threads = os.environ.get("NUMBA_NUM_THREADS", "1")
    if not threads.isdigit() or int(threads) == 0:  # Numba's import would fail, or say so in twenty lines
        raise InputError(f"NUMBA_NUM_THREADS={threads}: expected a number of threads, 1 or more")
    try:
        return importlib.import_module(BACKENDS[backend])
    except ModuleNotFoundError as error:
        why = f"is not available here ({error.name} is missing); there are 'reference', 'numpy' and 'cpu'"
        raise InputError(f"use: the backend {backend!r} {why}") from None
