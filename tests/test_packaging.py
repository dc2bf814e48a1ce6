"""What a reader, an installer and a citation find is what the repository holds."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinydiff

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    return parsed


def test_the_readme_opens_with_one_sentence_one_image_and_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```\w*\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert block[1].splitlines() == [
        'pip install -e . && tinydiff generate "a red dress on a white background"',
        'pip install -e ".[test]" && pytest',
    ]
    image = re.search(r"!\[.+\]\((.+)\)", readme)
    assert image is not None and image.start() < block.start()
    assert (ROOT / image[1]).is_file()


def test_the_version_is_the_same_everywhere(config: configparser.ConfigParser) -> None:
    assert config["metadata"]["version"] == "attr: tinydiff.__version__"
    assert f"\nversion: {tinydiff.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(rf"^## \[{re.escape(tinydiff.__version__)}\] - (\d{{4}}-\d\d-\d\d)$", changes, re.MULTILINE)
    assert section is not None
    assert f"\ndate-released: {section[1]}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


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


def tracked() -> list[str]:
    """The files of the checkout; skips where there is none, as in a source archive."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    files = [line for line in listed.split("\0") if line]
    if "setup.cfg" not in files:
        pytest.skip("not a git checkout")
    return files


def test_the_top_level_is_what_the_design_says() -> None:
    top = {line.split("/")[0] for line in tracked()}
    assert {name for name in top if not name.startswith(".")} == {
        *("tinydiff", "notebooks", "tests", "data", "setup.cfg", "README.md"),
        *("pyproject.toml", "LICENSE", "CHANGELOG.md", "CITATION.cff"),
    }


def test_every_public_name_is_there() -> None:
    assert {name for name in tinydiff.__all__ if getattr(tinydiff, name, None) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tinydiff.nonsense


def test_the_licence_of_everything_shipped_is_listed(config: configparser.ConfigParser) -> None:
    held = {path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("LICENSE"), *ROOT.glob("data/**/LICENSE*")]}
    assert set(config["metadata"]["license_files"].split()) == held and len(held) == 4


@pytest.fixture(scope="module")
def above(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the checkout in it that is named tinydiff, as a clone is."""
    folder = tmp_path_factory.mktemp("above")
    for file in tracked():
        if (ROOT / file).is_file():  # tracked, and not just deleted
            target = folder / "tinydiff" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, target)
    return folder


def without_python_path() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def imported(python: Path | str, cwd: Path, environment: dict[str, str]) -> Path:
    """The folder of the tinydiff that `import tinydiff` finds from the folder cwd, once it has loaded a name."""
    command = [str(python), "-c", "import tinydiff; tinydiff.load; print(tinydiff.__file__)"]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()).resolve().parent


@pytest.mark.parametrize("where", [".", "tinydiff", "tinydiff/tests", "tinydiff/notebooks"])
def test_import_from_every_folder(above: Path, where: str) -> None:
    """As an editable install finds it, by a path: from the folder above, the clone is not taken for the package."""
    environment = {**without_python_path(), "PYTHONPATH": str(above / "tinydiff")}
    assert imported(sys.executable, above / where, environment) == (above / "tinydiff" / "tinydiff").resolve()


def test_an_editable_install_is_a_path_entry(config: configparser.ConfigParser) -> None:
    assert config["editable_wheel"]["mode"] == "compat"


def test_a_clone_is_not_a_package() -> None:
    """With an __init__.py at its root, `import tinydiff` from the folder above would find the clone."""
    assert not (ROOT / "__init__.py").exists()


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The interpreter of a new environment that sees this one's packages, tinydiff aside; skips without setuptools."""
    pytest.importorskip("setuptools", "70.1")  # makes wheels by itself
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (site,) = folder.glob("**/site-packages")
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site / "packages_of_the_test.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    yield python


@pytest.mark.slow
@pytest.mark.parametrize("editable", [True, False], ids=["editable", "wheel"])
def test_an_install_is_found_from_every_folder(above: Path, venv: Path, tmp_path: Path, editable: bool) -> None:
    environment = without_python_path()
    clone = above / "tinydiff"
    pip = [str(venv), "-m", "pip", "--disable-pip-version-check", "-q"]
    what = ["-e", str(clone)] if editable else [str(clone)]
    # --force-reinstall: the version is the one that is there already, and pip would be content with it.
    install = [*pip, "install", "--no-build-isolation", "--no-deps", "--no-index", "--force-reinstall", *what]
    subprocess.run(install, env=environment, check=True)
    package = (clone / "tinydiff").resolve()
    installed = package if editable else imported(venv, tmp_path, environment)
    assert editable or venv.parents[1].resolve() in installed.parents
    for where in (above, tmp_path):
        assert imported(venv, where, environment) == installed
    assert imported(venv, clone, environment) == package  # python -c puts the folder it is in first
    script = venv.parent / ("tinydiff.exe" if os.name == "nt" else "tinydiff")
    said = subprocess.run([str(script), "--version"], cwd=above, env=environment, capture_output=True, text=True)
    assert said.stdout == f"tinydiff {tinydiff.__version__}\n"


@pytest.mark.slow
def test_a_wheel_holds_data_weights_and_licences(above: Path, venv: Path, tmp_path: Path) -> None:
    build = [str(venv), "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*build, str(above / "tinydiff")], env=without_python_path(), check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    data = [file for file in tracked() if file.startswith("data/") and file.endswith((".safetensors", ".gz", ".md"))]
    licences = ["data/fashion-mnist/LICENSE.fashion-mnist", "data/nuclei/LICENSE.stardist", "data/nuclei/mask.png"]
    assert [file for file in [*data, *licences] if f"tinydiff/{file}" not in names] == []
    assert [file for file in names if "LICENSE" in file and ".dist-info/" in file]
