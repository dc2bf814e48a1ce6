"""The kernels for a GPU, float32: numba.cuda, on CuPy's arrays; in Numba's simulator on NumPy's.

| work | on the GPU |
|---|---|
| linear layers, every product, sums of rows | `product.py`: tiles in shared memory |
| convolution and both its gradients | `conv.py`, on the same tiles; `naive.py`: one thread a number, to compare |
| attention and its gradient | `attention.py`: these products, and softmax |
| max-pool, nearest ×2, and back | `pointwise.py` |
| group norm with SiLU, layer norm, and back | `norm.py` |
| AdamW, and the norm of all gradients | `optim.py` |
| a whole training step, replayed as one launch | `graph.py` |
| GELU, GEGLU, losses, embedding, concatenation | array code, written once for NumPy and CuPy |
"""

# ruff: noqa: F401 (the names are those of kernels/selection.py)

from tinydiff.kernels.cuda.attention import attention, attention_backward
from tinydiff.kernels.cuda.conv import conv2d_forward, conv2d_input_grad, conv2d_weight_grad
from tinydiff.kernels.cuda.graph import record_step, record_update
from tinydiff.kernels.cuda.norm import group_norm, group_norm_backward
from tinydiff.kernels.cuda.optim import adamw, square_sums
from tinydiff.kernels.cuda.pointwise import (
    max_pool2d_backward,
    max_pool2d_forward,
    upsample_nearest_backward,
    upsample_nearest_forward,
)
from tinydiff.kernels.cuda.product import matmul, sum_rows
from tinydiff.kernels.numpy_backend import add
