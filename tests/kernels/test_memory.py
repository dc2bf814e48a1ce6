"""Freed memory is kept: a second step touches no page for the first time."""

import platform

import numpy as np
import pytest

from tinydiff.kernels.cpu.arrays import reuse_memory

resource = pytest.importorskip("resource", reason="this system does not count faults")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_glibc_can_keep_freed_memory():
    assert reuse_memory()


def test_the_same_memory_is_used_again():
    if not reuse_memory():
        pytest.skip("this C library knows no mallopt")
    size = 40 << 20  # bytes: more than the C library keeps by itself

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            np.ones(size, np.uint8)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 100  # else at least 200, one for every huge page each time
