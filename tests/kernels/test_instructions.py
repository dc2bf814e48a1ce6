"""A smaller set of instructions can be forced, and computes the same; a larger one is refused in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinydiff.kernels.cpu.micro_kernel import HEIGHTS, ROWS, VECTORS
from tinydiff.kernels.cpu.vectors import INSTRUCTIONS, LANES

ROOT = Path(__file__).parents[2]

CHECK = """
import numpy as np
from tinydiff.kernels import cpu
from tinydiff.kernels import numpy_backend
from tinydiff.kernels.cpu import vectors
from tinydiff.kernels.cpu import micro_kernel

rng = np.random.default_rng(0)
for c, k, stride in ((32, 48, 1), (5, 33, 2), (3, 16, 1), (16, 3, 1)):
    x, w = rng.standard_normal((2, 9, 7, c)), rng.standard_normal((3, 3, c, k))
    y = numpy_backend.conv2d_forward(x, w, None, stride, (1, 1, 1, 1))
    ours = cpu.conv2d_forward(x.astype(np.float32), w.astype(np.float32), None, stride, (1, 1, 1, 1))
    assert abs(ours - y).max() <= 1e-5 * abs(y).max(), (c, k, stride)
print(vectors.INSTRUCTIONS, vectors.LANES, micro_kernel.ROWS)
"""


def run(code, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_the_micro_kernel_fits_the_registers():
    registers = {"avx512": 32, "avx2": 16, "neon": 32, "generic": 16}[INSTRUCTIONS]
    assert ROWS * VECTORS + VECTORS + 1 <= registers
    assert HEIGHTS[-1] == 1, "some number of rows could not be finished"


@pytest.mark.skipif(INSTRUCTIONS not in ("avx512", "avx2"), reason="this processor has neither AVX-512 nor AVX2")
@pytest.mark.slow  # everything is compiled anew
@pytest.mark.parametrize("forced, shape", [("avx2", "8 6"), ("generic", "4 4")])
def test_a_smaller_set_can_be_forced(forced, shape, tmp_path):
    done = run(CHECK, TINYDIFF_INSTRUCTIONS=forced, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == f"{forced} {shape}\n", done.stderr


def test_a_set_that_is_not_there_is_refused():
    done = run("import tinydiff.kernels.cpu", TINYDIFF_INSTRUCTIONS="neon" if LANES > 4 else "avx512")
    assert done.returncode != 0
    assert "this processor has" in done.stderr.splitlines()[-1]
