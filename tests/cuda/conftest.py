"""Tests of the kernels for a GPU: on a card where there is one, or in Numba's simulator where that is asked for.

`NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda` runs them in Python on the CPU; a plain `pytest` does that in a process of
its own (tests/kernels/test_cuda.py), since Numba decides at its import.
"""

import sys
from pathlib import Path

import pytest

from tinydiff import arrays

# The simulator's manager polls its threads and holds Python's lock meanwhile; with the usual 5 ms until another thread
# gets it, each barrier takes that long.
sys.setswitchinterval(1e-4)
sys.path.insert(0, str(Path(__file__).parent))  # for standin.py

collect_ignore_glob = [] if arrays.cuda_missing() is None else ["test_*.py"]


@pytest.fixture
def card(monkeypatch):
    """CuPy; in the simulator what stands for it."""
    if not arrays.simulated():
        return
    import standin

    from tinydiff.kernels.cuda import conv, norm, pointwise

    monkeypatch.setattr(arrays, "simulated", lambda: False)
    monkeypatch.setitem(sys.modules, "cupy", standin.cupy())
    monkeypatch.setitem(sys.modules, "cupyx", sys.modules["cupy"])
    monkeypatch.setitem(sys.modules, "cupyx.scipy", sys.modules["cupy"])
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", standin.cupyx_erf())
    for module in (conv, norm, pointwise):
        monkeypatch.setattr(module, "launch", standin.launch)
