"""The kernels for a GPU: what they cost by counting, and how long they take on a GPU, beside PyTorch on the same.

The count is a roofline model: a kernel takes at least as long as its multiply-adds at the GPU's peak, and as its bytes
at the memory's rate, each array read or written once.  (Williams 2009, doi:10.1145/1498765.1498785)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinydiff.bench.conv import OTHERS, SHAPES, label
from tinydiff.bench.timing import Timing, assert_close, time_interleaved

# NVIDIA H100 SXM, data sheet: float32 outside the tensor cores, and memory; its multiprocessors.
GPU, PEAK, MEMORY, PROCESSORS = "NVIDIA H100 SXM", 67e12, 3.35e12, 132


@dataclass(frozen=True)
class Cost:
    """One launch by counting."""

    kernel: str
    name: str
    multiply_adds: float
    bytes: float  # each array once
    blocks: int

    @property
    def intensity(self) -> float:
        """Floating-point operations for each byte."""
        return 2 * self.multiply_adds / self.bytes

    @property
    def bound(self) -> float:
        """Seconds that it takes at least on `GPU`."""
        return max(2 * self.multiply_adds / PEAK, self.bytes / MEMORY)

    @property
    def limit(self) -> str:
        return "arithmetic" if 2 * self.multiply_adds / PEAK > self.bytes / MEMORY else "memory"

    def line(self) -> str:
        return (
            f"{self.kernel:<20} {self.name:<36} {self.multiply_adds / 1e6:9.1f} M {self.bytes / 2**20:8.1f} MB"
            f" {self.intensity:7.1f} FLOP/B {1e6 * self.bound:8.1f} µs {self.limit:<10} {self.blocks:6} blocks"
        )


def costs() -> Iterator[Cost]:
    """Every kernel: convolutions on the benchmark's shapes, the others on the denoiser's largest feature map."""
    from tinydiff.kernels.cuda import conv, norm, pointwise
    from tinydiff.kernels.cuda.launch import blocks

    for kernel, stride, n, c, k, size in [*((3, 1, *shape) for shape in SHAPES), *OTHERS]:
        name, out = label(kernel, stride, n, c, k, size), -(-size // stride)
        x, w, y = n * size * size * c, kernel * kernel * c * k, n * out * out * k
        work, once = y * kernel * kernel * c, 4.0 * (x + w + y)
        taps, tiles = kernel * kernel, blocks(c, conv.TILE) * blocks(k, conv.TILE)
        for operation, positions, columns, factor in (
            ("conv2d_forward", n * out * out, k, 1),
            ("conv2d_input_grad", n * size * size, c, stride * stride),  # with zeros where no output uses a pixel
        ):
            there = blocks(positions, conv.TILE) * blocks(columns, conv.TILE)
            parts = min(taps, blocks(conv.ENOUGH, there))
            more = 4.0 * positions * columns * (2 * parts if parts > 1 else 0)  # written, read and summed
            yield Cost(operation, name, work * factor, once + more, there * parts)
        parts = min(blocks(conv.ENOUGH, taps * tiles), blocks(n * out * out, conv.TILE))
        more = 4.0 * w * (2 * parts if parts > 1 else 0)
        yield Cost("conv2d_weight_grad", name, work, once + more, taps * tiles * parts)
    n, size, c, groups = 64, 8, 128, 16
    numbers, name = n * size * size * c, f"{n}×{size}×{size}, {c} channels"
    each = blocks(numbers, pointwise.THREADS)
    yield Cost("max_pool2d", name, 0.0, 4.0 * numbers * (1 + 2 / 4), each // 4)
    yield Cost("max_pool2d, back", name, 0.0, 4.0 * numbers * (1 + 2 / 4), each)
    yield Cost("upsample_nearest", name, 0.0, 4.0 * numbers * 5, 4 * each)
    yield Cost("upsample, back", name, 0.0, 4.0 * numbers * (1 + 1 / 4), each // 4)
    # three passes, of which the second and third find the numbers in the cache; SiLU counts as ten multiply-adds
    yield Cost("group_norm", name, 15.0 * numbers, 8.0 * numbers, n * groups)
    yield Cost("group_norm, back", name, 40.0 * numbers, 12.0 * numbers, n * groups)
    yield Cost("group_norm, scale", name, 20.0 * numbers, 8.0 * numbers, norm.PARTS * blocks(c, norm.CHANNELS))


def dry() -> Iterator[str]:
    """The count, and what the compiler says of each kernel, as lines of text; no GPU is needed."""
    from tinydiff.bench import ptx

    sheet = f"{PEAK / 1e12:.0f} TFLOP/s float32, {MEMORY / 1e12:.2f} TB/s, {PROCESSORS} multiprocessors"
    yield f"at least, on one {GPU} ({sheet}):"
    for cost in costs():
        yield cost.line()
    why = ptx.no_compiler()
    if why is not None:
        yield f"not compiled: {why}"
        return
    for name, (_, _, threads) in ptx.KERNELS.items():
        for capability in ptx.CAPABILITIES:
            needs = ptx.assemble(ptx.compile_ptx(name, capability), capability)
            head = f"{name:<28} sm_{capability[0]}{capability[1]}"
            if isinstance(needs, str):
                yield f"{head}   compiles; {needs}"
                continue
            yield (
                f"{head}   {needs.registers:3} registers, {needs.shared:5} bytes shared, {needs.spilled} spilled, "
                f"occupancy {needs.occupancy(threads, capability):4.0%} with {threads} threads a block"
            )


def gpu_rows(rounds: int) -> Iterator[Timing]:
    """On the GPU: the convolutions and one training step of the denoiser, against PyTorch there where it has one."""
    import cupy

    from tinydiff.bench import steps
    from tinydiff.training.optim import OptimConfig

    wait = cupy.cuda.Device().synchronize
    for kernel, stride, n, c, k, size in [*((3, 1, *shape) for shape in SHAPES), *OTHERS]:
        yield from _time_convolution(kernel, stride, n, c, k, size, rounds, wait)
    full = steps.shipped_denoiser("cuda")
    config = OptimConfig(steps=10_000, batch=full.batch, warmup=100)
    ours, reference = steps.trainer(full, config), steps.reference_trainer(full, config) if _torch_on_gpu() else None
    (on_cpu,) = time_interleaved(steps.trainer(steps.shipped_denoiser("cpu"), config), rounds=3)
    seconds, *others = time_interleaved(
        *(_finished(f, wait) for f in (ours, reference and reference[2]) if f), rounds=rounds
    )
    yield Timing("training step", full.name, seconds, min(others, default=None))
    yield Timing("training step", full.name, seconds, on_cpu, against="the CPU")


def _time_convolution(
    kernel: int, stride: int, n: int, c: int, k: int, size: int, rounds: int, wait: Callable[[], None]
) -> Iterator[Timing]:
    from tinydiff.device import to_device, to_numpy
    from tinydiff.kernels import cuda
    from tinydiff.kernels.cuda import naive

    rng, sides = np.random.default_rng(0), (kernel // 2,) * 4
    x = to_device(rng.standard_normal((n, size, size, c), np.float32), "cuda")
    w = to_device(rng.standard_normal((kernel, kernel, c, k), np.float32) / np.sqrt(kernel * kernel * c), "cuda")
    x, w = x.astype(np.float32), w.astype(np.float32)
    y = cuda.conv2d_forward(x, w, None, stride, sides)
    dy = to_device(rng.standard_normal(y.shape, np.float32), "cuda")
    runs: dict[str, Callable[[], Any]] = {
        "forward": lambda: cuda.conv2d_forward(x, w, None, stride, sides),
        "gradient by input": lambda: cuda.conv2d_input_grad(dy, w, x.shape, stride, sides),
        "gradient by weights": lambda: cuda.conv2d_weight_grad(x, dy, (kernel, kernel), stride, sides),
    }
    name, work = label(kernel, stride, n, c, k, size), y.size * kernel * kernel * c
    assert_close(
        f"the naive kernel's y of {name}", to_numpy(y), to_numpy(naive.conv2d_forward(x, w, None, stride, sides))
    )
    theirs = _torch_convolution(x, w, dy, stride, kernel // 2) if _torch_on_gpu() else {}
    for what, run in runs.items():
        seconds, *others = time_interleaved(*(_finished(f, wait) for f in (run, theirs.get(what)) if f), rounds=rounds)
        yield Timing(what, name, seconds, min(others, default=None), work=work)


def _torch_convolution(x: Any, w: Any, dy: Any, stride: int, padding: int) -> dict[str, Callable[[], Any]]:
    import torch

    from tinydiff.device import to_numpy

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32, as ours
    last = torch.channels_last
    x_, dy_ = (torch.from_numpy(to_numpy(a)).permute(0, 3, 1, 2).cuda().contiguous(memory_format=last) for a in (x, dy))
    w_ = torch.from_numpy(to_numpy(w)).permute(3, 2, 0, 1).cuda().contiguous(memory_format=last)

    def back(*wanted: bool) -> Callable[[], Any]:
        geometry = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [*wanted, False]
        return lambda: torch.ops.aten.convolution_backward(dy_, x_, w_, None, *geometry)

    return {
        "forward": lambda: torch.nn.functional.conv2d(x_, w_, stride=stride, padding=padding),
        "gradient by input": back(True, False),
        "gradient by weights": back(False, True),
    }


def _finished(run: Callable[[], Any], wait: Callable[[], None]) -> Callable[[], None]:
    """Run it and wait until the GPU has done it: a launch returns at once."""

    def whole() -> None:
        run()
        wait()

    return whole


def _torch_on_gpu() -> bool:
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.cuda.is_available()
