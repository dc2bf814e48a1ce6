"""Which library an array belongs to, so that one formula runs on NumPy's arrays and on CuPy's."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def array_module(x: Any) -> Any:
    """`cupy` if x is a CuPy array, else `numpy`; CuPy is never imported for it."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np
