"""A CUDA graph: many launches recorded once, and launched again as one.

Launched one by one from Python, a training step's thousands of small kernels keep the processor busy ten times as long
as the GPU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinydiff.device import simulated, to_device, to_numpy


def record_step(
    work: Callable[..., Any], inputs: Sequence[Any], memory: Sequence[Any]
) -> tuple[list, Any, Callable[[], None]]:
    """Where work(*inputs) finds its inputs and leaves its results, and the function that computes one from the other.

    work must have run before (what has yet to be compiled cannot be recorded), and do the same whatever inputs and
    memory hold.
    """
    import cupy

    own = [to_device(to_numpy(a), "cuda") if isinstance(a, np.ndarray) else a.copy() for a in inputs]
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    cupy.cuda.Device().synchronize()
    with cupy.cuda.using_allocator(pool.malloc), stream:
        stream.begin_capture()
        try:
            outputs = work(*own)
        finally:
            graph = stream.end_capture()

    def replay(keep: Any = pool) -> None:  # the memory is the graph's as long as it can be launched
        graph.launch()

    return own, outputs, replay


record_update = record_step  # a graph that is captured has changed nothing yet
if simulated():  # which has no graphs
    record_step = record_update = None  # type: ignore[assignment]
