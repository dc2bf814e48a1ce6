"""Differentiable functions: equation, forward and backward side by side, one file a family.

Each is called on Tensors, or as `op.forward(*arrays) -> (y, backward)` on plain arrays.
"""

from tinydiff.autograd import add, multiply, reshape, subtract
from tinydiff.ops.activation import geglu, gelu, relu, silu, softmax
from tinydiff.ops.attention import attention
from tinydiff.ops.conv import conv2d, conv2d_transposed
from tinydiff.ops.embedding import embedding
from tinydiff.ops.linear import linear
from tinydiff.ops.loss import cross_entropy_loss, kl_loss, l1_loss, mse_loss, sample_gaussian
from tinydiff.ops.norm import group_norm, layer_norm
from tinydiff.ops.pool import max_pool2d
from tinydiff.ops.resample import upsample_nearest
from tinydiff.ops.shape import channels, concat, crop, mean_positions

__all__ = [
    "add",
    "attention",
    "channels",
    "concat",
    "conv2d",
    "conv2d_transposed",
    "crop",
    "cross_entropy_loss",
    "embedding",
    "geglu",
    "gelu",
    "group_norm",
    "kl_loss",
    "l1_loss",
    "layer_norm",
    "linear",
    "max_pool2d",
    "mean_positions",
    "mse_loss",
    "multiply",
    "relu",
    "reshape",
    "sample_gaussian",
    "silu",
    "softmax",
    "subtract",
    "upsample_nearest",
]
