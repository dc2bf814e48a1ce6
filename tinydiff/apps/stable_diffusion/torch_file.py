"""A checkpoint of PyTorch, read without PyTorch: a zip that holds a pickle and, beside it, the tensors' bytes.

A pickle is a program for a small stack machine.  Python's own machine calls whatever a program names, and some ten
bytes make it take gigabytes; this one calls nothing.  It knows tensors, dictionaries, lists, numbers and strings; what
a training framework left beside them becomes an empty stand-in, and everything else is refused by name.
"""

import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinydiff.apps.stable_diffusion.stored import BFLOAT16, Stored, itemsize
from tinydiff.errors import InputError

STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
LONGEST_PROGRAM = 10_000_000  # bytes; Stable Diffusion's has 0.3 million
NESTED = 4  # dictionaries called state_dict within each other, at most
DICTIONARIES = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict")
# Packages whose objects become stand-ins, and what else lies beside weights.
FRAMEWORKS = ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "numpy", "argparse", "typing")
LEFT_OVERS = ("_codecs.encode", "torch.device", *(f"builtins.{name}" for name in ("int", "long", "list", "set")))
REBUILT = "torch._utils."
MARK = object()


def arrays_in_zip(path: Path) -> dict[str, Stored]:
    """The tensors of a zipped checkpoint by name, as `stored.stored_arrays` gives them."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            program = next((name for name in members if name.endswith("data.pkl")), None)
            if program is None or members[program].file_size > LONGEST_PROGRAM:
                raise InputError(f"{path}: a zip file, but no checkpoint of PyTorch")
            prefix = program.removesuffix("data.pkl")
            if f"{prefix}byteorder" in members and archive.read(f"{prefix}byteorder") != b"little":
                raise InputError(f"{path}: written on a big-endian machine; load and save it once on another")
            found = _Machine(path, prefix, members).run(archive.read(program))
    except InputError:
        raise
    except Exception as error:  # zipfile and pickletools raise nearly anything for what is damaged
        raise InputError(f"{path}: cut off or damaged ({str(error)[:200] or type(error).__name__})") from None
    for _ in range(NESTED):
        if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
            found = found["state_dict"]
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}, expected arrays by name")
    return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Stored)}


@dataclass(frozen=True)
class _Storage:
    dtype: str
    offset: int  # of its first byte in the file
    count: int


@dataclass(frozen=True)
class _Global:
    """What a program calls by name; nothing is imported."""

    name: str


class _StandIn:
    """In the place of an object of a training framework."""


class _Machine:
    """Runs a pickle's program: a stack, a memo, and no calls."""

    def __init__(self, path: Path, prefix: str, members: dict[str, zipfile.ZipInfo]) -> None:
        self.path, self.prefix, self.members = path, prefix, members
        self.size = path.stat().st_size
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name in PUSHED:
                self.stack.append(argument)
            elif opcode.name in STEPS:
                STEPS[opcode.name](self, argument)
            elif opcode.name not in ("PROTO", "FRAME", "STOP"):
                raise InputError(f"{self.path}: not opened, since its pickle uses {opcode.name}")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        at = max(i for i, item in enumerate(self.stack) if item is MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def tuple_of(self, count: int) -> None:
        self.stack[len(self.stack) - count :] = [tuple(self.stack[len(self.stack) - count :])]

    def append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            keys = zip(items[::2], items[1::2], strict=True)
            self.stack[-1].update({key: value for key, value in keys if isinstance(key, (str, int))})

    def name(self, module: str, name: str) -> None:
        whole = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if module.split(".")[0] not in FRAMEWORKS and whole not in (*DICTIONARIES, *LEFT_OVERS, "torch.Size"):
            if whole == f"{REBUILT}_rebuild_tensor_v3":
                raise InputError(
                    f"{self.path}: holds float8 or another type that is not read; expected float16 or more"
                )
            known = module in ("torch", "torch.storage") and name in STORAGES
            if not known and whole not in (f"{REBUILT}_rebuild_tensor_v2", f"{REBUILT}_rebuild_parameter"):
                raise InputError(f"{self.path}: not opened, since it asks for {whole}, which is more than tensors")
        self.stack.append(_Global(whole))

    def call(self) -> None:
        """What REDUCE and NEWOBJ mean: the result of a known name for its arguments, or a stand-in."""
        arguments, called = self.stack.pop(), self.stack.pop()
        name = called.name if isinstance(called, _Global) else ""
        made: Any = _StandIn()
        if name == f"{REBUILT}_rebuild_tensor_v2":
            made = self.tensor(*arguments[:4])
        elif name == f"{REBUILT}_rebuild_parameter":
            made = arguments[0]
        elif name in DICTIONARIES:
            made = {}
        elif name == "torch.Size":
            made = arguments[0]
        self.stack.append(made)

    def storage(self, which: Any) -> None:
        kind, called, key, _, count = which
        dtype = STORAGES.get(called.name.rpartition(".")[2]) if isinstance(called, _Global) else None
        info = self.members.get(f"{self.prefix}data/{key}")
        if kind != "storage" or info is None or dtype is None or type(count) is not int:
            raise InputError(f"{self.path}: cut off or damaged; its storage {key!r} is missing")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != count * itemsize(dtype):
            raise InputError(f"{self.path}: damaged; its storage {key!r} is compressed or of another size")
        with open(self.path, "rb") as file:  # the entry's own header, whose extra field aligns the data
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
        start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        if start + info.file_size > self.size:
            raise InputError(f"{self.path}: cut off or damaged; its storage {key!r} does not lie within the file")
        self.stack.append(_Storage(dtype, start, count))

    def tensor(self, storage: _Storage, offset: int, shape: tuple, strides: tuple) -> Stored:
        whole = all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
        last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True)) if whole else 0
        if not whole or (0 not in shape and last >= storage.count):
            raise InputError(f"{self.path}: damaged; a tensor does not lie within its storage")
        first = storage.offset + offset * itemsize(storage.dtype)
        return Stored(self.path, storage.dtype, tuple(shape), first, tuple(strides))


PUSHED = (
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
)  # fmt: skip
STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_SET": lambda m, _: m.stack.append(_StandIn()),
    "MARK": lambda m, _: m.stack.append(MARK),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.since_mark(),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "ADDITEMS": lambda m, _: m.since_mark(),
    "SETITEM": lambda m, _: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "BINPUT": lambda m, at: m.memo.update({at: m.stack[-1]}),
    "LONG_BINPUT": lambda m, at: m.memo.update({at: m.stack[-1]}),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "BINGET": lambda m, at: m.stack.append(m.memo[at]),
    "LONG_BINGET": lambda m, at: m.stack.append(m.memo[at]),
    "GLOBAL": lambda m, names: m.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(m.stack.pop(-2), m.stack.pop()),
    "BINPERSID": lambda m, _: m.storage(m.stack.pop()),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.stack.pop(),  # an object's state
}
