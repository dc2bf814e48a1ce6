"""What the processor can do at most: multiply-adds on numbers that stay in the first cache."""

import numpy as np
from numba import get_num_threads, prange

from tinydiff.bench.timing import time_interleaved
from tinydiff.kernels.cpu.gemm import Size, as_matrix, as_panels, gemm
from tinydiff.kernels.cpu.indirection import row_buffer
from tinydiff.kernels.cpu.jit import address, kernel
from tinydiff.kernels.cpu.micro_kernel import ROWS, WIDTH

STEPS, TIMES = 128, 2000


@kernel
def _spin(a, b, zeros, c):  # type: ignore[no-untyped-def]
    for thread in prange(c.shape[0]):
        buffer = row_buffer(as_matrix(a), ROWS)
        for _ in range(TIMES):
            gemm(buffer, 0, Size(ROWS, WIDTH, STEPS), as_panels(b), address(zeros), as_matrix(c[thread]))


def peak_rate(rounds: int = 5) -> float:
    """Billions of floating-point operations a second on all threads."""
    threads = get_num_threads()
    a, b = np.ones((ROWS, STEPS), np.float32), np.ones((1, STEPS, WIDTH), np.float32)
    zeros, c = np.zeros(WIDTH, np.float32), np.empty((threads, ROWS, WIDTH), np.float32)
    (seconds,) = time_interleaved(lambda: _spin(a, b, zeros, c), rounds=rounds)
    return 2e-9 * threads * TIMES * ROWS * WIDTH * STEPS / seconds
