"""Weight files: each trained part is one safetensors file, float16, with its configuration in the header."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tinydiff import checkpoint, files
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.classifier import Classifier, ClassifierConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNetConfig
from tinydiff.nn.module import Module

Model = TypeVar("Model", bound=Module)


def shipped_weights() -> Path:
    """The folder of the weights that come with tinydiff."""
    return files.shipped("weights")


def save_weights(folder: Path, name: str, arrays: dict[str, np.ndarray], config: dict[str, Any]) -> Path:
    """Write one part's arrays as float16."""
    path = folder / f"{name}.safetensors"
    checkpoint.save(path, {key: a.astype(np.float16) for key, a in arrays.items()}, {"part": name, **config})
    return path


def load_model(folder: Path, part: str, model: Callable[..., Model], config_class: type) -> Model:
    """A part that is one model; as all loaders do, InputError where its file is missing, damaged or does not fit."""
    arrays, config, path = _read(folder, part)
    return _filled(model(_configuration(config_class, config, "model", path), rng=None), arrays, path)


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
    return arrays["vectors"].astype(np.float32), _entry(config, "words", path)


def load_denoiser_network(folder: Path) -> tuple[Denoiser, dict[str, Any]]:
    """The model, and its configuration: scheduler, latent shape, words."""
    arrays, config, path = _read(folder, "denoiser")
    for key in ("scheduler", "latent_shape", "words"):
        _entry(config, key, path)
    unet = _configuration(UNetConfig, config, "unet", path)
    text = _configuration(TextEncoderConfig, config, "text_encoder", path)
    return _filled(Denoiser(unet, text, rng=None), arrays, path), config


def _read(folder: Path, part: str) -> tuple[dict[str, np.ndarray], dict[str, Any], Path]:
    path = Path(folder) / f"{part}.safetensors"
    arrays, config = checkpoint.load(path)
    if config.get("part") != part:
        raise InputError(f"{path}: holds the part {config.get('part')!r}, expected {part!r}")
    return arrays, config, path


def _entry(config: dict[str, Any], key: str, path: Path) -> Any:
    if key not in config:
        raise InputError(f"{path}: its configuration has no {key!r}; was it written by another version?")
    return config[key]


def _configuration(dataclass: Any, config: dict[str, Any], key: str, path: Path) -> Any:
    """A configuration dataclass from its JSON form."""
    found = _entry(config, key, path)
    try:
        return dataclass(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})
    except (TypeError, AttributeError):
        raise InputError(f"{path}: its {key!r} configuration does not fit {dataclass.__name__}: {found}") from None


def _filled(model: Model, arrays: dict[str, np.ndarray], path: Path) -> Model:
    checkpoint.check_arrays(arrays, {name: p.shape for name, p in model.named_parameters()}, path)
    model.load_state_dict({name: a.astype(np.float32) for name, a in arrays.items()})
    return model
