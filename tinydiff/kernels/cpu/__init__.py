"""The compiled kernels, float32: Numba, with all matrix products on the micro-kernel of `micro_kernel.py`."""

# ruff: noqa: F401 (the names are those of kernels/selection.py)

from tinydiff.kernels.cpu.arrays import reuse_memory
from tinydiff.kernels.cpu.attention import attention, attention_backward
from tinydiff.kernels.cpu.conv import conv2d_forward, conv2d_input_grad, conv2d_weight_grad, matmul
from tinydiff.kernels.cpu.data_movement import add, concat, from_float16, split, sum_positions
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
from tinydiff.kernels.cpu.record import record, record_step

reuse_memory()  # for whatever uses these kernels, training and generating alike
