"""Memory that is used again: a training step allocates the same arrays as the one before it.

The C library gives large freed blocks back to the operating system, which then clears every page anew at its first
use: up to a fifth of a step.  `reuse` tells it to keep them.
"""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = (1 << 31) - 1


@functools.cache
def reuse() -> bool:
    """Keep freed memory in this process from here on; False where the C library knows no such thing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _LARGEST))
