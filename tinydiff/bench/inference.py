"""The shipped denoiser's forward pass, beside PyTorch and the libraries that run whole graphs.

The reference in PyTorch, which takes the same weights, is exported as an ONNX file; all outputs are compared before
anything is timed.
"""

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np

import tinydiff
from tinydiff.bench.steps import PROMPT, PYTORCH, has_reference
from tinydiff.bench.timing import Timing, assert_close, start_torch
from tinydiff.bench.worker import OURS, in_turns
from tinydiff.kernels import constant_weights

BATCHES = (32, 2)
GRAPHS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}  # module → name
NAMES = ("x", "t", "text")
_ALWAYS = contextlib.ExitStack()


def inference_rows(rounds: int) -> Iterator[Timing]:
    """A row for each batch and each library that is here."""
    others = list(PYTORCH) if has_reference() else []
    if others and find_spec("onnx") is not None:
        others += [name for module, name in GRAPHS.items() if find_spec(module) is not None]
    for batch in BATCHES:
        what = f"denoiser, 8×8×4, batch {batch}"
        with tempfile.TemporaryDirectory() as folder:
            if others:
                _export(batch, Path(folder))
                expected = contender(OURS, str(batch), folder)()
                for library in others:
                    theirs = contender(library, str(batch), folder)()
                    assert_close(f"{what} in {library}", expected, theirs.transpose(0, 2, 3, 1), least=1e-3)
            ours, *seconds = in_turns(__name__, [(library, str(batch), folder) for library in (OURS, *others)], rounds)
        found = dict(zip(others, seconds, strict=True))
        eager = [found.pop(name) for name in PYTORCH if name in found]
        yield Timing("inference", what, ours, min(eager, default=None))
        yield from (Timing("inference", what, ours, theirs, against=name) for name, theirs in found.items())


def contender(library: str, batch: str, folder: str) -> Callable[[], np.ndarray]:
    """The forward pass in one of the libraries: (N, H, W, 4) from tinydiff, (N, 4, H, W) from the others."""
    if library in PYTORCH:
        start_torch()
    x, t, text = _inputs(int(batch))
    if library == OURS:
        pipe = tinydiff.load()

        def forward() -> np.ndarray:
            return pipe.predict(x, int(t[0]), text)

        _ALWAYS.enter_context(constant_weights())  # as while a sampler runs
        return forward
    given = dict(zip(NAMES, (x.transpose(0, 3, 1, 2), t, text), strict=True))
    if library == "ONNX Runtime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = numba.config.NUMBA_NUM_THREADS
        session = onnxruntime.InferenceSession(f"{folder}/unet.onnx", options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, given)[0]
    if library == "OpenVINO":
        import openvino

        config = {"INFERENCE_NUM_THREADS": numba.config.NUMBA_NUM_THREADS, "INFERENCE_PRECISION_HINT": "f32"}
        model = openvino.compile_model(f"{folder}/unet.onnx", "CPU", config)
        return lambda: model(given)[0]
    import torch

    model, tensors = _reference(PYTORCH[library]), [torch.from_numpy(a.copy()) for a in given.values()]

    def in_torch() -> np.ndarray:
        with torch.inference_mode():
            return model(*tensors).sample.numpy()

    return in_torch


def _inputs(batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pipe = tinydiff.load()
    x = rng.standard_normal((batch, *pipe.latent_shape), np.float32)
    return x, np.full(batch, 500), pipe.encode_prompt([PROMPT] * batch)


def _reference(channels_last: bool) -> Any:
    from tinydiff.bench.torch_reference import carry_over, make_unet

    unet = tinydiff.load().denoiser.unet
    return carry_over(unet, make_unet(unet.config), channels_last).eval()


def _export(batch: int, folder: Path) -> None:
    import torch

    unet = _reference(False)

    class Forward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, x: Any, t: Any, text: Any) -> Any:
            return self.unet(x, t, text, return_dict=False)[0]

    x, t, text = _inputs(batch)
    inputs = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), torch.from_numpy(t), torch.from_numpy(text.copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Forward(), inputs, str(folder / "unet.onnx"), input_names=list(NAMES), opset_version=17, dynamo=False
        )
