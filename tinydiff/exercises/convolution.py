"""Section 1: the convolution, its size, its gradients, and how it gets fast."""

from __future__ import annotations

import time

import numpy as np

from tinydiff import kernels
from tinydiff.exercises.checking import Answer, Exercise, drawn
from tinydiff.ops import conv2d

_NONE = (0, 0, 0, 0)
# (N, H, W, C), (KH, KW, C, K): never square, never one image, so that a swapped axis shows
SHAPES = (((2, 5, 7, 3), (3, 2, 3, 4)), ((1, 4, 6, 1), (2, 3, 1, 2)), ((3, 6, 5, 2), (1, 3, 2, 3)))


def _convolved(x: np.ndarray, w: np.ndarray, stride: int = 1, padding: int = 0) -> np.ndarray:
    """The truth in float64."""
    with kernels.use("numpy"):
        return conv2d.forward(x, w, stride=stride, padding=padding)[0]


def conv2d_loops(answer: Answer) -> None:
    for x_shape, w_shape in SHAPES:
        x, w = drawn(x_shape, w_shape)
        flipped = _convolved(x, w[::-1, ::-1])
        hints = {"your kernel is turned by 180°: here, as in every network, it is not (cross-correlation)": flipped}
        if w_shape[2] > 1:
            first = _convolved(x[..., :1], w[:, :, :1])
            hints["only the first channel was used: sum over all of them"] = first
        answer.expect(answer(x, w), _convolved(x, w), "y", hints)


def output_size(answer: Answer) -> None:
    for size, kernel, stride, padding in ((5, 3, 1, 0), (32, 3, 1, 1), (32, 3, 2, 1), (7, 2, 2, 0), (10, 3, 4, 1)):
        expected = (size + 2 * padding - kernel) // stride + 1
        hints = {
            "padding goes on both sides": (size + padding - kernel) // stride + 1,
            "divide by the stride before you add 1": (size + 2 * padding - kernel + 1) // stride,
            "the kernel fits once more than it can move: + 1": (size + 2 * padding - kernel) // stride,
            "a window that reaches over the edge does not count: round down": -(
                -(size + 2 * padding - kernel) // stride
            )
            + 1,
        }
        came = answer(size, kernel, stride, padding)
        if isinstance(came, float):
            raise answer.wrong(f"a number of pixels is whole: {came!r} came for size {size}; use //")
        answer.expect(came, expected, f"size {size}, kernel {kernel}, stride {stride}, padding {padding}", hints)


def conv2d_strided(answer: Answer) -> None:
    for (x_shape, w_shape), stride, padding in zip(SHAPES, (2, 3, 2), (1, 0, 2), strict=True):
        x, w = drawn(x_shape, w_shape, seed=1)
        hints = {
            "the stride is left out": _convolved(x, w, 1, padding),
            "the padding is left out": _convolved(x, w, stride, 0),
        }
        expected = _convolved(x, w, stride, padding)
        answer.expect(answer(x, w, stride, padding), expected, f"y with stride {stride}, padding {padding}", hints)


def conv2d_input_grad(answer: Answer) -> None:
    for x_shape, w_shape in SHAPES:
        x, w = drawn(x_shape, w_shape, seed=2)
        dy = drawn(_convolved(x, w).shape, seed=3)[0]
        with kernels.use("numpy"):
            expected, turned = (
                kernels.kernel("conv2d_input_grad", dy)(dy, kernel, x.shape, 1, _NONE) for kernel in (w, w[::-1, ::-1])
            )
        ones = kernels.kernel("conv2d_input_grad", dy)(np.ones_like(dy), w, x.shape, 1, _NONE)
        hints = {
            "your kernel is turned by 180°: y[i, j] met x[i + p, j + q], so dx[i + p, j + q] gets dy[i, j]": turned,
            "dy is not used: the gradient that arrives is not all ones": ones,
        }
        answer.expect(answer(dy, w, x.shape), expected, "dx", hints)


def conv2d_weight_grad(answer: Answer) -> None:
    for x_shape, w_shape in SHAPES:
        x, w = drawn(x_shape, w_shape, seed=4)
        dy = drawn(_convolved(x, w).shape, seed=5)[0]
        with kernels.use("numpy"):
            grad = kernels.kernel("conv2d_weight_grad", dy)
            expected, first = grad(x, dy, w.shape[:2], 1, _NONE), grad(x[:1], dy[:1], w.shape[:2], 1, _NONE)
        hints = {
            "the mean over images was taken: a gradient is a sum": expected / len(x),
            "only the first image was used: sum over all of them": first,
            "your gradient is turned by 180°": expected[::-1, ::-1],
        }
        answer.expect(answer(x, dy, w.shape[:2]), expected, "dw", hints if len(x) > 1 else {})


