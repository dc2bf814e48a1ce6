"""Tests of the kernels for a GPU: they run on a card where there is one, and in Numba's simulator where it is asked for.

`NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda` runs them in Python on the CPU; a plain `pytest` does that in a process of its
own (tests/kernels/test_cuda.py), since Numba decides at its import.
"""

import sys

from tinydiff.arrays import cuda_missing

# The simulator's manager polls its threads and holds Python's lock meanwhile; with the usual 5 ms until another thread
# gets it, each barrier takes that long.
sys.setswitchinterval(1e-4)

collect_ignore_glob = [] if cuda_missing() is None else ["test_*.py"]
