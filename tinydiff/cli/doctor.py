"""What tinydiff uses on this machine, and why: `tinydiff doctor`."""

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from tinydiff import SPINS, __version__
from tinydiff.files import shipped

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "matplotlib", "pillow", "safetensors", "tqdm", "filelock")

Findings = Iterator[tuple[str, str]]


class Problem(str):
    """A finding that something is wrong, with what helps."""


def report() -> str:
    """All findings as text, the verdict in the last line.  A check that fails is a finding too: nothing is raised."""
    lines, problems = [], []
    for check in (versions, processor, kernels, cache, data, weights, cuda):
        lines.append(check.__name__)
        try:
            for name, value in check():
                lines.append(f"  {name:<16}{value}")
                problems += [f"{name}: {value}"] if isinstance(value, Problem) else []
        except Exception as error:  # a doctor that falls ill on a broken machine helps nobody
            lines.append(f"  {'failed':<16}{type(error).__name__}: {error}")
            problems.append(f"{check.__name__} failed")
    lines.append("verdict: " + ("; ".join(problems) or "all is well"))
    return "\n".join(lines)


def versions() -> Findings:
    yield "tinydiff", f"{__version__} in {Path(__file__).parent}"
    yield "python", f"{platform.python_version()} in {sys.prefix}"
    for package in PACKAGES:
        yield package, _version(package) or Problem(f"missing; pip install {package}")


def processor() -> Findings:
    import llvmlite.binding as llvm
    import numba

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", f"{usable} of {os.cpu_count()} may be used by this process"
    asked = os.environ.get("NUMBA_NUM_THREADS")
    why = f"as NUMBA_NUM_THREADS={asked} asks" if asked else "one for each core"
    yield "threads", f"{numba.get_num_threads()}, {why}"
    asked = os.environ.get("NUMBA_THREADING_LAYER")
    why = f"as NUMBA_THREADING_LAYER={asked} asks" if asked else "the first that works of tbb, omp, workqueue"
    # The layer is known once threads run: get_num_threads has just started them.
    yield "threading layer", f"{numba.threading_layer()}, {why}"
    yield "waiting threads", _waiting()
    features = llvm.get_host_cpu_features()
    known = [name for name in ("avx512f", "avx2", "fma", "avx", "neon") if features.get(name)]
    extensions = " ".join(known) or "no vector extension that tinydiff knows"
    yield "instructions", f"{llvm.get_host_cpu_name()} with {extensions}"


def _waiting() -> str:
    """How long a thread of GCC's OpenMP waits before it sleeps, and who said so."""
    spins, policy = os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY")
    if spins is None:
        return f"as OMP_WAIT_POLICY={policy} asks"
    modules = list(sys.modules)
    if spins == SPINS and "torch" in modules[: modules.index("tinydiff")]:
        return "as OpenMP has it: PyTorch came first, and GOMP_SPINCOUNT has to be set before its import"
    why = "as tinydiff sets it, before it loads OpenMP" if spins == SPINS else "as it was set"
    return f"sleep after {spins} turns (GOMP_SPINCOUNT, {why})"


def kernels() -> Findings:
    from tinydiff.kernels.cpu.micro_kernel import ROWS, VECTORS
    from tinydiff.kernels.cpu.vectors import INSTRUCTIONS, LANES

    yield "default", "cpu for float32, numpy for every other type; tinydiff.use(…) chooses"
    sums = f"{ROWS} rows x {VECTORS} vectors of {LANES} floats"
    yield "micro-kernel", f"{sums}: its sums fit the registers of {INSTRUCTIONS}"


def cache() -> Findings:
    from tinydiff.kernels.cpu.cache import FOLDER, cache_folder, prepared

    try:
        prepared(cache_folder())
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        yield "not used", Problem(f"the user's cache ({why}); set NUMBA_CACHE_DIR")
    if FOLDER is None:
        yield "folder", Problem("none: kernels compile anew in every process")
        return
    chosen = next((name for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME") if os.environ.get(name)), None)
    yield "folder", f"{FOLDER}, " + (f"from {chosen}" if chosen else "NUMBA_CACHE_DIR sets another")
    yield "compiled", f"{len(list(FOLDER.glob('*.nbc')))} kernels (the others compile when they are first used)"
    try:
        with tempfile.TemporaryFile(dir=FOLDER):
            yield "writable", "yes"
    except OSError as error:
        yield "writable", Problem(f"no ({error.strerror}): what is not there compiles anew in every process")


def data() -> Findings:
    from tinydiff.datasets import load_fashion

    for split in ("train", "test"):
        yield split, load_fashion(split)[2]
    yield "order", "--data, $TINYDIFF_DATA, Debian's dataset-fashion-mnist, then the shipped subset"


def weights() -> Findings:
    folder = shipped("weights")
    yield "folder", f"{folder}, shipped with tinydiff; --weights sets another"
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        yield file.stem, f"{file.stat().st_size / 2**20:.1f} MB"
    if not files:
        yield "none", Problem("tinydiff train makes them, and --weights takes them")


def cuda() -> Findings:
    from tinydiff.device import cuda_missing, simulated, to_device, to_numpy

    for name in ("numba-cuda", "cupy-cuda12x", "cupy-cuda13x"):
        yield name, _version(name) or "not installed"
    why = cuda_missing()
    if why is not None:
        yield "not used", why
        return
    from tinydiff.kernels import cuda, reference

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 5, 5, 3), np.float32), rng.standard_normal((3, 3, 3, 4), np.float32)
    y = to_numpy(cuda.conv2d_forward(to_device(x, "cuda"), to_device(w, "cuda"), None, 1, (1, 1, 1, 1)))
    expected = reference.conv2d_forward(x, w, None, 1, (1, 1, 1, 1))
    error = float(abs(y - expected).max() / abs(expected).max())
    where = "in Numba's simulator" if simulated() else "on the GPU"
    yield "used", "for CuPy arrays: --device cuda, or pipe.to('cuda')"
    found = f"{where}: {'right' if error < 1e-5 else 'WRONG'}, its largest error {error:.0e}"
    yield "a convolution", found if error < 1e-5 else Problem(found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
