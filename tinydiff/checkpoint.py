"""A checkpoint is one safetensors file with its configuration in the header: no pickle, so opening one runs no code.

It is written beside the old one and renamed over it (`files.written_whole`), with its content on the disk first.
"""

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from tinydiff.device import to_numpy
from tinydiff.errors import InputError
from tinydiff.files import written_whole

FORMAT, VERSION = "tinydiff", "2"


def save(path: str | Path, arrays: dict[str, np.ndarray], config: dict, *, require_finite: bool = True) -> None:
    """Write `arrays` and `config` (whatever JSON can hold; tuples come back as lists) to the file `path`.

    One process at a time may save to a path.  Raises InputError, and leaves the old file as it was, if `config` is not
    JSON, if an array is not finite (unless `require_finite` is False), or if the file can't be written.
    """
    path, arrays = Path(path), {name: to_numpy(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        bad = np.size(array) - np.count_nonzero(np.isfinite(array)) if require_finite else 0
        if bad:
            raise InputError(f"{path}: not saved, {bad} of the {np.size(array)} values of {name} are not finite")
    try:
        # One entry, since safetensors shuffles several: equal contents give equal bytes.
        header = {FORMAT: json.dumps({"version": VERSION, "config": config}, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: not saved, the configuration must be JSON: {error}") from error
    # safetensors takes the memory as it lies, so a transposed array would come back with its values in another order.
    content = to_bytes({name: np.asarray(array, order="C") for name, array in arrays.items()}, header)
    with written_whole(path) as beside, open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # the content must be on the disk before its name is
    # The folder too, for the new name; where folders can't be synced the file is whole all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def load(path: str | Path, version: str = VERSION) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the configuration that `save` wrote to `path`.

    Raises InputError if the file is missing, truncated, not a safetensors file, not tinydiff's, or another version's.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise InputError(f"{path}: no such checkpoint; `tinydiff train` makes one")
        if not path.is_file():
            raise InputError(f"{path}: not a file, expected a checkpoint")
        with safe_open(path, framework="numpy") as file:
            config = _config(path, file.metadata() or {}, version)
            bfloat16 = {name for name in file.keys() if file.get_slice(name).get_dtype() == "BF16"}
            return {
                name: _bfloat16(path, name) if name in bfloat16 else file.get_tensor(name) for name in file.keys()
            }, config
    except OSError as error:
        raise InputError(f"{path}: cannot be read, {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: truncated, or not a safetensors file ({error})") from error


def _bfloat16(path: Path, name: str) -> np.ndarray:
    """One array as float32, whose upper half its bits are; read here, since NumPy has no such type."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        file.seek(entry["data_offsets"][0], os.SEEK_CUR)
        upper = np.fromfile(file, "<u2", math.prod(entry["shape"]))
    return (upper.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def check_arrays(arrays: dict[str, np.ndarray], expected: dict[str, tuple[int, ...]], path: str | Path) -> None:
    """Raise InputError unless `arrays`, loaded from `path`, are exactly those in `expected` (name → shape)."""
    for name, shape in expected.items():
        if name not in arrays:
            raise InputError(f"{path}: array {name} is missing, expected with shape {tuple(shape)}")
        if arrays[name].shape != tuple(shape):
            raise InputError(f"{path}: array {name} has shape {arrays[name].shape}, expected {tuple(shape)}")
    for name, array in arrays.items():
        if name not in expected:
            raise InputError(f"{path}: array {name} with shape {array.shape} is unexpected, the model has none such")


def _config(path: Path, header: dict[str, str], expected: str) -> dict[str, Any]:
    if FORMAT not in header:
        raise InputError(f"{path}: a safetensors file, but not one that tinydiff wrote (its header doesn't say so)")
    try:
        entry = json.loads(header[FORMAT])
        version, config = entry["version"], entry["config"]
        if not isinstance(config, dict):
            raise TypeError("no dictionary")
    except (TypeError, KeyError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: the configuration in its header is missing or damaged") from error
    if version == "1" and expected != "1":
        raise InputError(f"{path}: written by tinydiff 0.1; `tinydiff convert {path.parent}` makes it readable")
    if version != expected:
        raise InputError(f"{path}: a checkpoint of version {version}, expected {expected}")
    return config
