"""Files that appear whole or not at all: through links, with long names, and without a trail of leftovers."""

import os
import signal
import subprocess
import sys

import pytest

from tinydiff.errors import InputError
from tinydiff.files import written_whole


def write(path, content):
    with written_whole(path) as beside:
        beside.write_text(content)


def test_a_symbolic_link_is_written_through(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for content in ("new", "newer"):  # where the link leads nowhere yet, too
        write(link, content)
        assert link.is_symlink() and target.read_text() == content
    assert os.listdir(tmp_path / "folder") == ["target.txt"]


def test_what_cannot_be_written_has_the_name_that_it_was_given(tmp_path):
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "no such folder" / "target.txt")
    with pytest.raises(InputError, match=f"^{link}: not saved, No such file or directory; an older file there is kept"):
        write(link, "new")


@pytest.mark.parametrize("name", ["a" * 252 + ".md", "é" * 126 + ".md"], ids=["letters", "of two bytes each"])
def test_a_name_of_255_bytes_is_written(tmp_path, name):
    write(tmp_path / name, "new")
    assert os.listdir(tmp_path) == [name]


def test_a_failure_leaves_the_old_file_alone(tmp_path):
    write(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "a") as beside:
        beside.write_text("half of the n")
        _ = 1 / 0
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


def test_files_that_are_written_at_once_do_not_meet(tmp_path):
    with written_whole(tmp_path / "a") as a, written_whole(tmp_path / "b") as b:
        a.write_text("a")
        b.write_text("b")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]


KILLED = """
import os, signal, sys
from tinydiff.files import written_whole
with written_whole(sys.argv[1]) as beside:
    beside.write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill −9 is POSIX")
def test_what_a_kill_leaves_does_not_pile_up(tmp_path):
    path = tmp_path / "a"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -signal.SIGKILL
        (left,) = tmp_path.iterdir()
        assert left.name.startswith(".tinydiff-")
    write(path, "whole")
    assert os.listdir(tmp_path) == ["a"]
