"""Tests of the kernels for a GPU: on a GPU where there is one, or in Numba's simulator where that is asked for.

`NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda` runs them in Python on the CPU; a plain `pytest` does that in a process of
its own (tests/kernels/test_cuda.py), since Numba decides at its import.
"""

import sys
import threading
from pathlib import Path

import pytest

from tinydiff import device

# The simulator's manager polls its threads and holds Python's lock meanwhile; with the usual 5 ms until another thread
# gets it, each barrier takes that long.
sys.setswitchinterval(1e-4)
sys.path.insert(0, str(Path(__file__).parent))  # for standin.py


class OneEach(dict):
    """A block's shared arrays in the simulator, which looks one up and makes it where it is missing: two threads that
    ask at the same time would get one each.  Whoever finds none holds the lock until it has put one there."""

    def __init__(self):
        self.lock = threading.Lock()

    def get(self, key):
        self.lock.acquire()
        found = super().get(key)
        if found is not None:
            self.lock.release()
        return found

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.lock.release()


if device.simulated():
    from numba.cuda.simulator import kernelapi

    _begin = kernelapi.FakeCUDAShared.__init__

    def _begin_with_lock(self, size):
        _begin(self, size)
        self._allocations = OneEach()

    kernelapi.FakeCUDAShared.__init__ = _begin_with_lock

collect_ignore_glob = [] if device.cuda_missing() is None else ["test_*.py"]


@pytest.fixture
def gpu(monkeypatch):
    """CuPy; in the simulator what stands for it."""
    if not device.simulated():
        return
    import standin

    from tinydiff.kernels.cuda import conv, norm, optim, pointwise, product

    monkeypatch.setattr(device, "simulated", lambda: False)
    monkeypatch.setitem(sys.modules, "cupy", standin.cupy())
    monkeypatch.setitem(sys.modules, "cupyx", sys.modules["cupy"])
    monkeypatch.setitem(sys.modules, "cupyx.scipy", sys.modules["cupy"])
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", standin.cupyx_erf())
    attention = sys.modules["tinydiff.kernels.cuda.attention"]  # the package has the function under this name
    for module in (attention, conv, norm, optim, pointwise, product):
        monkeypatch.setattr(module, "launch", standin.launch)
