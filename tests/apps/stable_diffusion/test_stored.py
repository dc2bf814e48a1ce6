"""Arrays in files: what is read without PyTorch, and what each thing that is no weights is called."""

import argparse
import collections
import json
import os
import pickle
import sys
import tracemalloc
import types
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import save_file

from tinydiff.apps.stable_diffusion.stored import Stored
from tinydiff.apps.stable_diffusion.weight_files import stored_arrays
from tinydiff.errors import InputError

RNG = np.random.default_rng(0)
ARRAYS = {
    "half": RNG.standard_normal((3, 4)).astype(np.float16),
    "single": RNG.standard_normal((2, 3, 4)).astype(np.float32),
    "number": np.array(2.5, np.float32),
}


@dataclass
class Tensor:
    """What PyTorch's pickle holds of a tensor."""

    array: np.ndarray
    transposed: bool = False


def fake_torch(monkeypatch):
    """Modules of PyTorch's names, so that its pickles can be written without it."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "BFloat16Storage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError("not called here")

    _rebuild_tensor_v2.__module__, utils._rebuild_tensor_v2 = "torch._utils", _rebuild_tensor_v2
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    torch._utils = utils
    for name, module in (("torch", torch), ("torch._utils", utils)):
        monkeypatch.setitem(sys.modules, name, module)
    return torch


def write_checkpoint(path, content, monkeypatch, compression=zipfile.ZIP_STORED):
    """As torch.save does: a zip with a pickle, in which each storage is a file of its own."""
    with monkeypatch.context() as patch, zipfile.ZipFile(path, "w", compression) as archive:
        torch, storages = fake_torch(patch), []
        kinds = {"float32": torch.FloatStorage, "float16": torch.HalfStorage, "uint16": torch.BFloat16Storage}

        class Storage:
            def __init__(self, array):
                self.array = array

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                if not isinstance(thing, Storage):
                    return None
                storages.append(thing.array)
                return "storage", kinds[str(thing.array.dtype)], str(len(storages) - 1), "cpu", thing.array.size

            def reducer_override(self, thing):
                if not isinstance(thing, Tensor):
                    return NotImplemented
                shape, steps = thing.array.shape, tuple(s // thing.array.itemsize for s in thing.array.strides)
                if thing.transposed:
                    shape, steps = shape[::-1], steps[::-1]
                hooks = collections.OrderedDict()
                return torch._utils._rebuild_tensor_v2, (Storage(thing.array), 0, shape, steps, False, hooks)

        with archive.open("archive/data.pkl", "w") as file:
            Pickler(file, protocol=2).dump(content)
        for i, array in enumerate(storages):
            archive.writestr(f"archive/data/{i}", array.tobytes())
    return path


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    content = {"state_dict": {name: Tensor(array) for name, array in ARRAYS.items()}, "epoch": 3}
    content["state_dict"]["turned"] = Tensor(ARRAYS["single"], transposed=True)
    content["state_dict"]["brain"] = Tensor((ARRAYS["single"].view(np.uint32) >> 16).astype(np.uint16))
    return write_checkpoint(tmp_path / "model.ckpt", content, monkeypatch)


def test_a_checkpoint_of_pytorch(checkpoint):
    found = stored_arrays(checkpoint)
    assert set(found) == {*ARRAYS, "turned", "brain"}
    for name, array in ARRAYS.items():
        read = found[name].read()
        assert read.dtype == array.dtype and not read.flags.writeable
        np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(found["turned"].read(), ARRAYS["single"].T)
    assert found["brain"].dtype == "bfloat16"
    np.testing.assert_allclose(found["brain"].read(), ARRAYS["single"], rtol=2**-7)


def test_safetensors(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors")
    found = stored_arrays(tmp_path / "model.safetensors")
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name].read(), array)
        assert found[name].shape == array.shape
    assert isinstance(found["half"], Stored) and found["half"].dtype == "float16"


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_pickle_that_wants_more_than_tensors_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_checkpoint(tmp_path / "model.ckpt", {"state_dict": Harmful()}, monkeypatch)
    with pytest.raises(InputError, match=r"not opened, since it asks for \w+\.system, which is more than tensors"):
        stored_arrays(path)
    assert not (tmp_path / "harmed").exists()


# Programs of a few bytes: what they would do to Python's own machine, or to the lines that read what they leave.
PROGRAMS = {
    "a memo of four billion places": (b"\x80\x02}r\xff\xff\xff\xff.", None),
    "a number that has no end": (b"\x80\x02\x8b\xff\xff\xff\x7f1.", "cut off or damaged"),
    "a dictionary within itself": (b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s.", None),
    "pairs of pairs as a key": (b"\x80\x02})" + b"2\x86" * 60 + b"Ns.", None),
    "lists in lists": (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "holds a list"),
    "nothing on the stack": (b"\x80\x020.", "cut off or damaged"),
    "no end": (b"\x80\x02}", "cut off or damaged"),
    "an extension": (b"\x80\x02\x82\x01.", "its pickle uses EXT1"),
    "old text": (b"cos\nsystem\n(S'ls'\ntR.", "asks for os.system"),
    "a call of a string": (b"\x80\x02X\x01\x00\x00\x00a)R.", "holds a _StandIn"),
    "eight bits": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n.", "float8"),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_programs_that_harm_a_stack_machine(tmp_path, what):
    program, message = PROGRAMS[what]
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    tracemalloc.start()
    try:
        found = stored_arrays(tmp_path / "a.ckpt")
        assert found == {} and message is None
    except InputError as error:
        assert message is not None and message in str(error) and "\n" not in str(error)
    finally:
        assert tracemalloc.get_traced_memory()[1] < 50e6
        tracemalloc.stop()


def test_what_lies_beside_weights_is_passed_over(tmp_path, monkeypatch):
    content = {
        "epoch": np.float64(3.5),
        "seen": np.arange(4),
        "names": {"a", "b"},
        "options": argparse.Namespace(lr=1e-4),
        "counts": collections.defaultdict(int, a=1),
        "half": Tensor(ARRAYS["half"]),
        3: Tensor(ARRAYS["half"]),
    }
    assert set(stored_arrays(write_checkpoint(tmp_path / "a.ckpt", content, monkeypatch))) == {"half"}


def test_another_order_of_bytes(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "a.ckpt", {"half": Tensor(ARRAYS["half"])}, monkeypatch)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(InputError, match="written on a big-endian machine"):
        stored_arrays(path)


def test_a_safetensors_header_of_any_length(tmp_path):
    for length in (0x80, 0x4B50, 0x280):  # whose first bytes are those of a pickle or of a zip
        header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(length)
        (tmp_path / "a").write_bytes(length.to_bytes(8, "little") + header.encode() + np.float32(1.5).tobytes())
        assert stored_arrays(tmp_path / "a")["a"].read() == 1.5


def test_eight_bits_are_refused_when_they_are_read(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(InputError, match="holds f8_e4m3, which is not read; expected float16 or more"):
        stored_arrays(tmp_path / "a")["a"].read()


def test_objects_of_a_framework_are_stood_in_for(tmp_path, monkeypatch):
    module = types.ModuleType("pytorch_lightning.callbacks")
    module.Checkpoint = type("Checkpoint", (), {"__module__": "pytorch_lightning.callbacks"})
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, "pytorch_lightning.callbacks", module)
    left = module.Checkpoint()
    left.best = 3
    content = {"callbacks": [left], "state_dict": {"half": Tensor(ARRAYS["half"])}}
    assert set(stored_arrays(write_checkpoint(tmp_path / "a.ckpt", content, monkeypatch))) == {"half"}


OTHERS = {
    "an empty file": (b"", "an empty file"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer, not the weights"),
    "a web page": (b"  <!DOCTYPE html>\n<html>", "a web page, not weights"),
    "a former checkpoint": (bytes.fromhex("80028a0a6cfc9c46f9206aa850192e"), "written by PyTorch before 1.6"),
    "a tar file": (b"a" * 257 + b"ustar\x00", "written by PyTorch before 1.6"),
    "text": (b"hello, this is no model at all", "neither safetensors nor a checkpoint of PyTorch, or cut off"),
    "a header that is no JSON": ((10).to_bytes(8, "little") + b"{{{{{{{{{{", "a damaged safetensors header"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_weights_is_named(tmp_path, what):
    content, message = OTHERS[what]
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        stored_arrays(tmp_path / "model")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_what_is_cut_off_or_missing(tmp_path, checkpoint, monkeypatch):
    save_file(ARRAYS, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-5])
    with pytest.raises(InputError, match="cut off or damaged; its array"):
        stored_arrays(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(checkpoint.read_bytes()[:-40])
    with pytest.raises(InputError, match="cut off or damaged"):
        stored_arrays(tmp_path / "cut")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(InputError, match="a zip file, but no checkpoint"):
        stored_arrays(tmp_path / "photos.zip")
    compressed = write_checkpoint(
        tmp_path / "b.ckpt", {"a": Tensor(np.zeros(999, np.float32))}, monkeypatch, zipfile.ZIP_DEFLATED
    )
    with pytest.raises(InputError, match="is compressed or of another size"):
        stored_arrays(compressed)
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        stored_arrays(tmp_path / "nothing")


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("kind", ["checkpoint", "safetensors"])
def test_damage_is_one_line_or_does_no_harm(tmp_path, checkpoint, kind, count):
    save_file(ARRAYS, tmp_path / "model.safetensors")
    whole = (checkpoint if kind == "checkpoint" else tmp_path / "model.safetensors").read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(count):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        for at in rng.integers(0, len(damaged), rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            for stored in stored_arrays(tmp_path / "damaged").values():
                stored.read()
        except InputError as error:
            assert "\n" not in str(error)
