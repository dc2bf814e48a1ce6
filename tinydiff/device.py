"""Where an array lives: NumPy's in the computer's memory, CuPy's on a GPU.  One formula runs on both."""

import functools
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from tinydiff.errors import InputError

DEVICES = ("cpu", "cuda")
_INSTALL = 'in your clone: pip install -e ".[cuda12]", or [cuda13] for a driver of CUDA 13'


def array_module(x: Any) -> Any:
    """`cupy` if x is a CuPy array, else `numpy`; CuPy is never imported for it."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def capturing(x: Any) -> bool:
    """Whether x lies on a GPU whose work is being recorded (`kernels/cuda/graph.py`): nothing may wait for it then."""
    xp = array_module(x)
    return xp is not np and xp.cuda.get_current_stream().is_capturing()


def to_device_of(x: Any, other: Any) -> Any:
    """x, a NumPy array or one of CuPy's, where the array `other` lives."""
    xp = array_module(other)
    return xp.asarray(to_numpy(x) if xp is np else x)


def to_device(x: Any, device: str) -> Any:
    """x on "cpu" or "cuda"; Numba's simulator works on NumPy's arrays, so there it stays.

    Raises InputError for another device, and where "cuda" cannot be used here.
    """
    check_device(device)
    return to_numpy(x) if device == "cpu" or simulated() else import_module("cupy").asarray(x)


def to_numpy(x: Any) -> np.ndarray:
    """x as NumPy's array: the way back from a GPU."""
    xp = array_module(x)
    return x if xp is np else xp.asnumpy(x)


def check_device(device: str) -> None:
    """Raises InputError, one line, unless this device can be used here."""
    if device not in DEVICES:
        raise InputError(f"no device {device!r}; there are {' and '.join(DEVICES)}")
    if device == "cuda" and (why := cuda_missing()):
        raise InputError(f"the device cuda cannot be used here: {why}")


def simulated() -> bool:
    """Whether kernels for a GPU run in Numba's simulator, in Python, on NumPy's arrays."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"


@functools.cache
def cuda_missing() -> str | None:
    """Why no kernel for a GPU can run here and what would help, in one line; None where one can."""
    if simulated():
        return None
    for module, name in (("cupy", "CuPy"), ("numba_cuda", "numba-cuda")):
        if find_spec(module) is None:
            return f"{name} is not installed ({_INSTALL})"
    try:
        import_module("cupy")
        found = import_module("numba.cuda").is_available()
    except Exception as error:  # versions that do not fit each other, or a library that they do not find
        return f"{type(error).__name__}: {str(error).splitlines()[0]} ({_INSTALL})"
    return None if found else "no NVIDIA GPU with a driver was found (nvidia-smi should list one)"