def im2col(answer: Answer) -> None:
    for x_shape, w_shape in SHAPES:
        (x,) = drawn(x_shape, seed=6)
        kernel_h, kernel_w = w_shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(
            x, (kernel_h, kernel_w), axis=(1, 2)
        )  # (N, H', W', C, KH, KW)
        n, height, width, channels = windows.shape[:4]
        expected = windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * height * width, kernel_h * kernel_w * channels)
        hints = {
            "in a row the order is kernel row, kernel column, channel: channels last, as in w": windows.reshape(
                expected.shape
            ),
            "rows and columns are swapped: one row for each position of the kernel": expected.T,
        }
        answer.expect(answer(x, kernel_h, kernel_w), expected, "the matrix of windows", hints)


def conv2d_compiled(answer: Answer) -> None:
    x, w = (a.astype(np.float32) for a in drawn((4, 24, 20, 8), (3, 3, 8, 8), seed=7))
    small_x, small_w = x[:1, :8, :9, :3], w[:, :2, :3]
    expected = _convolved(small_x.astype(float), small_w.astype(float))
    answer.expect(answer(small_x, small_w), expected, "y", tolerance=1e-4)  # it compiles here
    answer.expect(answer(x, w), _convolved(x.astype(float), w.astype(float)), "y", tolerance=1e-4)

    def seconds(run: object) -> float:
        start = time.perf_counter()
        run(x, w)  # type: ignore[operator]
        return time.perf_counter() - start

    with kernels.use("reference"):
        loops = seconds(lambda x, w: conv2d.forward(x[:1], w)) * len(x)
    yours = min(seconds(answer.function) for _ in range(5))
    if yours > loops / 10:
        raise answer.wrong(
            f"right, but it takes {1e3 * yours:.1f} ms and the plain loops {1e3 * loops:.1f}: "
            "compiled it should be 10 times as fast; is there numba.njit above the function?"
        )


def convolve_kernel(answer: Answer) -> None:
    from tinydiff.device import simulated

    if not simulated():
        raise answer.wrong("it runs in Numba's simulator: set NUMBA_ENABLE_CUDASIM=1 before Python starts")
    for (height, width), (kernel_h, kernel_w) in (((9, 13), (3, 2)), ((6, 5), (2, 3))):
        x, w = drawn((height, width), (kernel_h, kernel_w), seed=8)
        expected = _convolved(x[None, :, :, None], w[:, :, None, None])[0, :, :, 0]
        y = np.full(expected.shape, np.nan)
        threads = (4, 4)
        rows, columns = expected.shape
        blocks = -(-rows // 4), -(-columns // 4)

        def launch(x: np.ndarray, w: np.ndarray) -> np.ndarray:
            answer.function[blocks, threads](x, w, y)  # type: ignore[index]  # noqa: B023
            return y  # noqa: B023

        came = Answer(answer.exercise, launch)(x, w)
        if np.isnan(came).any():
            index = [int(i) for i in np.argwhere(np.isnan(came))[0]]
            raise answer.wrong(
                f"y{index} was never written; cuda.grid(2) gives row and column in the order of y's axes"
            )
        answer.expect(came, expected, "y")


EXERCISES = (
    Exercise("1.1", "the convolution in loops", "conv2d_loops", 2, conv2d_loops),
    Exercise("1.2", "its output size", "output_size", 1, output_size),
    Exercise("1.3", "stride and padding", "conv2d_strided", 2, conv2d_strided),
    Exercise("1.4", "its gradient by the input", "conv2d_input_grad", 3, conv2d_input_grad),
    Exercise("1.5", "its gradient by the kernel", "conv2d_weight_grad", 3, conv2d_weight_grad),
    Exercise("1.6", "im2col", "im2col", 2, im2col),
    Exercise("1.7", "compiled by Numba, faster than loops", "conv2d_compiled", 3, conv2d_compiled),
    Exercise("1.8", "a kernel for a GPU", "convolve_kernel", 3, convolve_kernel),
)
