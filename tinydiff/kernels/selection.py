"""Which backend computes, and what a backend has: the state of `use`, and the one list of kernels."""

import functools
import importlib
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
    "sum_positions",  # ops/shape.py: the gradient of add_channel_bias
    *("adamw", "square_sums"),  # training/optim.py: the step, and the norm of all gradients
)

_Choice = tuple[str | None, bool]  # the backend, None for where an array lives; whether Winograd is allowed
_default: _Choice = (None, True)  # of the process
_block: ContextVar[_Choice | None] = ContextVar("block", default=None)  # of the innermost `with use(…)`
_SAME: Any = object()  # what stays as it is


class use:
    """Choose the backend: `use("numpy")` from here on for all threads, `with use("numpy"):` in a block for its own.

    A block's choice comes before the process's, and other threads, those that it starts too, do not see it.
    `use(None)` goes back to where the arrays live.
    `winograd=False` lets the compiled backend compute every convolution directly; without a backend, `use(winograd=…)`
    leaves the backend as it is.  Raises InputError for a name that is not a backend, or one that is not available here.

    A call cannot know whether a block will begin with it.  So it is a statement once it is dropped, or shown by a
    notebook, without one: at once where it stands on a line of its own.  No other thread ever sees a block's choice.
    """

    _waiting = False  # neither a block nor a statement yet

    def __init__(self, backend: str | None = _SAME, *, winograd: bool = _SAME) -> None:
        if backend is not _SAME and backend is not None:
            if backend not in BACKENDS:
                raise InputError(f"use: no backend {backend!r}; there are {', '.join(map(repr, BACKENDS))}")
            check_device("cuda" if backend == "cuda" else "cpu")
            module_of(backend)
        self._asked, self._waiting = (backend, winograd), True

    def _over(self, before: _Choice) -> _Choice:
        backend, winograd = self._asked
        return before[0] if backend is _SAME else backend, before[1] if winograd is _SAME else bool(winograd)

    def __enter__(self) -> "use":
        self._waiting = False
        self._token = _block.set(self._over(_in_force()))
        return self

    def __exit__(self, *_: object) -> None:
        _block.reset(self._token)

    def __del__(self) -> None:
        global _default
        if self._waiting:
            self._waiting = False
            _default = self._over(_default)

    def __repr__(self) -> str:
        self.__del__()  # what a notebook shows it keeps, too
        return f"<backend {_in_force()[0] or 'where the array lives'}, winograd={_in_force()[1]}>"


def _in_force() -> _Choice:
    return _block.get() or _default


def winograd_allowed() -> bool:
    """Whether the compiled backend may use Winograd's convolution, where it is the faster one."""
    return _in_force()[1]


def backend_of(x: Any) -> str:
    """The name of the backend that works on the array `x`: the chosen one, else where the array lives."""
    chosen, _ = _in_force()
    if chosen is not None:
        return chosen
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
