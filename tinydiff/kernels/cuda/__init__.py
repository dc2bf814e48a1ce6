"""The kernels for a GPU, float32: numba.cuda, on CuPy's arrays; in Numba's simulator on NumPy's.

| work | on the GPU |
|---|---|
| convolution and both its gradients | `conv.py`: tiles in shared memory; `naive.py`: one thread a number, to compare |
| max-pool, nearest ×2, and back | `pointwise.py` |
| group norm with SiLU, layer norm, and back | `norm.py` |
| linear layers, attention's products | CuPy's matrix product (cuBLAS): `ops/linear.py`, `ops/attention.py` |
| softmax, GELU, GEGLU, losses, embedding, concatenation, AdamW | array code, written once for NumPy and CuPy |
"""

# ruff: noqa: F401 (the names are those of kernels/selection.py)

from tinydiff.kernels.cuda.conv import conv2d_forward, conv2d_input_grad, conv2d_weight_grad
from tinydiff.kernels.cuda.norm import group_norm, group_norm_backward
from tinydiff.kernels.cuda.pointwise import (
    max_pool2d_backward,
    max_pool2d_forward,
    upsample_nearest_backward,
    upsample_nearest_forward,
)
from tinydiff.kernels.numpy_backend import add, matmul, sum_rows
