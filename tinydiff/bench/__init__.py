"""How fast, against PyTorch on the same cores in the same run: `tinydiff bench`.

A ratio above 1 says that tinydiff is the faster one.  Where PyTorch is not installed, rates are shown beside the peak
that this machine reaches on multiply-adds alone.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from tinydiff.bench.timing import Timing, start_torch
from tinydiff.cli.choices import BENCHMARKS as GROUPS
from tinydiff.errors import InputError


def _groups() -> dict[str, Callable[[int], Iterator[Timing]]]:
    from tinydiff.bench import conv, inference, memory, steps

    return {
        "conv": conv.conv_rows,
        "ladder": conv.ladder_rows,
        "step": steps.step_rows,
        "sampling": steps.sampling_rows,
        "inference": inference.inference_rows,
        "memory": memory.memory_rows,
        "threads": steps.thread_rows,
    }


def bench(
    groups: Sequence[str] = GROUPS, rounds: int = 15, on_row: Callable[[Timing], None] | None = None
) -> list[Timing]:
    """Time the named groups; `on_row` is called with each row as it is measured.

    Two more have to be named: "gpu", the kernels on a GPU, and "stable-diffusion", which takes ten minutes and more.

    Raises InputError for an unknown group, MismatchError where the torch reference does not compute the same.
    """
    from tinydiff.bench.gpu import gpu_rows
    from tinydiff.bench.stable_diffusion import GROUP, stable_diffusion_rows

    known = {**_groups(), "gpu": gpu_rows, GROUP: stable_diffusion_rows}
    for group in groups:
        if group not in known:
            raise InputError(f"bench: no group {group!r}; there are {', '.join(known)}")
    start_torch()
    from tinydiff.kernels.cpu.arrays import reuse_memory

    reuse_memory()
    rows = []
    for group in groups:
        for row in known[group](rounds):
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def conditions(device: str = "cpu") -> dict[str, Any]:
    """What the figures depend on."""
    start_torch()
    import llvmlite.binding
    import numba

    from tinydiff.bench.peak import peak_rate
    from tinydiff.kernels.cpu.vectors import INSTRUCTIONS

    return {
        **_gpu(device),
        "processor": f"{llvmlite.binding.get_host_cpu_name()} ({platform.machine()})",
        "threads": numba.get_num_threads(),
        "instructions": INSTRUCTIONS,
        "peak, GFLOP/s": round(peak_rate()),
        **{name: version(name) if find_spec(name) else "not installed" for name in ("numpy", "numba", "torch")},
    }


def _gpu(device: str) -> dict[str, str]:
    """The GPU's name, where one is timed."""
    if device == "cpu":
        return {}
    import cupy

    return {"GPU": cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()}
