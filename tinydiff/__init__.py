"""tinydiff: Stable Diffusion, from the convolution up, in NumPy and Numba.

`import tinydiff` is quick: a name is imported when it is first asked for (PEP 562), and kernels compile at first call.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import datasets, diffusion, kernels, models, nn, ops, presets, segmentation, training, viz
    from .autograd import Tensor, no_grad
    from .errors import InputError
    from .evaluation import evaluate
    from .inspection import summary
    from .kernels import use
    from .pipelines import load
    from .training.run import train
    from .training.segmentation import train_segmentation
    from .weights import load_segmenter

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "Tensor",
    "datasets",
    "diffusion",
    "evaluate",
    "kernels",
    "load",
    "load_segmenter",
    "models",
    "nn",
    "no_grad",
    "ops",
    "presets",
    "segmentation",
    "summary",
    "train",
    "train_segmentation",
    "training",
    "use",
    "viz",
]

# Where each name that is not itself a submodule is defined.
_HOMES = {
    "InputError": "errors",
    "Tensor": "autograd",
    "evaluate": "evaluation",
    "load": "pipelines",
    "load_segmenter": "weights",
    "no_grad": "autograd",
    "summary": "inspection",
    "train": "training.run",
    "train_segmentation": "training.segmentation",
    "use": "kernels",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return importlib.import_module(f".{name}", __name__)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
