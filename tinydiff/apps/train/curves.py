"""Curves: what a training's losses did."""

from pathlib import Path

import numpy as np

from tinydiff.errors import InputError
from tinydiff.files import written_whole


def loss_curves(folder: str | Path, path: str | Path | None = None) -> Path:
    """The losses in `folder`'s CSV files, as training writes them (step, loss), a panel each; returns the PNG's path.

    Each step's loss is pale, the mean of its hundredth of the run dark.  Raises InputError if there are none.
    """
    from matplotlib.figure import Figure

    files = [file for file in sorted(Path(folder).glob("*.csv")) if file.read_bytes().startswith(b"step,loss")]
    if not files:
        raise InputError(f"loss_curves: no CSV files in {folder}")
    figure = Figure(figsize=(4.5 * len(files), 3.2), layout="constrained")
    for axes, file in zip(np.atleast_1d(figure.subplots(1, len(files))), files, strict=True):
        step, loss = np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2).T
        width = max(1, len(loss) // 100)
        means = [part.mean() for part in np.array_split(loss, max(1, len(loss) // width))]
        axes.plot(step, loss, color="#9ecae1", linewidth=0.6)
        axes.plot(np.linspace(step[0], step[-1], len(means)), means, color="#08519c", linewidth=1.6)
        axes.set(title=file.stem, xlabel="step", ylabel="loss", yscale="log")
        axes.grid(alpha=0.3, which="both")
    target = Path(path) if path is not None else Path(folder) / "loss.png"
    with written_whole(target) as beside:
        figure.savefig(beside, format="png", dpi=110)
    return target
