"""Arrays in a file, found without reading them: safetensors, and PyTorch's zipped pickles without PyTorch.

A pickle is a program.  This one may make tensors, dictionaries, lists, numbers and strings, and nothing else; what a
training framework left beside them becomes an empty stand-in.
"""

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tinydiff.errors import InputError

BFLOAT16 = "bfloat16"  # which NumPy has not
SAFETENSORS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": BFLOAT16, "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
LARGEST_HEADER = 100_000_000  # bytes, as in safetensors' own reader
FRAMEWORKS = ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf")  # whose objects become stand-ins


@dataclass(frozen=True)
class Stored:
    """An array where it lies: `read()` maps it into memory."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int  # of its first byte
    strides: tuple[int, ...] | None = None  # in numbers; None: one after the other

    def read(self) -> np.ndarray:
        """The array, read-only, from the file's own pages; bfloat16 becomes float32."""
        strides = _strides(self.shape) if self.strides is None else self.strides
        count = 1 + sum((side - 1) * step for side, step in zip(self.shape, strides, strict=True))
        if 0 in self.shape:
            return np.zeros(self.shape, np.float32)
        stored = np.uint16 if self.dtype == BFLOAT16 else np.dtype(self.dtype)
        flat: np.ndarray = np.memmap(self.path, stored, "r", self.offset, (count,))
        if self.dtype == BFLOAT16:  # the upper half of a float32
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        steps = tuple(step * flat.itemsize for step in strides)
        return np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False)


def stored_arrays(path: Path) -> dict[str, Stored]:
    """The arrays of a file by name.  Raises InputError, in one line, for what is no such file, or is damaged."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    text = start.lstrip().lower()
    if not start:
        raise InputError(f"{path}: an empty file; was the download cut off?")
    if text.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a git-lfs pointer, not the weights; run `git lfs pull` where it came from")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise InputError(f"{path}: a web page, not weights; download the file itself")
    if start.startswith(b"PK"):
        return _from_zip(path)
    if start[:1] == b"\x80" or start[257:262] == b"ustar":
        raise InputError(f"{path}: written by PyTorch before 1.6; load and save it there once")
    return _from_safetensors(path)


def _from_safetensors(path: Path) -> dict[str, Stored]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise InputError(f"{path}: neither safetensors nor a checkpoint of PyTorch, or cut off")
        raw = file.read(length)
    found = {}
    try:
        for name, entry in json.loads(raw).items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                stored = Stored(path, SAFETENSORS[entry["dtype"]], tuple(entry["shape"]), 8 + length + first)
                if last - first != _bytes(stored) or first < 0 or 8 + length + last > size:
                    raise InputError(f"{path}: cut off or damaged; its array {name!r} does not lie within the file")
                found[name] = stored
    except InputError:
        raise
    except Exception as error:  # whatever a damaged header makes of the lines above
        raise InputError(f"{path}: a damaged safetensors header ({error or type(error).__name__})") from None
    return found


def _from_zip(path: Path) -> dict[str, Stored]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            program = next((name for name in members if name.endswith("data.pkl")), None)
            if program is None or members[program].file_size > LARGEST_HEADER:
                raise InputError(f"{path}: a zip file, but no checkpoint of PyTorch")
            with archive.open(program) as file:
                found = _TensorsOnly(file, path, program.removesuffix("data.pkl"), members).load()
    except InputError:
        raise
    except Exception as error:  # pickle and zipfile raise nearly anything for what is damaged
        raise InputError(f"{path}: cut off or damaged ({error or type(error).__name__})") from None
    while isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}, expected arrays by name")
    return {str(name): value for name, value in found.items() if isinstance(value, Stored)}


@dataclass(frozen=True)
class _Storage:
    dtype: str
    offset: int  # of its first byte in the file
    count: int


class _Nothing:
    """Stands in for an object of a training framework."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class _TensorsOnly(pickle.Unpickler):
    def __init__(self, file: Any, path: Path, prefix: str, members: dict[str, zipfile.ZipInfo]) -> None:
        super().__init__(file, encoding="utf-8")
        self.path, self.prefix, self.members = path, prefix, members

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        allowed: dict[tuple[str, str], Callable] = {
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch", "Size"): tuple,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if module.split(".")[0] in FRAMEWORKS:
            return _Nothing
        raise InputError(f"{self.path}: not opened, since it asks for {module}.{name}, which is more than tensors")

    def persistent_load(self, which: Any) -> _Storage:
        kind, dtype, key, _, count = which
        info = self.members.get(f"{self.prefix}data/{key}")
        if kind != "storage" or info is None or dtype not in STORAGES.values():
            raise InputError(f"{self.path}: cut off or damaged; its storage {key!r} is missing")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != count * _itemsize(dtype):
            raise InputError(f"{self.path}: damaged; its storage {key!r} is compressed or of another size")
        with open(self.path, "rb") as file:  # the entry's own header, whose extra field aligns the data
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
        start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        if start + info.file_size > self.path.stat().st_size:
            raise InputError(f"{self.path}: cut off or damaged; its storage {key!r} does not lie within the file")
        return _Storage(dtype, start, count)

    def _tensor(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Stored:
        last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
        whole = all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
        if not whole or (0 not in shape and last >= storage.count):
            raise InputError(f"{self.path}: damaged; a tensor {shape} does not lie within its storage")
        first = storage.offset + offset * _itemsize(storage.dtype)
        return Stored(self.path, storage.dtype, tuple(shape), first, tuple(strides))


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def _itemsize(dtype: str) -> int:
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def _bytes(stored: Stored) -> int:
    if not all(type(side) is int and side >= 0 for side in stored.shape):
        raise ValueError(f"shape {stored.shape}")
    return prod(stored.shape) * _itemsize(stored.dtype)
