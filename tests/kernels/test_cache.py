"""The kernel cache costs time, never the run: damaged, full, read-only, private, shared by ten at once."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tinydiff.kernels.cpu import cache, jit

ROOT = Path(cache.__file__).parents[3]
COMPILING = "tinydiff: compiling kernels for this machine"

# Few instructions, but two functions, one of which calls the other; it says whether it computed what it should.
SMALL = """
import numpy as np
from tinydiff.kernels.cpu.elementary import sigmoid
print(bool(sigmoid(np.float32(0)) == 0.5))
"""

as_user = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX's users and modes")


def small(folder):
    """Run it in a process of its own; returns what it said, after it was right."""
    done = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, env=known(folder))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr[-2000:]
    return done.stderr


def known(folder):
    return {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache that one run has filled; what it said."""
    folder = tmp_path_factory.mktemp("cache")
    said = small(folder)
    return folder, said


@pytest.fixture
def warm(compiled, tmp_path):
    """A copy of it."""
    folder = tmp_path / "warm" / "tinydiff" / cache.FOLDER.name
    folder.mkdir(0o700, parents=True)
    for file in files(compiled[0]):
        (folder / file.name).write_bytes(file.read_bytes())
    return tmp_path / "warm"


def files(folder):
    found = sorted(folder.rglob("*.nbc"))
    assert len(found) >= 2
    return found


def test_the_cache_is_keyed_on_every_kernel_source(tmp_path, monkeypatch):
    copy = tmp_path / "cpu"
    shutil.copytree(Path(cache.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(copy / "cache.py"))
    before = cache.cache_folder()
    assert before.name == cache.FOLDER.name
    with open(copy / "gemm.py", "a") as file:
        file.write("# changed\n")
    assert cache.cache_folder().name != before.name


def test_what_is_compiled_is_said_and_what_is_not_is_not(compiled, warm):
    assert compiled[1] == f"{COMPILING} (once; they are cached) …\n"
    assert small(warm) == ""


def test_damaged_files_are_compiled_anew(warm):
    before = files(warm)
    for file in before:
        file.write_bytes(file.read_bytes()[:1000])
    assert COMPILING in small(warm)
    assert files(warm) == before
    assert small(warm) == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:10],
        lambda whole: bytes(len(whole)),
        lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
        lambda whole: whole[:-300] + bytes([whole[-300] ^ 1]) + whole[-299:],
    ],
    ids=["empty", "half", "ten bytes", "zeros", "half zeros", "a bit"],
)
def test_each_damage_is_seen(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(cache, "FOLDER", tmp_path)
    assert jit.helper(_twice)(3) == 6
    (file,) = tmp_path.glob("*.nbc")
    file.write_bytes(damage(file.read_bytes()))
    anew, again = jit.helper(_twice), jit.helper(_twice)
    assert anew(3) == again(3) == 6
    assert (len(anew.stats.cache_misses), len(again.stats.cache_misses)) == (1, 0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("where", [(Path, "write_bytes"), (os, "replace")])
def test_a_full_or_read_only_disk_costs_no_more_than_the_time(tmp_path, monkeypatch, where, code):
    def fails(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache, "FOLDER", tmp_path)
    assert jit.helper(_thrice)(3) == 9
    monkeypatch.setattr(*where, fails)
    warm, cold = jit.helper(_thrice), jit.helper(_twice)
    assert warm(3) == 9 and not warm.stats.cache_misses
    with pytest.warns(UserWarning, match=f"kernels are not kept in {tmp_path} .{os.strerror(code)}"):
        assert cold(3) == 6
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["_thrice"]


def _twice(n):
    return 2 * n


def _thrice(n):
    return 3 * n


def test_a_folder_that_cannot_be_made_is_named_and_another_one_taken(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    said = "no kernel cache .Not a directory.*are kept in .*set NUMBA_CACHE_DIR to a folder that can be written"
    with pytest.warns(UserWarning, match=said):
        folder = cache._chosen_folder()
    assert folder.is_dir() and folder.is_relative_to(tmp_path)


def test_a_user_without_a_home_gets_a_warning_and_a_folder(tmp_path, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache.Path, "home", home)
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.warns(UserWarning, match="no kernel cache .Could not determine home directory"):
        assert cache._chosen_folder().is_dir()


@as_user
def test_it_is_made_private(tmp_path):
    before = os.umask(0)
    try:
        folder = cache.prepared(tmp_path / "tinydiff" / "key")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(place.stat().st_mode) for place in (folder, folder.parent)] == [0o700, 0o700]


@as_user
@pytest.mark.parametrize("which", ["the folder", "the one around it"])
@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_one_that_others_can_write_is_refused_with_the_reason(tmp_path, monkeypatch, mode, which):
    folder = tmp_path / "tinydiff" / cache.FOLDER.name
    place = folder if which == "the folder" else folder.parent
    folder.mkdir(0o700, parents=True)
    folder.parent.chmod(0o700)
    place.chmod(mode)
    with pytest.raises(OSError, match=f"{place} belongs to user .* with mode {mode:o}, so others can write"):
        cache.prepared(folder)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.warns(UserWarning, match=f"with mode {mode:o}.*are kept in {tmp_path}/tinydiff-{os.getuid()}"):
        assert cache._chosen_folder() == tmp_path / f"tinydiff-{os.getuid()}" / folder.name


@as_user
def test_one_that_belongs_to_somebody_else_is_refused(tmp_path, monkeypatch):
    folder = cache.prepared(tmp_path / "tinydiff" / "key")
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    if owner == 0:  # whose files everybody trusts
        assert cache.prepared(folder) == folder
        os.chown(folder, 1234, -1)
        owner = 1234
    with pytest.raises(OSError) as caught:
        cache.prepared(folder)
    assert f"belongs to user {owner}" in caught.value.strerror


def test_nowhere_to_keep_them_is_said_and_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="kernels compile anew in every process"):
        assert cache._chosen_folder() is None
    monkeypatch.setattr(cache, "FOLDER", None)
    twice = jit.helper(_twice)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert twice(3) == 6


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "here")
    assert cache.cache_folder() == tmp_path / "here" / "tinydiff" / cache.FOLDER.name


def test_two_versions_of_one_function_have_two_files(tmp_path, monkeypatch):
    """Numba's numbered files mix them up where two processes compile one version each."""
    monkeypatch.setattr(cache, "FOLDER", tmp_path)
    first, second = jit.helper(_twice), jit.helper(_twice)
    assert first(3) == 6 and second(np.float32(1.5)) == 3.0
    assert len(list(tmp_path.glob("_twice.*.nbc"))) == 2
    again = jit.helper(_twice)
    assert again(3) == 6 and again(np.float32(1.5)) == 3.0
    assert len(again.stats.cache_hits) == 2 and not again.stats.cache_misses


def test_two_first_starts_at_once(tmp_path):
    """What they leave behind is whole."""
    command = [sys.executable, "-W", "error", "-c", SMALL]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=known(tmp_path)) for _ in range(2)]
    assert [process.communicate()[0] for process in running] == ["True\n"] * 2
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".nbc"}
    assert small(tmp_path) == ""
