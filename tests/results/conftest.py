"""The studies of notebooks/results are scripts, which no package holds."""

import importlib
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "notebooks" / "results"


@pytest.fixture(scope="module")
def study(request):
    """The script that a file of tests is named after, as `python notebooks/results/NAME.py` would find its imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(RESULTS)
        yield importlib.import_module(request.path.stem.removeprefix("test_"))
