"""`pytest -m notebooks` runs every notebook in a fresh kernel; the default `pytest` takes the shortest alone."""

from pathlib import Path

import pytest

SHORTEST = "00_introduction.ipynb"


def pytest_collection_modifyitems(items):
    for item in items:
        path = Path(item.path)
        if path.suffix == ".ipynb":
            item.add_marker(pytest.mark.notebooks)
            if path.name == SHORTEST:
                item.add_marker(pytest.mark.short)
