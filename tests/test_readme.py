"""What the pages say: their links lead to files, their commands parse, and they are spelt in one way."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import pytest

import tinydiff
from tinydiff.cli import types
from tinydiff.cli.parser import build_parser
from tinydiff.pipelines import TextToImage

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "notebooks" / "results").glob("*.md")),
    *(ROOT / "notebooks" / "README.md", ROOT / "notebooks" / "exercises" / "TEACHING.md"),
    *(ROOT / "notebooks" / "exercises" / "GLOSSARY.md", ROOT / "data" / "README.md"),
    *(ROOT / ".github" / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"),
]
SPELT = [*PAGES, ROOT / "CITATION.cff"]  # and any .py: there its docstrings, and the text cells of a notebook's script
LINES = 150  # of the README


def name(path: object) -> str:
    return path.relative_to(ROOT).as_posix() if isinstance(path, Path) else str(path)


def blocks(text: str) -> list[str]:
    """What stands between fences."""
    return re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(pages: list[Path]) -> list[tuple[str, str]]:
    """(page, command) for every command of ours in a fenced block, without comment and environment."""
    found = []
    for page in pages:
        for line in "\n".join(blocks(page.read_text(encoding="utf-8"))).splitlines():
            for part in re.split(r" && |; ", line):
                part = re.sub(r"^(\w+=\S+ )+", "", part.strip())
                if re.match(r"(tinydiff|python (-m tinydiff[\w.]*|notebooks/\S+))( |$)", part):
                    found.append((name(page), part))
    return found


COMMANDS = commands(PAGES)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    text = without_blocks(page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", text)
    missing = []
    for link in links:
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            missing.append(link)
    assert missing == []


def headings(page: Path) -> set[str]:
    """As GitHub makes anchors of them."""
    lines = re.findall(r"^#+ (.+)$", without_blocks(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def test_every_page_of_results_is_in_its_index() -> None:
    index = ROOT / "notebooks" / "results" / "README.md"
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)\)", index.read_text(encoding="utf-8")))
    assert linked == {page.name for page in index.parent.glob("*.md")} - {"README.md"}


def test_every_image_of_the_data_is_shown_somewhere() -> None:
    shown = set()
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+\.png)\)", page.read_text(encoding="utf-8")):
            shown.add((page.parent / link).resolve())
    held = {path.resolve() for path in (ROOT / "data").rglob("*.png") if path.parent.name != "nuclei"}
    assert sorted(name(path) for path in held - shown) == []


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    """The command line, but no file that an argument names has to exist."""
    built = build_parser()
    paths = {types.existing, types.existing_file, types.existing_folder, types.folder_to_make, types.file_to_write}
    for sub in subcommands(built).values():
        for action in sub._actions:
            if action.type in paths:
                action.type = Path
    return built


@pytest.mark.parametrize("page, line", COMMANDS)
def test_every_command_is_one(parser: argparse.ArgumentParser, page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "python" and words[1] != "-m":
        assert wrong_in_a_script(ROOT / words[1], words[2:]) == [], page
        return
    if words[0] == "python" and words[2] != "tinydiff":
        assert wrong_in_a_module(words[2], words[3:]) == [], page
        return
    words = words[3:] if words[0] == "python" else words[1:]
    if re.search(r"[\[…|]", line):  # a synopsis: its options by name, and the choices of its arguments
        sub = subcommands(parser)[words[0]]
        options = re.findall(r"(?<![\w-])(-\w|--[a-z][\w-]*)", line)
        assert [option for option in options if option not in sub._option_string_actions] == [], page
        for choices in re.findall(r"\[(\w[\w|-]*\|[\w|-]*)\]", line):
            assert given_choices(sub, choices.split("|")), f"{page}: {choices}"
        return
    try:
        parser.parse_args(words)
    except SystemExit:
        pytest.fail(f"{page}: {line}")


def wrong_in_a_module(module: str, words: list[str]) -> list[str]:
    """What is wrong with `python -m module words`: a module that is not there or cannot be run, unknown options."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return [f"there is no module {module}"]
    file = Path(found.origin)
    return wrong_in_a_script(file.with_name("__main__.py") if file.name == "__init__.py" else file, words)


def wrong_in_a_script(file: Path, words: list[str]) -> list[str]:
    """The same of `python file words`."""
    if not file.is_file():
        return [f"there is no {name(file)}"]
    source = file.read_text(encoding="utf-8")
    if '__name__ == "__main__"' not in source:
        return [f"{name(file)} cannot be run"]
    options = [word for word in words if re.fullmatch(r"-\w|--[\w-]+", word)]
    return [option for option in options if f'"{option}"' not in source]


