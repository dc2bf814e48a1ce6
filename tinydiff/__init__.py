"""tinydiff: Stable Diffusion, from the convolution up, in NumPy and Numba.

    pipe = tinydiff.load()                                          # the weights that come with tinydiff
    images = pipe.generate(["a red dress on a white background"])   # uint8 (N, H, W, 3)

`import tinydiff` is quick: a name is imported when it is first asked for (PEP 562), and kernels compile at first call.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinydiff import (
        apps,
        datasets,
        diffusion,
        evaluation,
        kernels,
        models,
        nn,
        ops,
        pipelines,
        segmentation,
        training,
        viz,
    )
    from tinydiff.apps.attention_maps import attention_maps
    from tinydiff.apps.denoising import load_denoiser
    from tinydiff.apps.stable_diffusion.loading import load_stable_diffusion
    from tinydiff.apps.summary import summary
    from tinydiff.apps.train.run import train
    from tinydiff.autograd import Tensor, no_grad
    from tinydiff.errors import InputError
    from tinydiff.evaluation.evaluate import evaluate
    from tinydiff.kernels import use
    from tinydiff.pipelines.text_to_image import load
    from tinydiff.segmentation.segmenter import load_segmenter
    from tinydiff.segmentation.training import train_segmentation

__version__ = "0.2.0"

SPINS = "5000"  # turns that a waiting thread takes before it sleeps; GCC's 300,000 keep the core from all other work
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)

# Where each name that is not itself a subpackage is defined: in whichever ring it lives.
_HOMES = {
    "InputError": "errors",
    "Tensor": "autograd",
    "attention_maps": "apps.attention_maps",
    "evaluate": "evaluation.evaluate",
    "load": "pipelines.text_to_image",
    "load_denoiser": "apps.denoising",
    "load_segmenter": "segmentation.segmenter",
    "load_stable_diffusion": "apps.stable_diffusion.loading",
    "no_grad": "autograd",
    "summary": "apps.summary",
    "train": "apps.train.run",
    "train_segmentation": "segmentation.training",
    "use": "kernels",
}
__all__ = [
    "InputError",
    "Tensor",
    "apps",
    "attention_maps",
    "datasets",
    "diffusion",
    "evaluate",
    "evaluation",
    "kernels",
    "load",
    "load_denoiser",
    "load_segmenter",
    "load_stable_diffusion",
    "models",
    "nn",
    "no_grad",
    "ops",
    "pipelines",
    "segmentation",
    "summary",
    "train",
    "train_segmentation",
    "training",
    "use",
    "viz",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
