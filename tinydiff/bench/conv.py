"""Convolutions: against PyTorch shape by shape, and the ladder from the plain loops to Winograd."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinydiff.bench.timing import Timing, assert_close, has_torch, time_interleaved
from tinydiff.device import to_device, to_numpy
from tinydiff.kernels import numpy_backend, reference, use


@dataclass(frozen=True)
class Shape:
    """N images of size × size and C channels, a kernel × kernel convolution to K channels, padded by kernel // 2."""

    n: int
    c: int
    k: int
    size: int
    kernel: int = 3
    stride: int = 1

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def out(self) -> int:
        """Rows and columns of the output."""
        return -(-self.size // self.stride)

    @property
    def work(self) -> int:
        """Multiply-adds of the forward pass."""
        return self.n * self.out**2 * self.k * self.kernel**2 * self.c

    def __str__(self) -> str:
        stride = f" stride {self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}×{self.kernel}{stride}, {self.n}×{self.size}×{self.size}, {self.c} → {self.k}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Random x (N, H, W, C), w (KH, KW, C, K) and dy (N, H', W', K)."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.n, self.size, self.size, self.c), np.float32)
        w = rng.standard_normal((self.kernel, self.kernel, self.c, self.k), np.float32)
        dy = rng.standard_normal((self.n, self.out, self.out, self.k), np.float32)
        return x, w / np.float32(np.sqrt(self.kernel**2 * self.c)), dy


SHAPES = [  # what U-Nets at this size and at Stable Diffusion's consist of
    Shape(32, 32, 32, 32),
    Shape(32, 64, 64, 16),
    Shape(32, 128, 128, 8),
    Shape(32, 256, 256, 4),
    Shape(8, 64, 64, 64),
    Shape(1, 320, 320, 64),
]
OTHERS = [
    Shape(32, 128, 128, 16, kernel=1),
    Shape(32, 64, 64, 32, stride=2),
    Shape(32, 3, 64, 32),
    Shape(32, 64, 3, 32),
]
LADDER = Shape(1, 32, 32, 16)  # small, for the plain loops take seconds


def conv_rows(rounds: int, device: str = "cpu") -> Iterator[Timing]:
    """Forward alone and with both gradients; padding and the transforms of the weights are part of the time."""
    for shape in SHAPES:
        yield from _time(shape, rounds, device)
    for shape in OTHERS:
        yield list(_time(shape, rounds, device))[1]


def _time(shape: Shape, rounds: int, device: str) -> Iterator[Timing]:
    kernels = importlib.import_module(f"tinydiff.kernels.{device}")
    x, w, dy = (_place(a, device) for a in shape.arrays())
    stride, sides = shape.stride, (shape.padding,) * 4

    def forward() -> Any:
        return kernels.conv2d_forward(x, w, None, stride, sides)

    def both() -> Any:
        dx = kernels.conv2d_input_grad(dy, w, x.shape, stride, sides)
        return forward(), dx, kernels.conv2d_weight_grad(x, dy, w.shape[:2], stride, sides)

    theirs = [TorchConvolution(shape, device, last) for last in (True, False)] if has_torch(device) else []
    for other in theirs:
        for what, a, b in zip(("y", "dx", "dw"), both(), other.both(), strict=True):
            b = b.permute(2, 3, 1, 0) if what == "dw" else b.permute(0, 2, 3, 1)
            assert_close(f"{what} of {shape}", to_numpy(a), b.cpu().numpy())
    ours, *others = time_interleaved(forward, *(other.forward for other in theirs), rounds=rounds, device=device)
    yield Timing("forward", str(shape), ours, min(others, default=None), work=shape.work)
    ours, *others = time_interleaved(both, *(other.both for other in theirs), rounds=rounds, device=device)
    yield Timing("forward and gradients", str(shape), ours, min(others, default=None), work=3 * shape.work)


def _place(a: np.ndarray, device: str) -> Any:
    """The array where one would be that a kernel made, and where PyTorch's are; NumPy's begin anywhere."""
    if device != "cpu":
        return to_device(a, device)
    from tinydiff.kernels.cpu.arrays import empty

    copy = empty(*a.shape)
    copy[:] = a
    return copy


class TorchConvolution:
    """PyTorch's, on the shape's arrays with channels last in memory, or contiguous."""

    def __init__(self, shape: Shape, device: str, channels_last: bool):
        import torch

        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.torch, self.stride, self.padding = torch, shape.stride, shape.padding
        self.x, self.w, self.dy = (
            torch.from_numpy(a.transpose(axes).copy()).to(device).contiguous(memory_format=layout)
            for a, axes in zip(shape.arrays(), [(0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)], strict=True)
        )

    def forward(self) -> Any:
        return self.torch.nn.functional.conv2d(self.x, self.w, stride=self.stride, padding=self.padding)

    def both(self) -> Any:
        geometry = [self.stride] * 2, [self.padding] * 2, [1, 1], False, [0, 0], 1, [True, True, False]
        dx, dw, _ = self.torch.ops.aten.convolution_backward(self.dy, self.x, self.w, None, *geometry)
        return self.forward(), dx, dw


def ladder_rows(rounds: int) -> Iterator[Timing]:
    """The same convolution on every rung, each compared with the first rung's result and time.

    NumPy's rung does not stand where its file does: its products run in BLAS, on a micro-kernel that others wrote, so
    it is ahead of the two rungs that are compiled from plain Python.  Those show what compiling buys, and what one
    reordered product buys on top; the micro-kernel is what overtakes BLAS, since it copies nothing together.
    """
    from tinydiff.kernels import cpu
    from tinydiff.kernels.cpu import im2col, naive

    x, w, _ = LADDER.arrays()
    geometry = None, 1, (1, 1, 1, 1)  # no bias, the stride, the padding of each side

    def direct() -> np.ndarray:
        with use(winograd=False):
            return cpu.conv2d_forward(x, w, *geometry)

    rungs: dict[str, Callable[[], np.ndarray]] = {
        "loops": lambda: reference.conv2d_forward(x, w, *geometry),
        "NumPy (BLAS)": lambda: numpy_backend.conv2d_forward(x, w, *geometry),
        "compiled loops": lambda: naive.conv2d_forward(x, w, *geometry),
        "im2col": lambda: im2col.conv2d_forward(x, w, *geometry),
        "micro-kernel": direct,
        "Winograd": lambda: cpu.conv2d_forward(x, w, *geometry),
    }
    expected = rungs["loops"]()
    (first,) = time_interleaved(rungs["loops"], rounds=1, warmup=0)
    for name, rung in rungs.items():
        assert_close(name, rung(), expected)
        (seconds,) = (first,) if name == "loops" else time_interleaved(rung, rounds=rounds)
        yield Timing("ladder", name, seconds, first, against="the plain loops", work=LADDER.work)
