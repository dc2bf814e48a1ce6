"""The compiled kernels, float32: Numba, with the products on the register tile of `tile.py`.

First the mandatory ones, then the faster forms of what ops/ writes in array code.
"""

from tinydiff.kernels.cpu.attention import attention, attention_backward
from tinydiff.kernels.cpu.constant import constant_weights
from tinydiff.kernels.cpu.conv import conv2d_forward, conv2d_input_grad, conv2d_weight_grad, matmul
from tinydiff.kernels.cpu.data_movement import add, concat, split, sum_positions, transposed
from tinydiff.kernels.cpu.norm import group_norm, group_norm_backward, sum_rows
from tinydiff.kernels.cpu.optim import adamw, square_sums
from tinydiff.kernels.cpu.pointwise import (
    geglu,
    geglu_backward,
    gelu,
    gelu_backward,
    max_pool2d_backward,
    max_pool2d_forward,
    upsample_nearest_backward,
    upsample_nearest_forward,
)

__all__ = [
    "constant_weights",
    "conv2d_forward",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "max_pool2d_forward",
    "max_pool2d_backward",
    "upsample_nearest_forward",
    "upsample_nearest_backward",
    "matmul",
    "group_norm",
    "group_norm_backward",
    "sum_rows",
    "sum_positions",
    "add",
    "concat",
    "split",
    "transposed",
    "attention",
    "attention_backward",
    "gelu",
    "gelu_backward",
    "geglu",
    "geglu_backward",
    "adamw",
    "square_sums",
]
