"""Figures as files: what the commands and the benchmarks write."""

import json
from pathlib import Path
from typing import Any

from tinydiff.files import written_whole


def write_json(path: Path, figures: Any) -> None:
    """Figures as a JSON file, which appears whole or not at all."""
    with written_whole(path) as beside:
        text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file's name need not be Unicode
