"""Small enough to read: each ring of tinydiff/ has a limit, and the README says how long it is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIMITS = {"face": 150, "core": 5_600, "engine": 4_200, "whole": 19_100}  # lines, docstrings and all
LONGEST = 330  # lines of a file
FACE = ("__init__.py", "errors.py")  # what dispatches to all rings
WORKSHOP = ("apps", "segmentation", "evaluation", "viz", "exercises", "bench", "cli", "playground", "__main__.py")


def ring(module: Path) -> str:
    """Which ring a file of tinydiff/ is in."""
    first, *rest = module.relative_to(ROOT / "tinydiff").parts
    if first == "kernels" and rest[0] in ("cpu", "cuda"):
        return "engine"
    return "face" if first in FACE else "workshop" if first in WORKSHOP else "core"


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def lines() -> dict[str, int]:
    counted = {"face": 0, "core": 0, "engine": 0, "workshop": 0}
    for path in (ROOT / "tinydiff").rglob("*.py"):
        counted[ring(path)] += lines_of(path)
    return {**counted, "whole": sum(counted.values())}


def test_each_ring_keeps_to_its_limit(lines: dict[str, int]) -> None:
    print(", ".join(f"{name} {count:,} lines" for name, count in lines.items()))
    assert {name: count for name, count in lines.items() if count > LIMITS.get(name, count)} == {}


def test_no_file_is_too_long_to_read_at_one_sitting() -> None:
    counts = {path.relative_to(ROOT).as_posix(): lines_of(path) for path in (ROOT / "tinydiff").rglob("*.py")}
    assert {name: count for name, count in counts.items() if count > LONGEST} == {}


@pytest.mark.parametrize("name", ["face", "core", "engine", "workshop"])
def test_the_readme_says_how_long_each_ring_is(name: str, lines: dict[str, int]) -> None:
    row = re.search(rf"^\| {name} \| ([\d,]+) lines \| ", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert row is not None
    assert int(row[1].replace(",", "")) == pytest.approx(lines[name], rel=0.02)
