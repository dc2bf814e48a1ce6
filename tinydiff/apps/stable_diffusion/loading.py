"""Stable Diffusion 1.x from a disk: diffusers' folder, a single safetensors file, or a checkpoint of PyTorch.

Nothing is allocated before it is known that everything fits; then the arrays are read from the file's own pages, one
after the other, and turned to our layout; float16 stays float16 until a layer runs.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinydiff.apps.stable_diffusion.byte_pair import CLIPTokenizer, read_tokenizer
from tinydiff.apps.stable_diffusion.configs import (
    autoencoder_config,
    noise_schedule,
    read_json,
    text_config,
    unet_config,
)
from tinydiff.apps.stable_diffusion.kept import keep_as_stored
from tinydiff.apps.stable_diffusion.kinds import check_kind, part_alone
from tinydiff.apps.stable_diffusion.names import from_compvis, from_diffusers
from tinydiff.apps.stable_diffusion.stored import Stored
from tinydiff.apps.stable_diffusion.torch_rng import TorchRng
from tinydiff.apps.stable_diffusion.weight_files import stored_arrays
from tinydiff.autograd import Array, read_only
from tinydiff.diffusion.schedule import Schedule
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.nn.module import Module
from tinydiff.pipelines.text_to_image import Settings, TextToImage

PARTS = {"unet": "the U-Net", "vae": "the autoencoder", "text_encoder": "the text encoder"}
TEXT = TextEncoderConfig(49408, 77, 768, 12, 12, hidden_act="quick_gelu", causal=True)
LARGEST_SIDE = 1024
SETTINGS = Settings(50, 7.5, (0, 1), "plms", rng="torch", sample_posterior=True, batch=1, keep_transforms=False)


@dataclass(frozen=True)
class Parts:
    """What a file or folder holds: each part's configuration, and its arrays by our names."""

    unet: UNetConfig
    autoencoder: AutoencoderConfig
    text: TextEncoderConfig
    schedule: Schedule
    prediction_type: str
    side: int  # of the latent
    arrays: dict[str, dict[str, Stored]]
    tokenizer: CLIPTokenizer


def load_stable_diffusion(path: str | Path) -> TextToImage:
    """The pipeline of Stable Diffusion 1.x's weights: what `tinydiff.load` gives for them.

    Raises InputError, in one line and before anything is allocated, for what is missing, damaged, or another model.
    """
    path = Path(path)
    parts = _read_folder(path) if path.is_dir() else _read_file(path)
    denoiser = Denoiser(parts.unet, parts.text, rng=None)
    autoencoder = Autoencoder(parts.autoencoder, rng=None)
    models = {"unet": denoiser.unet, "vae": autoencoder, "text_encoder": denoiser.text_encoder}
    for part, model in models.items():
        _check(path, part, model, parts.arrays[part])
    for part, model in models.items():
        keep_as_stored(model)
        model.load_state_dict(Converted(path, model, parts.arrays[part]))  # type: ignore[arg-type]
    latent_shape = parts.side, parts.side, parts.autoencoder.latent_channels
    schedule, prediction_type = parts.schedule, parts.prediction_type
    pipe = TextToImage(autoencoder, denoiser, parts.tokenizer, schedule, prediction_type, latent_shape, SETTINGS)
    pipe.generators["torch"] = TorchRng
    return pipe


class Converted(Mapping[str, Array]):
    """A part's arrays by our names, each read and turned when it is asked for; float16 as it is, others as float32."""

    def __init__(self, path: Path, model: Module, stored: dict[str, Stored]) -> None:
        self.path, self.stored = path, stored
        self.shapes = {name: p.shape for name, p in model.named_parameters()}

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __getitem__(self, name: str) -> Array:
        found = self.stored[name].read()
        dtype = np.float16 if found.dtype == np.float16 and found.ndim > 1 else np.float32
        # A copy, and never a view of the file, which somebody may replace.
        array = np.array(turned(name, found, self.shapes[name]), dtype, order="C")
        if not np.isfinite(array).all():
            raise InputError(f"{self.path}: {name} holds values that are not finite")
        return read_only(array)


