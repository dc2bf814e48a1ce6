"""What a reader, an installer and a citation find is what the repository holds."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest

import tinydiff

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    return parsed


def test_the_readme_opens_with_one_sentence_one_picture_and_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```\w*\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert block[1].splitlines() == [
        'pip install -e . && tinydiff generate "a red dress on a white background"',
        'pip install -e ".[test]" && pytest',
    ]
    picture = re.search(r"!\[.+\]\((.+)\)", readme)
    assert picture is not None and picture.start() < block.start()
    assert (ROOT / picture[1]).is_file()


def test_every_file_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)\)", readme)
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_version_is_the_same_everywhere(config: configparser.ConfigParser) -> None:
    assert config["metadata"]["version"] == "attr: tinydiff.__version__"
    assert f"\nversion: {tinydiff.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{tinydiff.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_setup_cfg_lists_every_package(config: configparser.ConfigParser) -> None:
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "tinydiff").rglob("__init__.py")}
    found = {".".join(folder.parts) for folder in folders} | {"tinydiff.data"}
    assert set(config["options"]["packages"].split()) == found


def test_every_dependency_has_a_lower_and_an_upper_bound(config: configparser.ConfigParser) -> None:
    extras = dict(config["options.extras_require"])
    assert set(extras) == {"notebooks", "test", "cuda12", "cuda13", "dev"}
    lines = "\n".join([config["options"]["install_requires"], *extras.values()]).split("\n")
    unbounded = [line for line in lines if line and not re.fullmatch(r"[\w-]+(\[\w+\])? >=[\d.]+, <[\d.]+", line)]
    assert unbounded == []


def test_the_top_level_is_what_the_design_says() -> None:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    if "setup.cfg" not in listed.splitlines():
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} == {
        *("tinydiff", "notebooks", "tests", "data", "setup.cfg", "README.md"),
        *("pyproject.toml", "LICENSE", "CHANGELOG.md", "CITATION.cff"),
    }


def test_every_public_name_is_there() -> None:
    assert {name for name in tinydiff.__all__ if getattr(tinydiff, name, None) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tinydiff.nonsense