def test_what_is_wrong_in_a_script_is_found() -> None:
    samplers = ROOT / "notebooks" / "results" / "samplers.py"
    assert wrong_in_a_script(samplers, ["-n", "300", "--scales"]) == []
    assert wrong_in_a_script(samplers, ["--prompts"]) == ["--prompts"]
    assert wrong_in_a_script(samplers.with_name("studies.py"), []) == ["notebooks/results/studies.py cannot be run"]
    assert wrong_in_a_script(samplers.with_name("speed.py"), []) == ["there is no notebooks/results/speed.py"]


def given_choices(sub: argparse.ArgumentParser, wanted: list[str]) -> bool:
    """Whether one positional argument takes all of them."""
    return any(a.choices and set(wanted) <= set(a.choices) for a in sub._actions if not a.option_strings)


def test_every_file_that_a_page_s_commands_read_is_there_or_made_before() -> None:
    """`--init sneaker-1.png` needs the command that writes it, further up on the same page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks(text):
            for file in re.findall(r"(?:--init|--mask|tinydiff segment|tinydiff denoise|tinydiff invert) (\S+)", block):
                if file.isupper() or "…" in file:  # a synopsis
                    continue
                before = text[: text.index(f" {file}")]
                stem = re.sub(r"-\d+$", "", Path(file).stem)
                made = re.search(rf"-o {re.escape(stem)}\.png|save\('{re.escape(file)}'\)", before + block)
                assert made or (ROOT / file).exists(), f"{name(page)}: {file}"


# British, where the two differ; identifiers stand in code spans and are not looked at, and a tokenizer is called so.
AMERICAN = re.compile(
    r"\b(colors?|colored|(?<!& )gray|center(?:s|ed)?|behaviors?|neighbors?|favor\w*|labeled|modeling|analyz\w+|catalog"
    r"|(?!res|tokenizer)\w{3,}iz(?:e[sd]?|ing|ations?|ers?))\b",
    re.IGNORECASE,
)


def prose(path: Path) -> str:
    """What the authors say: no code, no quotations, no links' targets."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py" and path.parent.name == "scripts":
        cells = re.split(r"^# %%", text, flags=re.MULTILINE)
        text = "\n".join(cell for cell in cells if cell.startswith(" [markdown]"))
    elif path.suffix == ".py":
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        text = "\n".join(ast.get_docstring(n) or "" for n in ast.walk(ast.parse(text)) if isinstance(n, nodes))
    text = re.sub(r"^(# )?> .*$", "", without_blocks(text), flags=re.MULTILINE)  # nor quotations
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "", text)
    return re.sub(r"\]\([^)]*\)|https?://\S+", "", text)


@pytest.mark.parametrize("path", SPELT, ids=name)
def test_one_spelling(path: Path) -> None:
    assert [match[0] for match in AMERICAN.finditer(prose(path))] == []


@pytest.mark.parametrize(
    "text", ["a gray bag", "normalized", "The center of it", "its behavior", "optimizing", "a colored image"]
)
def test_the_other_spelling_is_found(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\nThis says {text}, and `color` in code.\n", encoding="utf-8")
    assert len(AMERICAN.findall(prose(page))) == 1


# The words of the house: what is not said, on pages that a user reads first.
NOT_SAID = re.compile(r"\b(pictures?|judges?|judged|rebuilt|twins?)\b", re.IGNORECASE)
OLD_WORDS = {"CHANGELOG.md"}  # tells what things were called


@pytest.mark.parametrize("path", [p for p in PAGES if p.name not in OLD_WORDS], ids=name)
def test_the_field_s_words(path: Path) -> None:
    assert [match[0] for match in NOT_SAID.finditer(prose(path))] == []


def python_calls() -> list[tuple[str, str, list[str]]]:
    """(page, name, keywords) of each call of `tinydiff.…` or `pipe.…` in a block of Python."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Call):
                    called, keywords = ast.unparse(node.func), [word.arg or "" for word in node.keywords]
                    if re.fullmatch(r"(tinydiff|pipe)(\.\w+)+", called):
                        found.append((name(page), called, keywords))
    return found


@pytest.mark.parametrize("page, called, keywords", python_calls())
def test_every_call_in_python_is_one(page: str, called: str, keywords: list[str]) -> None:
    first, *rest = called.split(".")
    target: object = tinydiff if first == "tinydiff" else TextToImage
    for part in rest:
        target = getattr(target, part)
    assert callable(target), page
    if called.startswith("tinydiff.ops."):  # of arrays and options, whatever the op
        return
    assert [word for word in keywords if word not in inspect.signature(target).parameters] == [], page
