"""Differentiable functions: equation, forward and backward side by side, one file a family.

On Tensors an op gives a Tensor: `y = ops.silu(x)`, and later `y.backward(dy)` fills `x.grad`.  On plain arrays
`y, backward = ops.silu.forward(x)` gives an array and the function from dy to a gradient for each array that went in.
"""

from tinydiff.autograd import (
    add,
    divide,
    getitem,
    matmul,
    mean,
    multiply,
    power,
    reshape,
    subtract,
    sum,
    transpose,
)
from tinydiff.ops.activation import geglu, gelu, leaky_relu, quick_gelu, relu, sigmoid, silu, softmax, tanh
from tinydiff.ops.attention import attention
from tinydiff.ops.conv import conv2d, conv_transpose2d
from tinydiff.ops.linear import embedding, linear
from tinydiff.ops.loss import (
    binary_cross_entropy_loss,
    cross_entropy_loss,
    dice_loss,
    kl_loss,
    l1_loss,
    mse_loss,
    reparameterize,
)
from tinydiff.ops.norm import batch_norm, dropout, group_norm, layer_norm, rms_norm
from tinydiff.ops.pool import avg_pool2d, max_pool2d, upsample_bilinear, upsample_nearest
from tinydiff.ops.shape import add_channel_bias, center_crop, concat, global_avg_pool, slice_channels

__all__ = sorted(name for name, value in list(globals().items()) if hasattr(value, "forward"))
