"""How kernels are compiled and called."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from numba import typeof as type_of

from tinydiff.kernels import cpu
from tinydiff.kernels.cpu import jit

ROOT = Path(jit.__file__).parents[3]


def test_concurrent_calls_wait_for_each_other():
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3), np.float32)
    expected, results = cpu.upsample_nearest_forward(x), []
    threads = [threading.Thread(target=lambda: results.append(cpu.upsample_nearest_forward(x))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(result, expected) for result in results)


def test_one_version_of_a_kernel_whatever_was_called_before():
    """A writable array and a read-only one would make two versions, which may round differently."""
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 3), np.float32)
    frozen = x.copy()
    frozen.setflags(write=False)
    assert type_of(cpu.conv.as_float32("test", x)) == type_of(cpu.conv.as_float32("test", frozen))
    assert type_of(cpu.conv.as_float32("test", x[:, ::2])) == type_of(cpu.conv.as_float32("test", frozen))
    assert x.flags.writeable


def test_attention_may_be_the_first_kernel_of_a_process():
    """What it calls only through its helpers has to be compiled before it is loaded."""
    code = """if True:
        import numpy as np
        from tinydiff import ops
        q = np.random.default_rng(0).standard_normal((1, 3, 4), np.float32)
        y, backward = ops.attention.forward(q, q, q, heads=2)
        print(y.shape, backward(y)[0].shape)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "(1, 3, 4) (1, 3, 4)\n", done.stderr[-1000:]
