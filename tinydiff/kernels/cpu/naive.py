"""The definition, compiled as it stands: the first of the compiled rungs of the ladder.

    loops (reference.py) → NumPy (numpy_backend.py) → compiled loops (here) → one product (im2col.py)
    → the micro-kernel (conv.py, micro_kernel.py) → Winograd (winograd.py)

What it costs: a decorator.  What it buys: the interpreter is gone, which alone is more than a thousandfold; but every
multiply-add still loads y and stores it again.  It is here to be read, timed and compared; nothing else uses it.
"""

import tinydiff.kernels.reference as reference
from tinydiff.kernels.cpu.jit import helper

conv2d_forward = helper(reference.conv2d_forward)
conv2d_input_grad = helper(reference.conv2d_input_grad)
conv2d_weight_grad = helper(reference.conv2d_weight_grad)
