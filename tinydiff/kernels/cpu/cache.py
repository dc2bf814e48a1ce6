"""Where compiled kernels are kept between runs: it costs time where it fails, and never the run.

* Numba's own cache does not see changes in imported modules: here the folder bears a hash of all that made the kernels.
* Numba's is an index of numbered files, which processes that start at once mix up and a full disk cuts short.  Here
  each compiled signature is a file of its own, renamed into place, and its checksum (32 bytes) comes first.
* Such a file is a pickle: whoever can write it runs code as its reader.  So the folder is its owner's alone.
"""

import contextlib
import functools
import hashlib
import inspect
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from tinydiff.kernels.cpu.vectors import INSTRUCTIONS


def cache_folder(parent: Path | None = None) -> Path:
    """In `parent`, else where the user's caches are, a folder by a hash of the sources, instructions and versions.

    Raises RuntimeError for a user who has no home folder.
    """
    if parent is None:
        root = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        parent = Path(root).absolute() / "tinydiff"
    versions = numba.__version__, llvmlite.__version__, np.__version__, sys.implementation.cache_tag
    source = hashlib.sha256(repr((INSTRUCTIONS, versions, config.BOUNDSCHECK)).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source.update(file.read_bytes())
    return parent / source.hexdigest()[:16]


def prepared(folder: Path) -> Path:
    """The folder, made where it is missing.  Raises OSError where it cannot be, or is not the user's alone."""
    folder.parent.mkdir(0o700, parents=True, exist_ok=True)
    folder.mkdir(0o700, exist_ok=True)
    if hasattr(os, "getuid"):  # elsewhere the user's own folders are private
        for place in (folder.parent, folder):
            owner, mode = place.stat().st_uid, place.stat().st_mode & 0o777
            if owner not in (0, os.getuid()) or mode & 0o022:
                why = f"belongs to user {owner} with mode {mode:o}, so others can write what would run here"
                raise PermissionError(0, f"{place} {why}; remove it")
    return folder


def _chosen_folder() -> Path | None:
    """The user's cache, else one among the temporary files, else none; a warning says why."""
    user = os.getuid() if hasattr(os, "getuid") else "kernels"
    try:
        return prepared(cache_folder())
    except (OSError, RuntimeError) as error:
        what = f"tinydiff: no kernel cache ({getattr(error, 'strerror', None) or error}), so kernels"
    try:
        folder = prepared(cache_folder(Path(tempfile.gettempdir(), f"tinydiff-{user}")))
    except OSError:
        folder = None
    what = f"{what} are kept in {folder}" if folder else f"{what} compile anew in every process"
    warnings.warn(f"{what}; set NUMBA_CACHE_DIR to a folder that can be written", stacklevel=2)
    return folder


@functools.cache  # so that it is said once
def _say_compiling() -> None:
    kept = " (once; they are cached)" if FOLDER else ""
    print(f"tinydiff: compiling kernels for this machine{kept} …", file=sys.stderr, flush=True)


FOLDER = _chosen_folder()


class Cache(NullCache):
    """What Numba asks before it compiles a function for a signature, and tells afterwards."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def _file(self, signature: Any, codegen: Any) -> Path:
        function = self._function
        source, name = Path(inspect.getfile(function)).read_bytes(), (function.__module__, function.__qualname__)
        key = repr((source, name, function.__code__.co_firstlineno, signature, codegen.magic_tuple()))
        return Path(FOLDER or "", f"{function.__name__}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None where it is not there whole."""
        target_context.refresh()
        with contextlib.suppress(OSError):
            found = self._file(sig, target_context.codegen()).read_bytes() if FOLDER else b""
            if found[:32] == hashlib.sha256(found[32:]).digest():
                return CompileResult._rebuild(target_context, *pickle.loads(found[32:]))
        _say_compiling()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if data.library.has_dynamic_globals or FOLDER is None:
            return
        content = dumps(data._reduce())
        try:
            file = self._file(sig, data.codegen)
            beside = file.with_suffix(f".{os.getpid()}")
            try:
                beside.write_bytes(hashlib.sha256(content).digest() + content)
                os.replace(beside, file)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            what = f"tinydiff: kernels are not kept in {FOLDER} ({error.strerror})"
            warnings.warn(f"{what}; set NUMBA_CACHE_DIR to another folder", stacklevel=2)
