"""A CUDA graph: many launches recorded once, and launched again as one.

Launched one by one from Python, a training step's thousands of small kernels keep the processor busy ten times as long
as the GPU.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tinydiff.device import simulated


def record(work: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Any, Callable[[], None]]:
    """Where `work(*inputs)` will leave its results, and the function that computes them from what is then in `inputs`.

    work must have run before (what has yet to be compiled cannot be recorded), and do the same whatever inputs hold.
    """
    import cupy

    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    cupy.cuda.Device().synchronize()
    with cupy.cuda.using_allocator(pool.malloc), stream:
        stream.begin_capture()
        try:
            outputs = work(*inputs)
        finally:
            graph = stream.end_capture()

    def replay(keep: Any = pool) -> None:  # the memory is the graph's as long as it can be launched
        graph.launch()

    return outputs, replay


if simulated():  # which has no graphs
    record = None  # type: ignore[assignment]
