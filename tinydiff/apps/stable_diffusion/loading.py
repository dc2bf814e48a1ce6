"""Stable Diffusion 1.x from a disk: diffusers' folder, a single safetensors file, or a checkpoint of PyTorch.

Nothing is allocated before it is known that everything fits; then the arrays are read from the file's own pages, one
after the other, turned to our layout and to float32.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinydiff.apps.stable_diffusion.names import from_compvis, from_diffusers
from tinydiff.apps.stable_diffusion.stored import Stored
from tinydiff.apps.stable_diffusion.torch_rng import TorchRng
from tinydiff.apps.stable_diffusion.weight_files import stored_arrays
from tinydiff.autograd import Array, read_only
from tinydiff.datasets.byte_pair import CLIPTokenizer, read_tokenizer
from tinydiff.diffusion.schedule import Schedule, make_schedule, zero_terminal_snr
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.nn.module import Module
from tinydiff.pipelines.text_to_image import Settings, TextToImage

PARTS = {"unet": "the U-Net", "vae": "the autoencoder", "text_encoder": "the text encoder"}
TEXT = TextEncoderConfig(49408, 77, 768, 12, 12, hidden_act="quick_gelu", causal=True)
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "timestep_spacing": "leading",
}
BETAS = {"scaled_linear": (0.00085, 0.012), "linear": (1e-4, 0.02)}
SETTINGS = Settings(50, 7.5, (0, 1), "plms", rng="torch", sample_posterior=True, batch=1, keep_transforms=False)
# What a file is if it has an array whose name holds this: the first that fits.
OTHERS = {
    "lora": "a LoRA, which is an addition to a model",
    "control_model.": "a ControlNet",
    "controlnet": "a ControlNet",
    "string_to_param": "a textual inversion",
    "emb_params": "a textual inversion",
    "conditioner.": "Stable Diffusion XL",
    "add_embedding": "Stable Diffusion XL",
    "label_emb": "Stable Diffusion XL",
    "cond_stage_model.model.": "Stable Diffusion 2",
    "joint_blocks": "Stable Diffusion 3",
    "double_blocks": "Flux",
}
CHANNELS = {9: "an inpainting model", 8: "a model that follows instructions (InstructPix2Pix)"}


@dataclass(frozen=True)
class Parts:
    """What a file or folder holds: each part's configuration, and its arrays by our names."""

    unet: UNetConfig
    autoencoder: AutoencoderConfig
    text: TextEncoderConfig
    scheduler: dict[str, Any]
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
        model.load_state_dict(Converted(path, model, parts.arrays[part]))  # type: ignore[arg-type]
    side = 64 if path.is_file() else int(_json(path / "unet" / "config.json").get("sample_size", 64))
    schedule, prediction_type = _schedule(parts.scheduler, path)
    latent_shape = side, side, parts.autoencoder.latent_channels
    pipe = TextToImage(autoencoder, denoiser, parts.tokenizer, schedule, prediction_type, latent_shape, SETTINGS)
    pipe.generators["torch"] = TorchRng
    return pipe


class Converted(Mapping[str, Array]):
    """A part's arrays by our names, each read, turned and made float32 when it is asked for."""

    def __init__(self, path: Path, model: Module, stored: dict[str, Stored]) -> None:
        self.path, self.stored = path, stored
        self.shapes = {name: p.shape for name, p in model.named_parameters()}

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __getitem__(self, name: str) -> Array:
        array = np.ascontiguousarray(turned(name, self.stored[name].read(), self.shapes[name]), np.float32)
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


def _identify(path: Path, arrays: Mapping[str, Stored]) -> None:
    """Raises InputError where arrays are known to be something else, and says what."""
    for word, what in OTHERS.items():
        if any(word in name for name in arrays):
            raise InputError(f"{path}: {what}; expected Stable Diffusion 1.x")
    for name, array in arrays.items():
        if name.endswith(("input_blocks.0.0.weight", "conv_in.weight")) and len(array.shape) == 4:
            if array.shape[1] in CHANNELS:
                raise InputError(f"{path}: {CHANNELS[array.shape[1]]}; expected Stable Diffusion 1.x")
        if name.endswith("attn2.to_k.weight") and array.shape[-1] in (1024, 2048):
            version = "2" if array.shape[-1] == 1024 else "XL"
            raise InputError(f"{path}: Stable Diffusion {version}; expected Stable Diffusion 1.x")


