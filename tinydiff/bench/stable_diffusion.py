"""Stable Diffusion 1.x at full size, random weights: a step, the decoder, memory, and from a command to an image.

Each library runs in a process of its own, `python -m tinydiff.bench.stable_diffusion LIBRARY FOLDER`, and they take
turns; times and the peak of the resident memory, mapped pages included, come from the same process.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tinydiff.apps.stable_diffusion.byte_pair import CLIPTokenizer
from tinydiff.apps.stable_diffusion.loading import TEXT
from tinydiff.bench.timing import Timing
from tinydiff.models import Autoencoder, AutoencoderConfig, TextEncoder, TextEncoderConfig, UNet, UNetConfig

GROUP, SIDE, WIDTH = "stable-diffusion", 64, 768  # places on a side of the latent, and numbers of a token
STEP, DECODE = "a guided step, 64×64×4, batch 2", "decoding 512×512"
OTHERS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "diffusers": "diffusers"}
ROUNDS, CALLS = 3, 2  # processes of each library at most, and timed calls in each


def stable_diffusion_rows(rounds: int) -> Iterator[Timing]:
    """A row for each library that is installed, and for each thing that is measured."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _rows(rounds, Path(folder))


def _rows(rounds: int, folder: Path) -> Iterator[Timing]:
    weights = folder / "weights"
    write_random_weights(weights)
    present = [name for name in OTHERS if _is_present(name)]
    if {"onnxruntime", "openvino"} & set(present):
        _run("export", folder)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("tinydiff", *present)}
    for _ in range(min(rounds, ROUNDS)):
        for name, own in found.items():
            own.append(_run(name, folder))
    medians = {
        name: {key: float(np.median([one[key] for one in own])) for key in own[0]} for name, own in found.items()
    }
    ours = medians.pop("tinydiff")
    for what, key in ((STEP, "step"), (DECODE, "decode"), ("Stable Diffusion, whole process", "memory")):
        group = "memory" if key == "memory" else GROUP
        rows = [Timing(group, what, ours[key], theirs[key], OTHERS[name]) for name, theirs in medians.items()]
        yield from rows or [Timing(group, what, ours[key])]
    yield Timing(GROUP, "from command to image, 20 steps of DPM-Solver++", _command(weights))


