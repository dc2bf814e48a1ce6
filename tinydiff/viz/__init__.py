"""Images of everything: grids of samples, losses, feature maps, steppers to go through an idea one step at a time.

Functions that draw return a matplotlib Figure or a PIL image: a notebook shows it, `save_figure` or `.save` keeps it.
Steppers (`stepper`) are sliders over such a function, with a filmstrip beside them for where no slider can run.
"""

from tinydiff.apps.grid import GAP, MARGIN, TEXT, WHITE, grid, save_grid, upscaled, wrapped
from tinydiff.apps.train.curves import loss_curves
from tinydiff.viz.figures import PALETTE, panels, save_figure, style, subplots
from tinydiff.viz.steppers import as_image, filmstrip, save_gif, stepper

__all__ = [
    "GAP",
    "MARGIN",
    "PALETTE",
    "TEXT",
    "WHITE",
    "as_image",
    "filmstrip",
    "grid",
    "loss_curves",
    "panels",
    "save_figure",
    "save_gif",
    "save_grid",
    "stepper",
    "style",
    "subplots",
    "upscaled",
    "wrapped",
]
