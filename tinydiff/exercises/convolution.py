"""Section 1: the convolution, its size, its gradients, and how it gets fast."""

from timeit import repeat, timeit

import numpy as np

from tinydiff import kernels
from tinydiff.device import simulated
from tinydiff.exercises.checking import Answer, drawn, exercise
from tinydiff.ops import conv2d

# (N, H, W, C), (KH, KW, C, K): never square, never one image, so that a swapped axis shows
SHAPES = (((2, 5, 7, 3), (3, 2, 3, 4)), ((1, 4, 6, 1), (2, 3, 1, 2)), ((3, 6, 5, 2), (1, 3, 2, 3)))


def _convolved(x: np.ndarray, w: np.ndarray, stride: int = 1, padding: int = 0) -> np.ndarray:
    """The truth in float64: x (N, H, W, C), w (KH, KW, C, K) → (N, H', W', K)."""
    return conv2d.forward(x, w, stride=stride, padding=padding)[0]


def _gradients(x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dx and dw, of the shapes of x and w, without stride and padding."""
    return conv2d.forward(x, w)[1](dy)[:2]


@exercise("1.1", "the convolution in loops", points=2)
def conv2d_loops(answer: Answer) -> None:
    for x_shape, w_shape in SHAPES:
        x, w = drawn(x_shape, w_shape)
        turned = _convolved(x, w[::-1, ::-1])
        hints = {"your kernel is turned by 180°: here, as in every network, it is not (cross-correlation)": turned}
        if w_shape[2] > 1:
            hints["only the first channel was used: sum over all of them"] = _convolved(x[..., :1], w[:, :, :1])
        answer.expect(answer(x, w), _convolved(x, w), "y", hints)


@exercise("1.2", "its output size", points=1)
def output_size(answer: Answer) -> None:
    for size, kernel, stride, padding in ((5, 3, 1, 0), (32, 3, 1, 1), (32, 3, 2, 1), (7, 2, 2, 0), (10, 3, 4, 1)):
        free = size + 2 * padding - kernel  # pixels that the kernel can move by
        hints = {
            "padding goes on both sides": (free - padding) // stride + 1,
            "divide by the stride before you add 1": (free + 1) // stride,
            "the kernel fits once more than it can move: + 1": free // stride,
            "a window that reaches over the edge does not count: round down": -(-free // stride) + 1,
        }
        what = f"size {size}, kernel {kernel}, stride {stride}, padding {padding}"
        answer.expect(answer.whole(size, kernel, stride, padding), free // stride + 1, what, hints)


@exercise("1.3", "stride and padding", points=2)
def conv2d_strided(answer: Answer) -> None:
    for (x_shape, w_shape), stride, padding in zip(SHAPES, (2, 3, 2), (1, 0, 2), strict=True):
        x, w = drawn(x_shape, w_shape, seed=1)
        hints = {
            "the stride is left out": _convolved(x, w, 1, padding),
            "the padding is left out": _convolved(x, w, stride, 0),
        }
        expected = _convolved(x, w, stride, padding)
        answer.expect(answer(x, w, stride, padding), expected, f"y with stride {stride}, padding {padding}", hints)


@exercise("1.4", "its gradient by the input", points=3)
def conv2d_input_grad(answer: Answer) -> None:
    for x_shape, w_shape in SHAPES:
        x, w = drawn(x_shape, w_shape, seed=2)
        (dy,) = drawn(_convolved(x, w).shape, seed=3)
        turned = _gradients(x, w[::-1, ::-1], dy)[0]
        hints = {
            "your kernel is turned by 180°: y[i, j] met x[i + p, j + q], so dx[i + p, j + q] gets dy[i, j]": turned,
            "dy is not used: the gradient that arrives is not all ones": _gradients(x, w, np.ones_like(dy))[0],
        }
        answer.expect(answer(dy, w, x.shape), _gradients(x, w, dy)[0], "dx", hints)


@exercise("1.5", "its gradient by the kernel", points=3)
def conv2d_weight_grad(answer: Answer) -> None:
    for x_shape, w_shape in SHAPES:
        x, w = drawn(x_shape, w_shape, seed=4)
        (dy,) = drawn(_convolved(x, w).shape, seed=5)
        expected = _gradients(x, w, dy)[1]
        hints = {
            "the mean over images was taken: a gradient is a sum": expected / len(x),
            "only the first image was used: sum over all of them": _gradients(x[:1], w, dy[:1])[1],
            "your gradient is turned by 180°": expected[::-1, ::-1],
        }
        answer.expect(answer(x, dy, w.shape[:2]), expected, "dw", hints if len(x) > 1 else {})


@exercise("1.6", "im2col", points=2)
def im2col(answer: Answer) -> None:
    for x_shape, (kernel_h, kernel_w, *_) in SHAPES:
        (x,) = drawn(x_shape, seed=6)
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel_h, kernel_w), axis=(1, 2))
        columns = kernel_h * kernel_w * x.shape[3]
        expected = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, columns)  # from (N, H', W', C, KH, KW)
        first = windows.reshape(-1, columns)
        hints = {
            "in a row the order is kernel row, kernel column, channel: channels last, as in w": first,
            "rows and columns are swapped: one row for each position of the kernel": expected.T,
        }
        answer.expect(answer(x, kernel_h, kernel_w), expected, "the matrix of windows", hints)


@exercise("1.7", "compiled by Numba, faster than loops", points=3)
def conv2d_compiled(answer: Answer) -> None:
    x, w = (a.astype(np.float32) for a in drawn((4, 24, 20, 8), (3, 3, 8, 8), seed=7))
    for some_x, some_w in ((x[:1, :8, :9, :3], w[:, :2, :3]), (x, w)):  # it compiles at the first
        expected = _convolved(some_x.astype(float), some_w.astype(float))
        answer.expect(answer(some_x, some_w), expected, "y", tolerance=1e-4)
    with kernels.use("reference"):
        loops = timeit(lambda: conv2d.forward(x[:1], w), number=1) * len(x)
    yours = min(repeat(lambda: answer.function(x, w), number=1))
    if yours > loops / 10:
        raise answer.wrong(
            f"right, but it takes {1e3 * yours:.1f} ms and the plain loops {1e3 * loops:.1f}: "
            "compiled it should be 10 times as fast; is there numba.njit above the function?"
        )


@exercise("1.8", "a kernel for a GPU", points=3)
def convolve_kernel(answer: Answer) -> None:
    if not simulated():
        raise answer.wrong("it runs in Numba's simulator: set NUMBA_ENABLE_CUDASIM=1 before Python starts")

    def launch(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = np.full((x.shape[0] - w.shape[0] + 1, x.shape[1] - w.shape[1] + 1), np.nan)
        blocks = -(-y.shape[0] // 4), -(-y.shape[1] // 4)
        answer.function[blocks, (4, 4)](x, w, y)  # type: ignore[index]
        return y

    for x_shape, w_shape in (((9, 13), (3, 2)), ((6, 5), (2, 3))):  # (H, W), (KH, KW)
        x, w = drawn(x_shape, w_shape, seed=8)
        came = Answer(answer.exercise, launch)(x, w)
        if np.isnan(came).any():
            where = f"y{np.argwhere(np.isnan(came))[0].tolist()}"
            raise answer.wrong(f"{where} was never written; cuda.grid(2) gives row and column in the order of y's axes")
        answer.expect(came, _convolved(x[None, :, :, None], w[:, :, None, None])[0, :, :, 0], "y")
