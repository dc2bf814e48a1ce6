"""An output never replaces an input, whatever the names of both."""

import os
from pathlib import Path

import pytest

from tinydiff.apps.outputs import refuse_overwriting
from tinydiff.errors import InputError


@pytest.fixture
def picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "Picture.png").write_bytes(b"mine")
    return Path("Picture.png")


def spelt_otherwise(picture):
    return Path("folder", "..", picture)


def absolute(picture):
    return picture.absolute()


def in_other_letters(picture):
    return Path("pICTURE.PNG")


def symbolic(picture):
    Path("link.png").symlink_to(picture.absolute())
    return Path("link.png")


def linked_folder(picture):
    Path("here").symlink_to(Path.cwd())
    return Path("here", picture)


def hard(picture):
    os.link(picture, "hard.png")
    return Path("hard.png")


NAMES = [Path, spelt_otherwise, absolute, in_other_letters, symbolic, linked_folder, hard]


@pytest.mark.parametrize("other", NAMES)
def test_an_output_that_is_an_input_is_refused(picture, other):
    with pytest.raises(InputError, match="would replace the input") as error:
        refuse_overwriting([None, Path("new.png"), other(picture)], [None, Path("folder"), picture])
    assert str(picture) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("other", [symbolic, linked_folder, hard])
def test_an_input_may_be_the_one_with_the_other_name(picture, other):
    with pytest.raises(InputError, match="would replace the input"):
        refuse_overwriting([picture], [other(picture)])


def test_a_link_to_what_is_yet_to_be_written_counts_too(picture):
    Path("link.png").symlink_to("new.png")
    with pytest.raises(InputError, match=r"the output new\.png would replace the output link\.png"):
        refuse_overwriting([Path("link.png"), Path("new.png")], [picture])


def test_an_output_must_not_replace_another(picture):
    with pytest.raises(InputError, match="would replace the output"):
        refuse_overwriting([picture, picture], [])


def test_a_former_output_may_be_written_again(picture):
    Path("out.png").write_bytes(b"a former output")
    refuse_overwriting([Path("out.png"), Path("folder", picture)], [picture])


def test_two_files_whose_names_differ_in_case_alone_are_two(picture):
    Path("pICTURE.PNG").write_bytes(b"another")
    if picture.samefile("pICTURE.PNG"):
        pytest.skip("this disk does not tell letters apart")
    refuse_overwriting([Path("pICTURE.PNG")], [picture])


def test_a_name_that_no_disk_can_hold_is_refused_at_once(picture):
    with pytest.raises(OSError, match="too long"):
        refuse_overwriting([Path("a" * 300)], [picture])
