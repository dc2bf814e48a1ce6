"""Differentiable functions: equation, forward and backward side by side, one file a family.

Each is called on Tensors, or as `op.forward(*arrays) -> (y, backward)` on plain arrays.
"""

from tinydiff.autograd import add, multiply, reshape, subtract
from tinydiff.ops.activation import geglu, gelu, relu, silu, softmax
from tinydiff.ops.attention import attention
from tinydiff.ops.conv import conv2d, conv_transpose2d
from tinydiff.ops.embedding import embedding
from tinydiff.ops.linear import linear
from tinydiff.ops.loss import cross_entropy_loss, kl_loss, l1_loss, mse_loss, reparameterize
from tinydiff.ops.norm import group_norm, layer_norm
from tinydiff.ops.pool import max_pool2d
from tinydiff.ops.resample import upsample_nearest
from tinydiff.ops.shape import center_crop, concat, global_avg_pool, slice_channels

__all__ = [
    "add",
    "attention",
    "center_crop",
    "concat",
    "conv2d",
    "conv_transpose2d",
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
    "global_avg_pool",
    "mse_loss",
    "multiply",
    "relu",
    "reshape",
    "reparameterize",
    "silu",
    "slice_channels",
    "softmax",
    "subtract",
    "upsample_nearest",
]