def write_random_weights(
    folder: Path,
    unet: UNetConfig = UNetConfig(),  # noqa: B008 (frozen)
    autoencoder: AutoencoderConfig = AutoencoderConfig(),  # noqa: B008
    text: TextEncoderConfig = TEXT,
) -> None:
    """A folder such as diffusers writes, float16, whose layers keep their input's scale."""
    rng = np.random.default_rng(0)
    parts: dict[str, tuple[Any, Any]] = {
        "vae": (Autoencoder, autoencoder), "text_encoder": (TextEncoder, text), "unet": (UNet, unet)
    }  # fmt: skip
    for name in ("tokenizer", "scheduler", *parts):
        (folder / name).mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer()
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in tokenizer.merges)])
    (folder / "tokenizer" / "merges.txt").write_text(merges + "\n", encoding="utf-8")
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(tokenizer.ids), encoding="utf-8")
    (folder / "scheduler" / "scheduler_config.json").write_text("{}", encoding="utf-8")
    for part, (model, config) in parts.items():
        arrays = {name: _drawn(rng, name, p.shape) for name, p in model(config, None).named_parameters()}
        save_file(arrays, folder / part / "model.safetensors")
        (folder / part / "config.json").write_text(json.dumps(asdict(config)), encoding="utf-8")


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array in PyTorch's layout: (K, C, KH, KW) or (K, C); a norm's scale is 1, a bias 0."""
    if len(shape) == 1:
        return np.full(shape, name.endswith("weight"), np.float16)
    if not name.endswith("embedding.weight"):
        shape = (*shape[-2:][::-1], *shape[:-2])
    scale = 1 / np.sqrt(np.prod(shape[1:]))
    return (rng.standard_normal(shape, np.float32) * np.float32(scale)).astype(np.float16)


def _is_present(name: str) -> bool:
    needed = (name,) if name == "diffusers" else (name, "onnx")
    return all(find_spec(module) is not None for module in ("torch", "diffusers", *needed))


def _run(name: str, folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", __name__, name, str(folder)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _command(weights: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        prompt, out = "a photograph of an astronaut riding a horse", Path(folder) / "image.png"
        options = ["-n", "1", "--steps", "20", "--sampler", "dpm", "--weights", str(weights), "-o", str(out)]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tinydiff", "generate", prompt, *options], check=True, capture_output=True
        )
        return time.perf_counter() - start


def _measure(name: str, folder: Path) -> dict[str, float]:
    """Seconds of a step and of decoding, and bytes at the peak."""
    step, decode = LIBRARIES[name](folder)
    found = {}
    for key, call in (("step", step), ("decode", decode)):
        call()
        times = []
        for _ in range(CALLS):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        found[key] = float(np.median(times))
    return {**found, "memory": float(_peak())}


def _peak() -> int:
    """The most that this process had in memory, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _inputs(layout: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents (2, …) for a step and (1, …) for the decoder, and a text."""
    rng = np.random.default_rng(1)
    shape = (SIDE, SIDE, 4) if layout == "last" else (4, SIDE, SIDE)
    drawn = (rng.standard_normal(shape, np.float32) for shape in ((2, *shape), (1, *shape), (2, 77, WIDTH)))
    x, latents, text = drawn
    return x, latents, text


def _tinydiff(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import tinydiff

    pipe = tinydiff.load(folder / "weights")
    x, latents, text = _inputs("last")
    return lambda: pipe.predict(x, 500, text), lambda: pipe.autoencoder.decode(latents)


def _torch_models() -> tuple[Any, Any]:
    """diffusers' U-Net and autoencoder, of random weights."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import diffusers
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(_threads())
    unet = diffusers.UNet2DConditionModel(cross_attention_dim=WIDTH, sample_size=SIDE)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=8 * SIDE,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    return unet.eval().requires_grad_(False), vae.eval().requires_grad_(False)


def _diffusers(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import torch

    models = [model.to(memory_format=torch.channels_last) for model in _torch_models()]
    x, latents, text = (torch.tensor(a) for a in _inputs("first"))
    return lambda: models[0](x, 500, text).sample, lambda: models[1].decode(latents).sample


def _export(folder: Path) -> dict[str, float]:
    """Both models as ONNX files, for the two that run those."""
    import warnings

    import torch

    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    unet, vae = _torch_models()
    x, latents, text = (torch.tensor(a) for a in _inputs("first"))

    class Step(torch.nn.Module):
        def forward(self, x: Any, t: Any, text: Any) -> Any:
            return unet(x, t, text, return_dict=False)[0]

    class Decoder(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return vae.decode(x, return_dict=False)[0]

    step, decoder = Step(), Decoder()
    step.unet, decoder.vae = unet, vae  # whose parameters belong to them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"opset_version": 17, "dynamo": False}
        inputs = x, torch.tensor([500, 500]), text
        names = {"input_names": ["x", "t", "text"]}
        torch.onnx.export(step, inputs, str(folder / "onnx" / "unet.onnx"), **names, **options)
        torch.onnx.export(decoder, (latents,), str(folder / "onnx" / "decoder.onnx"), input_names=["x"], **options)
    return {}


def _onnxruntime(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    step, decoder = (
        onnxruntime.InferenceSession(str(folder / "onnx" / name), options, providers=["CPUExecutionProvider"])
        for name in ("unet.onnx", "decoder.onnx")
    )
    x, latents, text = _inputs("first")
    given = {"x": x, "t": np.array([500, 500]), "text": text}
    return lambda: step.run(None, given), lambda: decoder.run(None, {"x": latents})


def _openvino(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import openvino

    core, config = openvino.Core(), {"INFERENCE_NUM_THREADS": _threads(), "INFERENCE_PRECISION_HINT": "f32"}
    step, decoder = (
        core.compile_model(core.read_model(folder / "onnx" / name), "CPU", config)
        for name in ("unet.onnx", "decoder.onnx")
    )
    x, latents, text = _inputs("first")
    return lambda: step([x, np.array([500, 500]), text]), lambda: decoder([latents])


def _threads() -> int:
    return int(os.environ.get("NUMBA_NUM_THREADS") or os.cpu_count() or 1)


LIBRARIES: dict[str, Callable[[Path], tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "tinydiff": _tinydiff,
    "diffusers": _diffusers,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


if __name__ == "__main__":
    library, where = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(_export(where) if library == "export" else _measure(library, where)))
