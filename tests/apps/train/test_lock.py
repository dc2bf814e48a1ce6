"""The lock on a folder: one holder, known by its process id, and never one that is dead."""

import os
import signal
import subprocess
import sys

import pytest

from tinydiff.apps.train.folder import folder_lock
from tinydiff.errors import InputError

HOLD = """
import sys
from tinydiff.apps.train.folder import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path` until its standard input is closed."""
    command, pipe = [sys.executable, "-c", HOLD, tmp_path], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def assert_free(folder):
    with folder_lock(folder):
        assert (folder / ".lock.holder").read_text() == f"{os.getpid()}\n"


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path, holder):
    with pytest.raises(InputError) as error, folder_lock(tmp_path):
        pass
    message = str(error.value)
    assert str(tmp_path) in message and f"process {holder.pid})" in message and "\n" not in message
    # the refused one has not disturbed the holder
    with pytest.raises(InputError, match=f"process {holder.pid}"), folder_lock(tmp_path):
        pass


def test_the_lock_is_freed_when_the_holder_is_done(tmp_path, holder):
    holder.stdin.close()
    assert holder.wait(10) == 0
    assert_free(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="kill −9 is POSIX")
def test_the_lock_dies_with_a_killed_holder(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    assert holder.wait(10) == -signal.SIGKILL
    assert_free(tmp_path)


def test_a_second_lock_in_one_process_is_refused(tmp_path):
    with folder_lock(tmp_path):
        with pytest.raises(InputError, match=str(os.getpid())), folder_lock(tmp_path):
            pass
    assert_free(tmp_path)


def test_an_error_within_frees_the_lock(tmp_path):
    with pytest.raises(RuntimeError), folder_lock(tmp_path):
        raise RuntimeError
    assert_free(tmp_path)


def test_two_folders_do_not_disturb_each_other(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with folder_lock(tmp_path / "a"):
        assert_free(tmp_path / "b")


def test_what_a_longer_process_id_left_is_cut_off(tmp_path):
    (tmp_path / ".lock.holder").write_text("1234567890123\n")
    assert_free(tmp_path)


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="none.*No such file or directory"), folder_lock(tmp_path / "none"):
        pass
