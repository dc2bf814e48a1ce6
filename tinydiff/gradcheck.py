"""Is a gradient right?  Central differences in float64, at every element, with a random upstream gradient.

    numeric dx[i] = Σ dy · (f(x + h·eᵢ) − f(x − h·eᵢ)) / 2h

The upstream gradient is random because one of ones hides transposed and mis-summed gradients; the error is relative
to the array's largest gradient because an absolute tolerance lets small gradients be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinydiff.autograd import Tensor

STEP = 1e-6


def op_errors(op: Any, *arrays: np.ndarray, seed: int = 0, step: float = STEP, **options: Any) -> list[float]:
    """For each float array that goes into `op`: max |analytic − numeric| over max |numeric|.

    A right gradient gives about 1e-9 to 1e-7; a wrong one 1e-3 to 1.  Integer arrays are passed and not checked.
    """
    arrays = tuple(a.copy() if _is_float(a) else a for a in arrays)
    y, backward = op.forward(*arrays, **options)
    dy = np.random.default_rng(seed).standard_normal(np.shape(y))
    gradients = backward(dy)
    checked = [(a, dx) for a, dx in zip(arrays, gradients, strict=True) if _is_float(a)]
    return [
        relative_error(dx, numeric(lambda: _dot(op.forward(*arrays, **options)[0], dy), a, step)) for a, dx in checked
    ]


def module_errors(
    module: Any, run: Callable[[], Tensor], inputs: dict[str, Tensor], seed: int = 0, step: float = STEP
) -> dict[str, float]:
    """The same for a whole block or model: errors of each parameter of `module` and each of the named `inputs`.

    `run()` makes the output from `inputs` and the module's parameters, which must be float64.
    """
    leaves = {**dict(module.named_parameters()), **inputs}
    for leaf in leaves.values():
        leaf.grad = None
    y = run()
    dy = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(dy)
    errors = {}
    for name, leaf in leaves.items():
        leaf.data.setflags(write=True)
        errors[name] = relative_error(leaf.grad, numeric(lambda: _dot(run().data, dy), leaf.data, step))
    return errors


def numeric(value: Callable[[], float], x: np.ndarray, step: float = STEP) -> np.ndarray:
    """The gradient of `value()` by x, in place and element by element; x is as before afterwards."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        keep = x[i]
        results = []
        for moved in (keep + step, keep - step):
            x.setflags(write=True)
            x[i] = moved
            results.append(value())
        x.setflags(write=True)
        x[i] = keep
        gradient[i] = (results[0] - results[1]) / (2 * step)
    return gradient


def relative_error(analytic: np.ndarray | None, numeric: np.ndarray) -> float:
    """max |analytic − numeric| over max |numeric|; where the numeric gradient is zero, the absolute error."""
    if analytic is None or np.shape(analytic) != numeric.shape:
        return float("inf")
    scale = abs(numeric).max()
    return float(abs(analytic - numeric).max() / (scale if scale > 1e-8 else 1.0))


def _is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def _dot(y: Any, dy: Any) -> float:
    return float(np.sum(y * dy))
