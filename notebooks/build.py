"""Make the notebooks from their scripts and run them: `python notebooks/build.py [01 03 …]`, all without a number.

Each notebook is written in `scripts/` as a percent script (jupytext), which is what a review reads; this runs it in a
fresh kernel and saves it with its outputs.  Needs `pip install -e ".[notebooks,dev]"`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
TIMEOUT = 600  # seconds a cell may take


def build(script: Path) -> None:
    """Run one script's notebook and save it beside this file."""
    notebook = jupytext.read(script)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    start = time.monotonic()
    client = NotebookClient(notebook, timeout=TIMEOUT, store_widget_state=False, resources={"metadata": {"path": HERE}})
    client.execute()
    seconds = time.monotonic() - start
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # nbformat draws it at random: an unchanged notebook is an unchanged file
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
    target = HERE / f"{script.stem}.ipynb"
    nbformat.write(notebook, target)
    print(f"{target.name}: {seconds / 60:.1f} min, {target.stat().st_size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    chosen = sys.argv[1:] or [""]
    for script in sorted((HERE / "scripts").glob("*.py")):
        if any(script.name.startswith(number) for number in chosen):
            build(script)