def turned(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """An array of PyTorch's layout in ours, a view: (K, C, KH, KW) → (KH, KW, C, K), (K, C) → (C, K).

    A 1×1 convolution and a linear layer are the same, and files have either.  Word vectors stay as they are.
    """
    if name.endswith("embedding.weight") or array.ndim == 1:
        return array
    if array.ndim == 4 and len(shape) == 2:
        array = array.reshape(array.shape[:2])
    if array.ndim == 2 and len(shape) == 4:
        array = array[:, :, None, None]
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _check(path: Path, part: str, model: Module, stored: dict[str, Stored]) -> None:
    """Every parameter has an array of its shape and of a floating type."""
    for name, parameter in model.named_parameters():
        if name not in stored:
            raise InputError(f"{path}: {PARTS[part]} has no array {name}; no Stable Diffusion 1.x, or a part of one")
        found, expected = stored[name], parameter.shape
        if found.dtype not in ("float16", "bfloat16", "float32", "float64"):
            raise InputError(f"{path}: {name} is {found.dtype}, expected floating-point numbers")
        try:
            shape = turned(name, np.broadcast_to(np.float32(0), found.shape), expected).shape
        except ValueError:
            shape = found.shape
        if shape != expected:
            raise InputError(f"{path}: {name} of {PARTS[part]} is {found.shape}, which does not fit {expected}")


def _read_file(path: Path) -> Parts:
    stored = stored_arrays(path)
    check_kind(path, stored)
    arrays: dict[str, dict[str, Stored]] = {part: {} for part in PARTS}
    for part, own, name in from_compvis(stored):
        arrays[part][own] = stored[name]
    if missing := [what for part, what in PARTS.items() if not arrays[part]]:
        raise InputError(f"{path}: {part_alone(stored)}; {' and '.join(missing)} of Stable Diffusion 1.x missing")
    return Parts(UNetConfig(), AutoencoderConfig(), TEXT, *noise_schedule(path, {}), 64, arrays, CLIPTokenizer())


def _read_folder(path: Path) -> Parts:
    arrays: dict[str, dict[str, Stored]] = {}
    for part, what in PARTS.items():
        if not (path / part).is_dir():
            raise InputError(f"{path}: {what} is missing, the folder {part}")
        stored = _arrays_of(path / part)
        check_kind(path / part, stored)
        arrays[part] = {own: stored[name] for own, name in from_diffusers(part, stored)}
    if not (path / "tokenizer").is_dir():
        raise InputError(f"{path}: the tokenizer is missing, the folder tokenizer")
    unet = unet_config(path / "unet" / "config.json")
    autoencoder = autoencoder_config(path / "vae" / "config.json")
    text = text_config(path / "text_encoder" / "config.json")
    scheduler = path / "scheduler" / "scheduler_config.json"
    return Parts(
        unet,
        autoencoder,
        text,
        *noise_schedule(scheduler, read_json(scheduler)),
        _sample_size(path / "unet" / "config.json", unet),
        arrays,
        read_tokenizer(path / "tokenizer", text.max_position_embeddings),
    )


def _sample_size(path: Path, config: UNetConfig) -> int:
    """Positions on a side of the latent that the U-Net was trained with."""
    side, stride = read_json(path).get("sample_size") or 64, 2 ** (len(config.block_out_channels) - 1)
    if type(side) is not int or not 0 < side <= LARGEST_SIDE or side % stride:
        raise InputError(f"{path}: sample_size is {side!r}, expected a multiple of {stride} up to {LARGEST_SIDE}")
    return side


def _arrays_of(folder: Path) -> dict[str, Stored]:
    """A part's arrays: safetensors before pickles, whole precision before half, one file or the parts of an index."""
    for pattern in ("*model.safetensors", "*.safetensors", "*model.bin", "*.bin"):
        found = sorted(path for path in folder.glob(pattern) if not re.search(r"-\d+-of-\d+|non_ema", path.name))
        index = sorted(folder.glob(f"{pattern}.index.json"))
        if found:
            return stored_arrays(found[0])
        if index:
            return _sharded(index[0])
    raise InputError(f"{folder}: no weights; expected *.safetensors or *.bin")


def _sharded(index: Path) -> dict[str, Stored]:
    """The arrays of several files, whose names stand in an index beside them."""
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise InputError(f"{index}: has no weight_map, which says where each array lies")
    arrays: dict[str, Stored] = {}
    for name in sorted(set(where.values())):
        if Path(name).name != name:
            raise InputError(f"{index}: points to {name!r}, out of its folder")
        arrays.update(stored_arrays(index.parent / name))
    return arrays