def _read_file(path: Path) -> Parts:
    stored = stored_arrays(path)
    _identify(path, stored)
    arrays: dict[str, dict[str, Stored]] = {part: {} for part in PARTS}
    for part, own, name in from_compvis(stored):
        arrays[part][own] = stored[name]
    if missing := [what for part, what in PARTS.items() if not arrays[part]]:
        alone = "an autoencoder alone" if any(name.startswith("decoder.") for name in stored) else "no whole model"
        raise InputError(f"{path}: {alone}; {' and '.join(missing)} of Stable Diffusion 1.x missing")
    return Parts(UNetConfig(), AutoencoderConfig(), TEXT, SCHEDULER, arrays, CLIPTokenizer())


def _read_folder(path: Path) -> Parts:
    arrays = {}
    for part, what in PARTS.items():
        if not (path / part).is_dir():
            raise InputError(f"{path}: {what} is missing, the folder {part}")
        stored = stored_arrays(_weights(path / part))
        _identify(path / part, stored)
        arrays[part] = {own: stored[name] for own, name in from_diffusers(part, stored)}
    unet, vae, text = (_json(path / part / "config.json") for part in PARTS)
    if unet.get("in_channels", 4) in CHANNELS:
        raise InputError(f"{path}: {CHANNELS[unet['in_channels']]}; expected Stable Diffusion 1.x")
    if "attention_head_dim" in unet:
        unet = {**unet, "num_attention_heads": unet["attention_head_dim"]}
    vae = {"scaling_factor": 0.18215, **vae}
    scheduler = {**SCHEDULER, **_json(path / "scheduler" / "scheduler_config.json")}
    if not (path / "tokenizer").is_dir():
        raise InputError(f"{path}: the tokenizer is missing, the folder tokenizer")
    text_config = _configured(TextEncoderConfig, {**text, "causal": True}, path / "text_encoder")
    if text.get("intermediate_size", 4 * text_config.hidden_size) != 4 * text_config.hidden_size:
        raise InputError(f"{path}: the text encoder's intermediate_size must be four times its hidden_size")
    return Parts(
        _configured(UNetConfig, unet, path / "unet"),
        _configured(AutoencoderConfig, vae, path / "vae"),
        text_config,
        scheduler,
        arrays,
        read_tokenizer(path / "tokenizer", text_config.max_position_embeddings),
    )


def _weights(folder: Path) -> Path:
    """A part's file: safetensors before pickles, whole precision before half."""
    for pattern in ("*model.safetensors", "*.safetensors", "*model.bin", "*.bin"):
        if found := sorted(folder.glob(pattern)):
            return found[0]
    raise InputError(f"{folder}: no weights; expected *.safetensors or *.bin")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}, expected settings by name")
    return found


def _configured(config: Callable[..., Any], found: dict[str, Any], path: Path) -> Any:
    """One of our configurations from the fields that it shares with a config.json."""
    chosen = {f.name: found[f.name] for f in fields(config) if f.name in found}  # type: ignore[arg-type]
    for name, value in chosen.items():
        whole = name.startswith(("num_", "in_", "out_", "layers_", "norm_", "hidden_size", "vocab", "max_", "cross"))
        if whole and not (type(value) is int and 0 < value <= 10**6):
            raise InputError(f"{path}: {name} is {value!r}, expected a whole number")
    try:
        return config(**{k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()})
    except TypeError as error:
        raise InputError(f"{path}: its config.json does not fit ({error})") from None


def _schedule(settings: dict[str, Any], path: Path) -> tuple[Schedule, str]:
    """The noise schedule, and what the U-Net predicts."""
    name, betas = settings["beta_schedule"], (settings.get("beta_start"), settings.get("beta_end"))
    if name in BETAS and betas not in (BETAS[name], (None, None)):
        raise InputError(f"{path}: β from {betas[0]} to {betas[1]}, expected {BETAS[name]} for {name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not end in noise alone: the weights are trained for it
        schedule = make_schedule(name, settings["num_train_timesteps"])
        schedule = zero_terminal_snr(schedule) if settings.get("rescale_betas_zero_snr") else schedule
        keys = ("timestep_spacing", "steps_offset", "set_alpha_to_one")
        return replace(schedule, **{key: settings[key] for key in keys}), settings["prediction_type"]
