"""The kernels for a GPU: what they cost by counting, and how long they take on a GPU, beside PyTorch on the same.

The count is a roofline model: a kernel takes at least as long as its multiply-adds at the GPU's peak, and as its bytes
at the memory's rate, each array read or written once.  (Williams 2009, doi:10.1145/1498765.1498785)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tinydiff.bench.conv import OTHERS, SHAPES, Shape, conv_rows
from tinydiff.bench.timing import Timing, time_interleaved

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
    def bound(self) -> float:
        """Seconds that it takes at least on `GPU`."""
        return max(2 * self.multiply_adds / PEAK, self.bytes / MEMORY)

    @property
    def limit(self) -> str:
        return "arithmetic" if 2 * self.multiply_adds / PEAK > self.bytes / MEMORY else "memory"

    def line(self) -> str:
        return (
            f"{self.kernel:<20} {self.name:<36} {self.multiply_adds / 1e6:9.1f} M {self.bytes / 2**20:8.1f} MB"
            f" {2 * self.multiply_adds / self.bytes:7.1f} FLOP/B {1e6 * self.bound:8.1f} µs {self.limit:<10}"
            f" {self.blocks:6} blocks"
        )


def costs() -> Iterator[Cost]:
    """Every kernel: convolutions on the benchmark's shapes, the others on the denoiser's largest feature map."""
    from tinydiff.kernels.cuda import norm, pointwise
    from tinydiff.kernels.cuda.launch import blocks

    for shape in [*SHAPES, *OTHERS]:
        yield from _convolution_costs(shape)
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


def _convolution_costs(shape: Shape) -> Iterator[Cost]:
    """Where there are too few blocks, the sum is split in parts: each is written, read and summed once more."""
    from tinydiff.kernels.cuda.conv import taps_apart
    from tinydiff.kernels.cuda.launch import blocks
    from tinydiff.kernels.cuda.product import ENOUGH, TILE

    n, c, k, taps = shape.n, shape.c, shape.k, shape.kernel**2
    inputs, outputs = n * shape.size**2, n * shape.out**2  # pixels
    once = 4.0 * (inputs * c + taps * c * k + outputs * k)
    for operation, positions, columns, factor in (
        ("conv2d_forward", outputs, k, 1),
        ("conv2d_input_grad", inputs, c, shape.stride**2),  # with zeros where no output uses a pixel
    ):
        tiles = blocks(positions, TILE) * blocks(columns, TILE)
        parts = taps_apart(taps, blocks(ENOUGH, tiles))
        more = 8.0 * positions * columns * parts if parts > 1 else 0
        yield Cost(operation, str(shape), shape.work * factor, once + more, tiles * parts)
    tiles = taps * blocks(c, TILE) * blocks(k, TILE)
    parts = min(blocks(ENOUGH, tiles), blocks(outputs, TILE))
    more = 8.0 * taps * c * k * parts if parts > 1 else 0
    yield Cost("conv2d_weight_grad", str(shape), shape.work, once + more, tiles * parts)


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
    from tinydiff.bench import steps

    yield from conv_rows(rounds, "cuda")
    full = steps.shipped_denoiser(device="cuda")
    config = full.optim
    theirs = [steps.reference_trainer(full, config, device="cuda")[2]] if steps.has_reference("cuda") else []
    (on_cpu,) = time_interleaved(steps.trainer(steps.shipped_denoiser(), config), rounds=3)
    seconds, *others = time_interleaved(steps.trainer(full, config), *theirs, rounds=rounds, device="cuda")
    yield Timing("training step", full.name, seconds, min(others, default=None))
    yield Timing("training step", full.name, seconds, on_cpu, against="the CPU")
