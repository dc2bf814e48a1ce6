"""Every op on the GPU's arrays, forward and backward, gives what it gives on the CPU, and asks nothing of NumPy."""

import numpy as np
import pytest

from tinydiff import autograd, device, ops


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class Draws:
    """The same numbers at each call."""

    def random(self, shape):
        return np.random.default_rng(4).random(shape)


X, Y = normal(2, 4, 6), normal(2, 4, 6, seed=1)
IMAGES, NUMBERS = normal(1, 4, 2, 3), np.array([[0, 2], [1, 2]])
CASES = {
    "add": (autograd.add, (X, normal(4, 1, seed=2)), {}),
    "subtract": (autograd.subtract, (X, Y), {}),
    "multiply": (autograd.multiply, (X, Y), {}),
    "divide": (autograd.divide, (X, 3 + Y), {}),
    "power": (autograd.power, (X,), {"exponent": 2}),
    "matmul": (autograd.matmul, (X, normal(6, 3, seed=2)), {}),
    "sum": (autograd.sum, (X,), {"axis": 1}),
    "mean": (autograd.mean, (X,), {"axis": (0, 2)}),
    "transpose": (autograd.transpose, (X,), {}),
    "getitem": (autograd.getitem, (X,), {"key": (slice(1, 2), ..., 3)}),
    "reshape": (autograd.reshape, (X,), {"shape": (8, 6)}),
    "relu": (ops.relu, (X,), {}),
    "silu": (ops.silu, (X,), {}),
    "gelu": (ops.gelu, (X,), {}),
    "leaky_relu": (ops.leaky_relu, (X,), {}),
    "sigmoid": (ops.sigmoid, (X,), {}),
    "tanh": (ops.tanh, (X,), {}),
    "rms_norm": (ops.rms_norm, (X, normal(6, seed=2)), {}),
    "binary_cross_entropy_loss": (ops.binary_cross_entropy_loss, (X, abs(np.tanh(Y))), {}),
    "dice_loss": (ops.dice_loss, (abs(X), abs(Y)), {}),
    "quick_gelu": (ops.quick_gelu, (X,), {}),
    "geglu": (ops.geglu, (X,), {}),
    "softmax": (ops.softmax, (X,), {}),
    "linear": (ops.linear, (X, normal(6, 3, seed=2), normal(3, seed=3)), {}),
    "attention": (ops.attention, (X, normal(2, 3, 6, seed=2), normal(2, 3, 6, seed=3)), {"heads": 2}),
    "attention, causal": (ops.attention, (X, Y, normal(2, 4, 6, seed=3)), {"causal": True}),
    "conv2d": (ops.conv2d, (IMAGES, normal(3, 3, 3, 2, seed=2), normal(2, seed=3)), {"padding": 1}),
    "conv2d, dilated": (ops.conv2d, (IMAGES, normal(2, 1, 1, 3, seed=2)), {"dilation": 2, "groups": 3}),
    "conv_transpose2d": (ops.conv_transpose2d, (IMAGES, normal(2, 2, 2, 3, seed=2), normal(2, seed=3)), {}),
    "center_crop": (ops.center_crop, (IMAGES,), {"size": (2, 1)}),
    "max_pool2d": (ops.max_pool2d, (IMAGES,), {}),
    "max_pool2d, strided": (ops.max_pool2d, (IMAGES,), {"size": 2, "stride": 1, "padding": 1}),
    "avg_pool2d": (ops.avg_pool2d, (IMAGES,), {"size": 2, "stride": 1}),
    "upsample_bilinear": (ops.upsample_bilinear, (IMAGES,), {}),
    "batch_norm": (ops.batch_norm, (X, normal(6, seed=2), normal(6, seed=3)), {}),
    "dropout": (ops.dropout, (X,), {"rng": Draws()}),
    "upsample_nearest": (ops.upsample_nearest, (IMAGES,), {}),
    "group_norm": (ops.group_norm, (X, normal(6, seed=2), normal(6, seed=3)), {"groups": 2, "silu": True}),
    "layer_norm": (ops.layer_norm, (X[:1, :2], normal(6, seed=2), normal(6, seed=3)), {}),
    "embedding": (ops.embedding, (normal(3, 5), NUMBERS), {}),
    "concat": (ops.concat, (X, Y), {}),
    "slice_channels": (ops.slice_channels, (X,), {"start": 1, "stop": 4}),
    "add_channel_bias": (ops.add_channel_bias, (IMAGES, normal(1, 3, seed=2)), {}),
    "global_avg_pool": (ops.global_avg_pool, (IMAGES,), {}),
    "mse_loss": (ops.mse_loss, (X, Y), {}),
    "l1_loss": (ops.l1_loss, (X, Y), {}),
    "cross_entropy_loss": (ops.cross_entropy_loss, (X, np.array([[0, 5, 3, 3]] * 2), abs(Y[:, :, 0])), {}),
    "kl_loss": (ops.kl_loss, (X, Y), {}),
    "reparameterize": (ops.reparameterize, (X, Y, normal(2, 4, 6, seed=2)), {}),
}


def test_no_op_is_left_out():
    assert {name for name in ops.__all__ if hasattr(getattr(ops, name), "forward")} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_on_the_gpu(gpu, name):
    op, inputs, options = CASES[name]

    def both(name):
        placed = [device.to_device(a, name) if a.dtype == np.float32 else a for a in inputs]  # indices stay behind
        y, backward = op.forward(*placed, **options)
        dy = normal(*y.shape, seed=9) if y.shape else np.float32(0.7)
        gradients = backward(device.to_device_of(dy, y) if y.shape else dy)
        return [device.to_numpy(a) for a in (y, *gradients) if a is not None]

    results, expected = both("cuda"), both("cpu")
    assert len(results) == len(expected)
    for got, right in zip(results, expected, strict=True):
        assert got.dtype == np.float32 and np.shape(got) == np.shape(right)
        assert abs(got - right).max() <= 1e-5 * max(1.0, abs(right).max())
