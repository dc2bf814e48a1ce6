"""Weight files: each trained part is one safetensors file, float16, with its configuration in the header."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import numpy as np

from tinydiff import checkpoint, files
from tinydiff.autograd import read_only
from tinydiff.diffusion.prediction import check_prediction_type
from tinydiff.diffusion.schedule import make_schedule
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.classifier import Classifier, ClassifierConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.nn.module import Module

Model = TypeVar("Model", bound=Module)
Arrays = dict[str, np.ndarray]
LEVELS, LARGEST = 16, 1024  # of a network, and positions on a side of a latent, at most


def shipped_weights() -> Path:
    """The folder of the weights that come with tinydiff."""
    return files.shipped("weights")


def save_weights(folder: Path, name: str, arrays: Arrays, config: dict[str, Any]) -> Path:
    """Write one part's arrays as float16."""
    path = folder / f"{name}.safetensors"
    checkpoint.save(path, {key: a.astype(np.float16) for key, a in arrays.items()}, {"part": name, **config})
    return path


def load_model(folder: Path, part: str, model: Callable[..., Model], config_class: type) -> Model:
    """A part that is one model; as all loaders do, InputError where its file is missing, damaged or does not fit."""
    arrays, config, path = _read(folder, part)
    found = _configuration(config_class, config, "model", path, arrays)
    return _filled(lambda: model(found, rng=None), arrays, path)


def fingerprint(model: Module) -> str:
    """What tells a model's weights from others: a digest of their values, whatever type a file has them in."""
    digest = hashlib.sha256()
    for name, array in sorted(model.state_dict().items()):
        digest.update(f"{name}{array.shape}".encode() + array.astype(np.float32).tobytes())
    return digest.hexdigest()[:16]


def load_autoencoder(folder: Path) -> Autoencoder:
    return load_model(folder, "autoencoder", Autoencoder, AutoencoderConfig)


def load_classifier(folder: Path) -> Classifier:
    return load_model(folder, "classifier", Classifier, ClassifierConfig)


def load_words(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Word vectors (V, D) and the words that they stand for."""
    arrays, config, path = _read(folder, "words")
    if set(arrays) != {"vectors"}:
        raise InputError(f"{path}: expected one array, vectors; found {', '.join(arrays) or 'none'}")
    return arrays["vectors"].astype(np.float32), _words(config, path)


def load_denoiser_network(folder: Path) -> tuple[Denoiser, dict[str, Any]]:
    """The model, and its configuration: scheduler, latent shape, words."""
    arrays, config, path = _read(folder, "denoiser")
    _words(config, path)
    shape, scheduler = _entry(config, "latent_shape", path), _entry(config, "scheduler", path)
    if not isinstance(shape, list) or len(shape) != 3 or not all(_fits(side, int, LARGEST) for side in shape):
        raise InputError(f"{path}: its latent_shape is {shape!r}, expected three numbers from 1 to {LARGEST}")
    try:
        make_schedule(scheduler["beta_schedule"], scheduler["num_train_timesteps"])
        check_prediction_type(scheduler["prediction_type"])
    except (TypeError, KeyError, InputError) as error:
        raise InputError(f"{path}: its scheduler {scheduler!r} cannot be used ({error})") from None
    unet = _configuration(UNetConfig, config, "unet", path, arrays)
    text = _configuration(TextEncoderConfig, config, "text_encoder", path, arrays)
    return _filled(lambda: Denoiser(unet, text, rng=None), arrays, path), config


def _read(folder: Path, part: str) -> tuple[Arrays, dict[str, Any], Path]:
    path = Path(folder) / f"{part}.safetensors"
    arrays, config = checkpoint.load(path)
    if config.get("part") != part:
        raise InputError(f"{path}: holds the part {config.get('part')!r}, expected {part!r}")
    for name, array in arrays.items():
        if array.dtype not in (np.float16, np.float32):
            raise InputError(f"{path}: array {name} is {array.dtype}, expected float16, bfloat16 or float32")
    return arrays, config, path


def _words(config: dict[str, Any], path: Path) -> list[str]:
    words = _entry(config, "words", path)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{path}: its words must be a list of strings")
    return words


def _entry(config: dict[str, Any], key: str, path: Path) -> Any:
    if key not in config:
        raise InputError(f"{path}: its configuration has no {key!r}; was it written by another version?")
    return config[key]


def _configuration(dataclass: Any, config: dict[str, Any], key: str, path: Path, arrays: Arrays) -> Any:
    """A configuration dataclass from its JSON form, each field of its type, and no number beyond the file's arrays."""
    found = _entry(config, key, path)
    try:
        made = dataclass(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})
    except (TypeError, AttributeError):
        raise InputError(f"{path}: its {key!r} configuration does not fit {dataclass.__name__}: {found}") from None
    sides = [side for array in arrays.values() for side in array.shape]
    for field in fields(dataclass):
        value, most = getattr(made, field.name), len(arrays) if "layers" in field.name else max(sides, default=0)
        if not _fits(value, field.type, most):
            expected = f"1 to {most}" if field.type is int else getattr(field.type, "__name__", field.type)
            raise InputError(f"{path}: {field.name} of its {key!r} configuration is {value!r}, expected {expected}")
    return made


def _fits(value: Any, kind: Any, most: int) -> bool:
    """Whether a value is of that type; whole numbers are 1 … most, others finite and not negative."""
    if get_origin(kind) is tuple:
        one_of_them = get_args(kind)[0]
        return isinstance(value, tuple) and 0 < len(value) <= LEVELS and all(_fits(v, one_of_them, most) for v in value)
    if kind is int:
        return type(value) is int and 0 < value <= most
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value) and value >= 0
    return type(value) is kind


def _filled(make: Callable[[], Model], arrays: Arrays, path: Path) -> Model:
    """The model with a file's arrays; what its configuration lacks is said with the file's name."""
    try:
        model = make()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    checkpoint.check_arrays(arrays, {name: p.shape for name, p in model.named_parameters()}, path)
    model.load_state_dict({name: read_only(a.astype(np.float32)) for name, a in arrays.items()})
    return model
