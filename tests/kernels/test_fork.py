"""After a fork: kernels run where threads survive it or had not started, and one clear error says where they cannot."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from tinydiff.kernels import cpu

ROOT = Path(cpu.__file__).parents[3]

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")

POOL = """
import multiprocessing, sys
import numpy as np
from tinydiff.kernels import cpu

def job(seed):
    x = np.full((2, 4, 4, 3), seed, np.float32)
    return float(cpu.upsample_nearest_forward(x).sum())

if __name__ == "__main__":
    if "first" in sys.argv:
        job(0)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(pool.map_async(job, [1, 2]).get(200))
"""
RIGHT = "[384.0, 768.0]\n"


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """Run the script above; a child that is killed would leave it waiting for ever."""
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*argv):
        return subprocess.run([sys.executable, script, *argv], capture_output=True, text=True, timeout=300)

    return run


def layer():
    numba.get_num_threads()
    return numba.threading_layer()


@pytest.mark.skipif(sys.platform != "linux" or layer() != "omp", reason="needs GCC's OpenMP")
def test_a_child_of_a_process_that_ran_kernels_says_what_to_do(pool):
    done = pool("fork", "first")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("start it anew: multiprocessing.get_context('spawn')")
    assert "RuntimeError: tinydiff: this process was forked from one whose kernels had run" in done.stderr
    assert "Terminating" not in done.stderr


def test_what_it_names_works(pool):
    done = pool("spawn", "first")
    assert done.stdout == RIGHT, done.stderr[-1000:]


def test_a_fork_before_the_first_kernel_works(pool):
    done = pool("fork")
    assert done.stdout == RIGHT, done.stderr[-1000:]


def test_a_threading_layer_that_survives_a_fork_works(pool, monkeypatch):
    monkeypatch.setenv("NUMBA_THREADING_LAYER", "workqueue")
    done = pool("fork", "first")
    assert done.stdout == RIGHT, done.stderr[-1000:]
