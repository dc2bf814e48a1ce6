"""The definition, compiled as it stands: the rung of the ladder between NumPy and the register tile.

    loops (reference.py) → NumPy (vectorised.py) → compiled loops (here) → the tile (conv.py) → Winograd (winograd.py)

Numba makes machine code of the plain loops, and that alone is more than a thousandfold; what it does not find is the
form that keeps every vector unit busy.  It is here to be read, timed and compared; nothing else uses it.
"""

from __future__ import annotations

import tinydiff.kernels.reference as reference
from tinydiff.kernels.cpu.jit import helper

conv2d_forward = helper(reference.conv2d_forward)
conv2d_input_grad = helper(reference.conv2d_input_grad)
conv2d_weight_grad = helper(reference.conv2d_weight_grad)
