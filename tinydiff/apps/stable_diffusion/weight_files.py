"""The arrays of a weight file, found without reading them, or what the file is instead."""

import json
from math import prod
from pathlib import Path

from tinydiff.apps.stable_diffusion.stored import BFLOAT16, Stored, itemsize
from tinydiff.apps.stable_diffusion.torch_file import arrays_in_zip
from tinydiff.errors import InputError

SAFETENSORS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": BFLOAT16, "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
LARGEST_HEADER = 100_000_000  # bytes, as in safetensors' own reader
MAGIC_BEFORE_1_6 = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # how torch.save began its files


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
    if start.startswith(b"PK\3\4"):
        return arrays_in_zip(path)
    if start.startswith(MAGIC_BEFORE_1_6) or (start[257:262] == b"ustar" and start[8:9] != b"{"):
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
                dtype = SAFETENSORS.get(entry["dtype"], str(entry["dtype"]).lower())  # f8_e4m3, which a caller refuses
                stored = Stored(path, dtype, tuple(entry["shape"]), 8 + length + first)
                if (
                    (entry["dtype"] in SAFETENSORS and last - first != _bytes(stored))
                    or last < first
                    or first < 0
                    or 8 + length + last > size
                ):
                    raise InputError(f"{path}: cut off or damaged; its array {name!r} does not lie within the file")
                found[name] = stored
    except InputError:
        raise
    except Exception as error:  # whatever a damaged header makes of the lines above
        raise InputError(f"{path}: a damaged safetensors header ({error or type(error).__name__})") from None
    return found


def _bytes(stored: Stored) -> int:
    if not all(type(side) is int and side >= 0 for side in stored.shape):
        raise ValueError(f"shape {stored.shape}")
    return prod(stored.shape) * itemsize(stored.dtype)
