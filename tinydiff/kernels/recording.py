"""Where a backend that records listens: it hears of every op here, and of every kernel in `kernels/cpu/jit.py`."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

recorder: ContextVar[Any] = ContextVar("recorder", default=None)  # `kernels/cpu/record.py` has the one that there is


class Unrecordable(Exception):
    """Why something cannot be replayed."""


def run_op(function: Callable[..., Any], arrays: tuple, options: dict[str, Any] | None = None) -> Any:
    """function(*arrays, **options), a tuple, of which the recorder knows, if there is one in this context."""
    listening, options = recorder.get(), options or {}
    return function(*arrays, **options) if listening is None else listening.run_op(function, arrays, options)
