"""Is a gradient right?  Central differences in float64, at every element, with a random upstream gradient.

    numeric dx[i] = Σ dy · (f(x + h·eᵢ) − f(x − h·eᵢ)) / 2h

The upstream gradient is random because one of all ones would hide transposed and wrongly summed gradients; the error
is relative to the array's largest gradient because an absolute tolerance lets small gradients be wrong.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinydiff.autograd import Tensor

STEP = 1e-6


def op_errors(op: Any, *arrays: Any, **options: Any) -> list[float]:
    """For each float array that goes into `op.forward`: max |analytic − numeric| divided by max |numeric|.

    A right gradient gives about 1e-9 to 1e-7; a wrong one 1e-3 to 1.  Integer arrays are not checked.

    >>> max(op_errors(ops.silu, np.array([-1.0, 2.0]))) < 1e-6
    True
    """
    arrays = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arrays)
    y, backward = op.forward(*arrays, **options)
    dy = np.random.default_rng(0).standard_normal(np.shape(y))
    errors = []
    for a, dx in zip(arrays, backward(dy), strict=True):
        if isinstance(a, np.ndarray) and a.dtype.kind == "f":
            errors.append(relative_error(dx, numeric(lambda: op.forward(*arrays, **options)[0], a, dy)))
    return errors


def module_errors(
    module: Any, run: Callable[[], Tensor], inputs: dict[str, Tensor], step: float = STEP
) -> dict[str, float]:
    """The same for a whole block or model: errors of each parameter of `module` and each of the named `inputs`.

    `run()` makes the output from `inputs` and the module's parameters, which must be float64 and have requires_grad.
    """
    leaves = {**dict(module.named_parameters()), **inputs}
    for leaf in leaves.values():
        leaf.grad = None
    y = run()
    dy = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(dy)
    return {
        name: relative_error(leaf.grad, numeric(lambda: run().data, leaf.data, dy, step))
        for name, leaf in leaves.items()
    }


def numeric(f: Callable[[], Any], x: np.ndarray, dy: Any = 1.0, step: float = STEP) -> np.ndarray:
    """Σ dy·∂f/∂x by central differences; f() gives what has dy's shape from x, which is changed and restored."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        keep, ends = x[i], []
        for value in (keep + step, keep - step):
            x.setflags(write=True)  # the tape has made it read-only
            x[i] = value
            ends.append(np.array(f()))  # a copy: f() may be a view of x
        x.setflags(write=True)
        x[i] = keep
        gradient[i] = np.sum(dy * (ends[0] - ends[1])) / (2 * step)
    return gradient


def relative_error(analytic: np.ndarray | None, expected: np.ndarray) -> float:
    """max |analytic − numeric| divided by max |numeric|; where the numeric gradient is zero, the absolute error."""
    if analytic is None or np.shape(analytic) != expected.shape:
        return float("inf")
    scale = abs(expected).max()
    return float(abs(analytic - expected).max() / (scale if scale > 1e-8 else 1.0))
