"""What every notebook must have: outputs, no error, its script in step, a header, questions, and no machine's path."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
FILES = sorted(NOTEBOOKS.glob("0*.ipynb"))
MEGABYTES = 12


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text(cell: dict) -> str:
    return "".join(cell["source"])


def prose(path: Path) -> str:
    return "\n\n".join(text(cell) for cell in cells(path) if cell["cell_type"] == "markdown")


def test_there_is_one_for_each_section_and_they_are_small() -> None:
    assert [path.name[:2] for path in FILES] == ["00", "01", "02", "03", "04", "05", "06"]
    assert sum(path.stat().st_size for path in NOTEBOOKS.rglob("*") if path.is_file()) < MEGABYTES * 1e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_was_run_from_top_to_bottom_without_an_error(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell["outputs"] if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert any("image/png" in o.get("data", {}) for cell in code for o in cell["outputs"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_what_its_script_says(path: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    script = jupytext.read(NOTEBOOKS / "scripts" / f"{path.stem}.py")
    assert [(c.cell_type, c.source) for c in script.cells] == [(c["cell_type"], text(c)) for c in cells(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_what_it_is_for_and_asks_questions(path: Path) -> None:
    header, body = text(cells(path)[0]), prose(path)
    for heading in ("Goals", "Know first", "Time", "Reads"):
        assert re.search(rf"\*\*{heading}", header), heading
    assert re.search(r"minutes? on two cores|seconds on two cores", header)
    assert body.count("<details>") >= 3 and body.count("<details>") == body.count("</details>")
    assert "What to take away" in body and "Sources" in body


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", prose(path))
    assert links and [link for link in links if not (NOTEBOOKS / link).exists()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_names_no_path_of_the_machine_that_ran_it(path: Path) -> None:
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|usr|Users|opt)/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("scripts/*.py")), ids=lambda path: "/".join(path.parts[-3:]))
def test_it_speaks_the_words_of_the_field(path: Path) -> None:
    """An image is generated or reconstructed, and a classifier says what it shows."""
    words = r"\b(pictures?|rebuilt|judge[sd]?|latent scale|register tile|guided)\b"
    assert re.findall(words, path.read_text(encoding="utf-8"), re.IGNORECASE) == []


@pytest.mark.parametrize("path", sorted((NOTEBOOKS / "exercises" / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_an_exercise_names_sections_that_its_chapter_has(path: Path) -> None:
    chapter = (NOTEBOOKS / "scripts" / path.name).read_text(encoding="utf-8")
    headings = re.findall(r"^# #+ (.*)$", chapter, re.MULTILINE)
    text = " ".join(line.lstrip("# ") for line in path.read_text(encoding="utf-8").splitlines())
    assert [name for name in re.findall(r"Notebook section: \*(.*?)\*", text) if name not in headings] == []


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("scripts/*.py")), ids=lambda path: "/".join(path.parts[-3:]))
def test_what_it_imports_from_tinydiff_is_there(path: Path) -> None:
    """Without running it: a name that was changed in the library is missed here, in a second."""
    imports = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    named = [(node.module or "", alias.name) for node in imports for alias in node.names]
    missing = [
        f"{module}.{name}"
        for module, name in named
        if module.startswith("tinydiff")
        and not hasattr(importlib.import_module(module), name)
        and importlib.util.find_spec(f"{module}.{name}") is None
    ]
    assert missing == []
