"""Convolutions: against PyTorch shape by shape, and the ladder from the plain loops to Winograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinydiff.bench.timing import Timing, assert_close, time_interleaved
from tinydiff.kernels import numpy_backend, reference, use

# N, C, K, height and width: the shapes that U-Nets at this size and at Stable Diffusion's consist of
SHAPES = [
    (32, 32, 32, 32),
    (32, 64, 64, 16),
    (32, 128, 128, 8),
    (32, 256, 256, 4),
    (8, 64, 64, 64),
    (1, 320, 320, 64),
]
# kernel, stride, N, C, K, height and width
OTHERS = [
    (1, 1, 32, 128, 128, 16),
    (3, 2, 32, 64, 64, 32),
    (3, 1, 32, 3, 64, 32),
    (3, 1, 32, 64, 3, 32),
]
LADDER = (1, 32, 32, 16)  # N, C, K, size: small, for the plain loops take seconds


def conv_rows(rounds: int) -> Iterator[Timing]:
    """Forward alone and with both gradients; padding and the transforms of the weights are part of the time."""
    for n, c, k, size in SHAPES:
        yield from _race(3, 1, n, c, k, size, rounds)
    for kernel, stride, n, c, k, size in OTHERS:
        yield list(_race(kernel, stride, n, c, k, size, rounds))[1]


def label(kernel: int, stride: int, n: int, c: int, k: int, size: int) -> str:
    return f"{kernel}×{kernel}{f' stride {stride}' if stride > 1 else ''}, {n}×{size}×{size}, {c} → {k}"


def _race(kernel: int, stride: int, n: int, c: int, k: int, size: int, rounds: int) -> Iterator[Timing]:
    from tinydiff.kernels import cpu

    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, size, size, c), np.float32)
    w = rng.standard_normal((kernel, kernel, c, k), np.float32) / np.float32(np.sqrt(kernel * kernel * c))
    sides = (kernel // 2,) * 4
    y = cpu.conv2d_forward(x, w, None, stride, sides)
    dy = rng.standard_normal(y.shape, np.float32)
    x, w, dy = _at_a_cache_line(x), _at_a_cache_line(w), _at_a_cache_line(dy)

    def forward() -> Any:
        return cpu.conv2d_forward(x, w, None, stride, sides)

    def backward() -> Any:
        return (
            cpu.conv2d_input_grad(dy, w, x.shape, stride, sides),
            cpu.conv2d_weight_grad(x, dy, (kernel, kernel), stride, sides),
        )

    def both() -> Any:
        return forward(), *backward()

    work = y.size * kernel * kernel * c
    name = label(kernel, stride, n, c, k, size)
    theirs = _torch_convolutions(x, w, dy, stride, kernel // 2)
    if theirs is None:
        ours, ours_both = time_interleaved(forward, both, rounds=rounds)
        yield Timing("forward", name, ours, work=work)
        yield Timing("forward and gradients", name, ours_both, work=3 * work)
        return
    for layout in theirs:
        for what, a, b in zip(("y", "dx", "dw"), both(), layout(True), strict=True):
            assert_close(f"{what} of {name}", a, _to_numpy(b, what))
    ours, *others = time_interleaved(forward, *(lambda f=f: f(False) for f in theirs), rounds=rounds)
    ours_both, *others_both = time_interleaved(both, *(lambda f=f: f(True) for f in theirs), rounds=rounds)
    yield Timing("forward", name, ours, min(others), work=work)
    yield Timing("forward and gradients", name, ours_both, min(others_both), work=3 * work)


def _at_a_cache_line(a: np.ndarray) -> np.ndarray:
    """The array where one would be that a kernel made, and where PyTorch's are; NumPy's begin anywhere."""
    from tinydiff.kernels.cpu.arrays import empty

    copy = empty(*a.shape)
    copy[:] = a
    return copy


def _torch_convolutions(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray, stride: int, padding: int
) -> list[Callable[[bool], Any]] | None:
    """PyTorch's convolution, channels last and contiguous; None where PyTorch is not installed."""
    try:
        import torch
    except ModuleNotFoundError:
        return None

    def made(layout: Any) -> Callable[[bool], Any]:
        arrays = [torch.from_numpy(a.transpose(0, 3, 1, 2).copy()) for a in (x, dy)]
        x_, dy_ = (a.contiguous(memory_format=layout) for a in arrays)
        w_ = torch.from_numpy(w.transpose(3, 2, 0, 1).copy()).contiguous(memory_format=layout)

        @torch.no_grad()
        def run(gradients: bool) -> Any:
            y = torch.nn.functional.conv2d(x_, w_, stride=stride, padding=padding)
            if not gradients:
                return (y,)
            dx, dw, _ = torch.ops.aten.convolution_backward(
                dy_, x_, w_, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, True, False]
            )
            return y, dx, dw

        return run

    return [made(torch.channels_last), made(torch.contiguous_format)]


def _to_numpy(tensor: Any, what: str) -> np.ndarray:
    return tensor.permute(2, 3, 1, 0).numpy() if what == "dw" else tensor.permute(0, 2, 3, 1).numpy()


def ladder_rows(rounds: int) -> Iterator[Timing]:
    """The same convolution on every rung, each compared with the first rung's result and time.

    NumPy's rung does not stand where its file does: its products run in BLAS, on a micro-kernel that others wrote, so
    it is ahead of the two rungs that are compiled from plain Python.  Those show what compiling buys, and what one
    reordered product buys on top; the micro-kernel is what overtakes BLAS, since it copies nothing together.
    """
    from tinydiff.kernels import cpu
    from tinydiff.kernels.cpu import im2col, naive

    n, c, k, size = LADDER
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((n, size, size, c), np.float32), rng.standard_normal((3, 3, c, k), np.float32)

    def direct() -> np.ndarray:
        with use(winograd=False):
            return cpu.conv2d_forward(x, w, None, 1, (1, 1, 1, 1))

    rungs: dict[str, Callable[[], np.ndarray]] = {
        "loops": lambda: reference.conv2d_forward(x, w, None, 1, (1, 1, 1, 1)),
        "NumPy (BLAS)": lambda: numpy_backend.conv2d_forward(x, w, None, 1, (1, 1, 1, 1)),
        "compiled loops": lambda: naive.conv2d_forward(x, w, None, 1, (1, 1, 1, 1)),
        "im2col": lambda: im2col.conv2d_forward(x, w, None, 1, (1, 1, 1, 1)),
        "micro-kernel": direct,
        "Winograd": lambda: cpu.conv2d_forward(x, w, None, 1, (1, 1, 1, 1)),
    }
    expected = rungs["loops"]()
    (first,) = time_interleaved(rungs["loops"], rounds=1, warmup=0)
    for name, rung in rungs.items():
        assert_close(name, rung(), expected)
        (seconds,) = (first,) if name == "loops" else time_interleaved(rung, rounds=rounds)
        yield Timing("ladder", name, seconds, first, against="the plain loops", work=x.size * 9 * k)
