"""What the real compiler makes of the GPU's kernels, without a GPU: PTX, registers, shared memory, occupancy.

Numba compiles to PTX where NVIDIA's compiler library NVVM is installed, and ptxas, from the CUDA toolkit, turns that
into the machine code of one compute capability and says what a thread of it needs.
"""

import re
import shutil
import subprocess
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numba import boolean, float32, float64, int32
from numba.core.types import Array

from tinydiff.kernels.cuda import conv, naive, norm, optim, pointwise, product
from tinydiff.kernels.cuda.attention import _softmax, _softmax_backward

Capability = tuple[int, int]
CAPABILITIES: tuple[Capability, ...] = ((8, 0), (9, 0))  # A100 and H100

# Of a multiprocessor, for both: registers, which a warp gets by the 256; warps; blocks.  And bytes of shared memory, of
# which each block costs 1 KB more than it asks for.  (NVIDIA, CUDA C++ Programming Guide, table of capabilities)
REGISTERS, GRAIN, WARPS, BLOCKS = 65_536, 256, 64, 32
SHARED = {(8, 0): 164 << 10, (9, 0): 228 << 10}


_1, _2, _3, _4, _5 = (Array(float32, axes, "C") for axes in (1, 2, 3, 4, 5))
_ANY = Array(float32, 4, "A")  # with any strides
_ARGMAX = Array(int32, 4, "C")

# Each kernel with the types that it is called with, and the threads of a block.
KERNELS: dict[str, tuple[Any, tuple, int]] = {
    "product.product": (product._product, (*[_ANY] * 2, *[boolean] * 2, float32, _1, _5), product.THREADS),
    "product.sum_rows": (product._sum_rows, (_2, _2), product.WIDE),
    "product.add_parts": (product._add_parts, (_2, _1), 4 * product.THREADS),
    "conv.convolve": (conv._convolve, (_1, *[int32] * 3, _2, int32, _1, *[int32] * 8, _2), conv.THREADS),
    "conv.weight_grad": (conv._weight_grad, (_2, *[int32] * 2, _2, *[int32] * 6, _4), conv.THREADS),
    "attention.softmax": (_softmax, (_2,), norm.THREADS),
    "attention.softmax_backward": (_softmax_backward, (_2, _2, float32), norm.THREADS),
    "optim.adamw": (optim._adamw, (*[_1] * 5, float32, Array(float64, 1, "C")), optim.THREADS),
    "optim.square_sum": (optim._square_sum, (_1, int32, Array(float64, 1, "C")), optim.THREADS),
    "naive.forward": (naive._forward, (_4, _4, _1, *[int32] * 3, _4), naive.THREADS),
    "naive.input_grad": (naive._input_grad, (_4, _4, *[int32] * 3, _4), naive.THREADS),
    "naive.weight_grad": (naive._weight_grad, (_4, _4, *[int32] * 3, _4), naive.THREADS),
    "pointwise.max_pool": (pointwise._max_pool, (_4, int32, _4, _ARGMAX), pointwise.THREADS),
    "pointwise.max_pool_backward": (pointwise._max_pool_backward, (_4, _ARGMAX, int32, _4), pointwise.THREADS),
    "pointwise.upsample": (pointwise._upsample, (_4, _4), pointwise.THREADS),
    "pointwise.upsample_backward": (pointwise._upsample_backward, (_4, _4), pointwise.THREADS),
    "norm.forward": (norm._forward, (_3, _1, _1, float32, boolean, _3, _2, _2), norm.THREADS),
    "norm.backward": (norm._backward, (_3, _1, _1, boolean, _2, _2, _3, _3), norm.THREADS),
    "norm.scale_grad": (norm._scale_grad, (_3, _1, _1, boolean, _2, _2, _3, _2, _2), norm.CHANNELS),
}


@dataclass(frozen=True)
class Needs:
    """What one thread, or block, of a kernel needs on a GPU."""

    registers: int
    shared: int  # bytes
    spilled: int  # bytes of registers that found no place, and of arrays that are not in registers

    def occupancy(self, threads: int, capability: Capability) -> float:
        """The share of a multiprocessor's warps that can be there at once."""
        warps = -(-threads // 32)
        by_registers = REGISTERS // (-(-self.registers * 32 // GRAIN) * GRAIN * warps)
        by_shared = SHARED[capability] // (self.shared + 1024)
        return min(by_registers, by_shared, BLOCKS, WARPS // warps) * warps / WARPS


def no_compiler() -> str | None:
    """Why nothing can be compiled to PTX here; None where it can."""
    try:
        compile_ptx("pointwise.upsample", CAPABILITIES[0])
    except Exception as error:  # NVVM's own kinds of errors differ from one version of Numba to the next
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0]}"
    return None


def compile_ptx(name: str, capability: Capability) -> str:
    """The kernel in PTX, NVIDIA's assembly for GPUs in general."""
    from numba import cuda

    kernel, signature, _ = KERNELS[name]
    with _pretending(capability):
        return cuda.compile_ptx(kernel.py_func, signature, cc=capability)[0]


def assemble(ptx: str, capability: Capability) -> Needs | str:
    """What ptxas says of it; where it cannot be asked, why not."""
    if shutil.which("ptxas") is None:
        return "ptxas is not installed (it comes with the CUDA toolkit)"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        architecture = f"sm_{capability[0]}{capability[1]}"
        command = ["ptxas", "-v", f"-arch={architecture}", str(file), "-o", str(file.with_suffix(".cubin"))]
        done = subprocess.run(command, capture_output=True, text=True)
    if "Unsupported .version" in done.stderr:
        return "this ptxas is older than the compiler library"
    if done.returncode:
        raise RuntimeError(f"ptxas: {done.stderr.strip()}")

    def number(pattern: str) -> int:
        found = re.search(pattern, done.stderr)
        return int(found.group(1)) if found else 0

    spilled = number(r"(\d+) bytes stack frame") + number(r"(\d+) bytes spill stores")
    return Needs(number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), spilled)


@contextmanager
def _pretending(capability: Capability) -> Iterator[None]:
    """Numba asks the GPU for its capability when it compiles what a kernel calls; here there need not be one."""
    from numba.cuda import dispatcher

    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = before
