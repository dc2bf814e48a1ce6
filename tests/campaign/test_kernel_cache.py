"""The kernel cache in a campaign: ten first starts at once, hundreds of damages, a disk that is full at every size."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinydiff.kernels.cpu import cache, jit

pytestmark = pytest.mark.campaign

ROOT = Path(cache.__file__).parents[3]
# A parallel kernel with its machine functions, and serial ones that call each other: seconds to compile, not a minute.
WORK = """
import hashlib
import numpy as np
from tinydiff import ops
from tinydiff.kernels.cpu.elementary import normal_cdf, sigmoid
x = np.random.default_rng(0).standard_normal((3, 5, 7, 32), np.float32)
y, backward = ops.group_norm.forward(x, np.ones(32, np.float32), np.zeros(32, np.float32), groups=4, silu=True)
digest = hashlib.sha256(y.tobytes() + backward(x)[0].tobytes()).hexdigest()
print(digest, sigmoid(x[0, 0, 0, 0]), normal_cdf(x[0, 0, 0, 1]))
"""


def started(folder, limit="true"):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = ["bash", "-c", f'{limit}; exec "$@"', "bash", sys.executable, "-c", WORK]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def ended(process):
    """What it computed, and what it said."""
    result, said = process.communicate(timeout=1800)
    assert process.returncode == 0 and "Traceback" not in said, said[-2000:]
    return result, said


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A full cache, and what is computed with it."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, ended(started(folder))[0]


def test_ten_first_starts_at_once(tmp_path, right):
    running = [started(tmp_path) for _ in range(10)]
    assert {ended(process)[0] for process in running} == {right[1]}
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".nbc"}
    assert ended(started(tmp_path)) == (right[1], "")


def test_damage_of_every_kind(tmp_path, right, monkeypatch):
    """Each file that a run left behind is cut or changed at random places; nothing of it is taken for whole."""
    rng = np.random.default_rng(0)
    (folder,) = (right[0] / "tinydiff").iterdir()
    monkeypatch.setattr(cache, "FOLDER", tmp_path)
    for i in range(1000):
        path = rng.choice(sorted(folder.glob("*.nbc")))
        whole = path.read_bytes()
        at, count = int(rng.integers(len(whole))), int(rng.integers(1, 5000))
        kinds = (whole[:at], whole[:at] + bytes(min(count, len(whole) - at)) + whole[at + count :], rng.bytes(count))
        damaged = kinds[i % 3]
        asked = cache.Cache(_twice)
        monkeypatch.setattr(asked, "_file", lambda *_, file=tmp_path / "file": file)
        (tmp_path / "file").write_bytes(damaged)
        found = asked.load_overload((), jit.helper(_twice).targetctx)
        assert found is None or damaged == whole


def _twice(n):
    return 2 * n


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
@pytest.mark.parametrize("blocks", [1, 20, 60])
def test_a_disk_that_is_full(tmp_path, right, blocks):
    """No file longer than so many blocks of 1,024 bytes, as on a disk that fills up while kernels compile."""
    result, said = ended(started(tmp_path, f"ulimit -f {blocks}; trap '' XFSZ"))
    assert result == right[1] and "kernels are not kept" in said
    assert all(path.suffix == ".nbc" for path in tmp_path.rglob("*") if path.is_file())
