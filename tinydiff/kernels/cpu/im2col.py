"""im2col: a convolution as one matrix product, in plain Numba; the rung between compiled loops and the micro-kernel.

Every output position's patch is copied into a row of a matrix (positions, KH·KW·C), and the rest is a product with the
weights as a matrix (KH·KW·C, K).  (Chellapilla, Puri & Simard 2006)

What it costs: memory, a matrix in which each pixel stands KH·KW times.  What it buys: all work is one product, whose
loops can be ordered so that what is loaded serves several times: a third faster than the compiled loops on one image,
and no faster on a batch whose patches fill more than the cache.
Nothing else uses it: it is here to be read, timed and compared.
"""

import numpy as np

from tinydiff.kernels.cpu.jit import helper

BLOCK = 64  # steps of the sums at a time: so many rows of b stay in the first cache while all rows of a pass


@helper
def matmul_blocked(a, b):  # type: ignore[no-untyped-def]
    """a (M, S) · b (S, K) → (M, K): each number of b that is loaded serves four rows; k is the loop of vectors."""
    (rows, steps), columns = a.shape, b.shape[1]
    c = np.zeros((rows, columns), a.dtype)
    for first in range(0, steps, BLOCK):
        last = min(first + BLOCK, steps)
        for i in range(0, rows - 3, 4):
            for s in range(first, last):
                a0, a1, a2, a3 = a[i, s], a[i + 1, s], a[i + 2, s], a[i + 3, s]
                for k in range(columns):
                    c[i, k] += a0 * b[s, k]
                    c[i + 1, k] += a1 * b[s, k]
                    c[i + 2, k] += a2 * b[s, k]
                    c[i + 3, k] += a3 * b[s, k]
        for i in range(rows // 4 * 4, rows):
            for s in range(first, last):
                for k in range(columns):
                    c[i, k] += a[i, s] * b[s, k]
    return c


@helper
def im2col(x, kernel_h, kernel_w, out_h, out_w, stride, top, left):  # type: ignore[no-untyped-def]
    """x (N, H, W, C) → its patches (N·H'·W', KH·KW·C), with zeros where they lie outside."""
    n_images, height, width, channels = x.shape
    patches = np.zeros((n_images, out_h, out_w, kernel_h, kernel_w, channels), x.dtype)
    for n, i, j in np.ndindex((n_images, out_h, out_w)):
        for p in range(kernel_h):
            for q in range(kernel_w):
                row, column = i * stride + p - top, j * stride + q - left
                if 0 <= row and row < height and 0 <= column and column < width:
                    for c in range(channels):
                        patches[n, i, j, p, q, c] = x[n, row, column, c]
    return patches.reshape(n_images * out_h * out_w, kernel_h * kernel_w * channels)


@helper
def conv2d_forward(x, w, b, stride, padding):  # type: ignore[no-untyped-def]
    """y = patches · w + b; as `reference.conv2d_forward`, contiguous arrays of one type."""
    kernel_h, kernel_w, channels, filters = w.shape
    top, bottom, left, right = padding
    out_h = (x.shape[1] + top + bottom - kernel_h) // stride + 1
    out_w = (x.shape[2] + left + right - kernel_w) // stride + 1
    patches = im2col(x, kernel_h, kernel_w, out_h, out_w, stride, top, left)
    y = matmul_blocked(patches, w.reshape(-1, filters))
    if b is not None:
        y += b
    return y.reshape(x.shape[0], out_h, out_w, filters)


@helper
def conv2d_input_grad(dy, w, x_shape, stride, padding):  # type: ignore[no-untyped-def]
    """The gradient by the patches, dy · wᵀ, of which each number is added to the pixel that it was copied from."""
    kernel_h, kernel_w, channels, filters = w.shape
    transposed = np.ascontiguousarray(w.reshape(-1, filters).T)
    patches = matmul_blocked(dy.reshape(-1, filters), transposed)
    patches = patches.reshape(dy.shape[0], dy.shape[1], dy.shape[2], kernel_h, kernel_w, channels)
    dx = np.zeros(x_shape, dy.dtype)
    for n, i, j in np.ndindex(dy.shape[:3]):
        for p in range(kernel_h):
            for q in range(kernel_w):
                row, column = i * stride + p - padding[0], j * stride + q - padding[2]
                if 0 <= row and row < x_shape[1] and 0 <= column and column < x_shape[2]:
                    for c in range(channels):
                        dx[n, row, column, c] += patches[n, i, j, p, q, c]
    return dx


@helper
def conv2d_weight_grad(x, dy, kernel_size, stride, padding):  # type: ignore[no-untyped-def]
    """dw = patchesᵀ · dy."""
    (kernel_h, kernel_w), filters = kernel_size, dy.shape[3]
    patches = im2col(x, kernel_h, kernel_w, dy.shape[1], dy.shape[2], stride, padding[0], padding[2])
    dw = matmul_blocked(np.ascontiguousarray(patches.T), dy.reshape(-1, filters))
    return dw.reshape(kernel_h, kernel_w, x.shape[3], filters)
