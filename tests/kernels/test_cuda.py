"""The kernels for a GPU without one: the simulator in a process of its own, the real compiler, and what is said.

`pytest tests/cuda` on a machine with a GPU runs the same tests on it.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinydiff import cli, device, kernels
from tinydiff.bench import gpu, ptx
from tinydiff.errors import InputError

NO_COMPILER = ptx.no_compiler()


@pytest.fixture
def no_card(monkeypatch):
    """As on a machine where CuPy is not installed."""
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    device.cuda_missing.cache_clear()
    yield
    device.cuda_missing.cache_clear()


def test_everything_in_the_simulator():
    """Numba decides at its import whether kernels are simulated: hence another process."""
    folder = Path(__file__).parents[1] / "cuda"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.skipif(NO_COMPILER is not None, reason=f"cannot compile to PTX: {NO_COMPILER}")
@pytest.mark.parametrize("capability", ptx.CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
@pytest.mark.parametrize("name", ptx.KERNELS)
def test_the_real_compiler(name, capability):
    text = ptx.compile_ptx(name, capability)
    assert ".visible .entry" in text and f".target sm_{capability[0]}{capability[1]}" in text
    needs = ptx.assemble(text, capability)
    if isinstance(needs, str):
        pytest.skip(needs)
    threads = ptx.KERNELS[name][2]
    print(f"{name}: {needs.registers} registers, {needs.shared} bytes, {needs.occupancy(threads, capability):.0%}")
    assert 0 < needs.registers <= 255 and needs.spilled == 0
    assert needs.occupancy(threads, capability) >= 0.1


@pytest.mark.skipif(NO_COMPILER is not None, reason=f"cannot compile to PTX: {NO_COMPILER}")
def test_the_inner_loop_multiplies_and_adds_at_once():
    """64 sums in registers: as many fused instructions, 16 reads of shared memory, and nothing in local memory."""
    text = ptx.compile_ptx("conv.convolve", (9, 0))
    assert text.count("fma.rn.f32") >= 64
    assert "ld.local" not in text and "st.local" not in text


def test_every_kernel_is_compiled_somewhere():
    """A kernel that is added without a line in `ptx.KERNELS` would never meet the compiler."""
    from tinydiff.kernels.cuda import conv, naive, norm, optim, pointwise, product

    attention = sys.modules["tinydiff.kernels.cuda.attention"]  # the package has the function under this name
    known = {id(kernel) for kernel, _, _ in ptx.KERNELS.values()}
    for module in (attention, conv, norm, naive, optim, pointwise, product):
        for name, value in vars(module).items():
            if type(value).__name__ == "CUDADispatcher" and not value.targetoptions.get("device"):
                assert id(value) in known, f"{module.__name__}.{name}"


def test_occupancy_by_each_limit():
    assert ptx.Needs(32, 0, 0).occupancy(256, (8, 0)) == 1.0
    assert ptx.Needs(128, 0, 0).occupancy(256, (8, 0)) == 0.25  # 65,536 / (128·32) = 16 of 64 warps
    assert ptx.Needs(32, 81 << 10, 0).occupancy(256, (8, 0)) == 0.25  # two blocks of 82 KB in 164 KB
    assert ptx.Needs(16, 0, 0).occupancy(32, (9, 0)) == 0.5  # 32 blocks of one warp


def test_the_count(capsys, monkeypatch):
    monkeypatch.setattr(ptx, "CAPABILITIES", ptx.CAPABILITIES[:1])
    costs = list(gpu.costs())
    one = next(c for c in costs if c.kernel == "conv2d_forward" and c.name.startswith("3×3, 1×64×64"))
    assert one.multiply_adds == 64 * 64 * 320 * 320 * 9
    assert one.bytes >= 4 * (2 * 64 * 64 * 320 + 9 * 320 * 320)
    assert one.limit == "arithmetic" and one.bound == pytest.approx(2 * one.multiply_adds / gpu.PEAK)
    assert cli.main(["bench", "--device", "cuda", "--dry"]) == 0
    out = capsys.readouterr().out
    assert gpu.GPU in out and all(cost.kernel in out for cost in costs)
    assert cli.main(["bench", "--dry"]) == 2


def test_an_installation_that_does_not_fit_is_one_line(no_card, monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if its import failed
    with pytest.raises(InputError, match="cuda cannot be used here: .*Error: .*cupy.*pip install") as caught:
        device.check_device("cuda")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", [["generate", "a red dress"], ["train"], ["bench"]])
def test_without_a_card_one_line_says_what_is_missing(no_card, command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command, "--device", "cuda"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "CuPy is not installed" in error and 'pip install -e ".[cuda12]"' in error
    assert list(tmp_path.iterdir()) == []


def test_without_a_card_the_backend_is_refused(no_card):
    with pytest.raises(InputError, match="cannot be used here: CuPy is not installed"):
        kernels.use("cuda")
    assert kernels.backend_of(np.zeros(1)) == "numpy"


def test_an_unknown_device_is_refused():
    with pytest.raises(InputError, match="no device 'gpu'; there are cpu and cuda"):
        device.check_device("gpu")
