"""What a network sees: its feature maps, layer by layer, and which input pixels an output depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydiff.autograd import Tensor, no_grad
from tinydiff.errors import InputError
from tinydiff.viz.figures import panels, subplots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tinydiff.models.unet2015 import UNet2015


def activations(model: Any, *inputs: Any) -> dict[str, np.ndarray]:
    """Every module's output, by the module's name ("" is the model itself), for plain arrays or Tensors as inputs."""
    from tinydiff.nn.module import forward_hook

    names = {id(module): name for name, module in model.named_modules()}
    found: dict[str, np.ndarray] = {}

    def keep(module: Any, inputs: tuple, y: Any) -> None:
        if isinstance(y, Tensor) and id(module) in names:
            found[names[id(module)]] = np.asarray(y.data)

    given = [Tensor(i) if isinstance(i, np.ndarray) and i.dtype.kind == "f" else i for i in inputs]
    with no_grad(), forward_hook(keep):
        model(*given)
    return found


def strongest(maps: np.ndarray, count: int = 1) -> np.ndarray:
    """The `count` channels of (H, W, C) that vary most over the image, as (count, H, W), the liveliest first."""
    if maps.ndim != 3 or not 1 <= count <= maps.shape[2]:
        raise InputError(f"strongest: {count} of maps {maps.shape}, expected (H, W, C) with that many channels")
    order = np.argsort(-maps.std((0, 1)), kind="stable")[:count]
    return maps[..., order].transpose(2, 0, 1)


def feature_maps(maps: np.ndarray, count: int = 8, title: str = "") -> Figure:
    """The liveliest channels of one layer's output (H, W, C) as panels."""
    count = min(count, maps.shape[-1])
    figure = panels(list(strongest(maps, count)), columns=min(count, 8), size=1.5)
    figure.suptitle(f"{title}  {'×'.join(map(str, maps.shape))}".strip())
    return figure


def field_of_view(network: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> np.ndarray:
    """How strongly the output in the middle depends on each input pixel: (H, W), 0 where it cannot.

    network: x (1, H, W, C) → (1, H', W', K); the gradient of one output pixel by x is taken for random x and a random
    mixture of its channels, its size summed over the input's channels.  Raises InputError for another shape.
    """
    if len(shape) != 4 or shape[0] != 1:
        raise InputError(f"field_of_view: shape {shape}, expected (1, H, W, C)")
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
    y = network(x)
    dy = np.zeros(y.shape, np.float32)
    dy[0, y.shape[1] // 2, y.shape[2] // 2] = rng.standard_normal(y.shape[3])
    y.backward(dy)
    assert x.grad is not None
    return np.abs(x.grad[0]).sum(-1)


def extent(seen: np.ndarray) -> tuple[int, int]:
    """Rows and columns of the smallest rectangle that holds all that is seen."""
    rows, columns = np.nonzero(seen)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def u_shape(model: UNet2015, image: np.ndarray) -> Figure:
    """The U-Net as its paper draws it, with the image's own features at each level: image (H, W, channels).

    Down on the left, up on the right, the lowest level in the middle; of each the liveliest channel.
    """
    found = activations(model, image[None].astype(np.float32))
    levels = len(model.config.block_out_channels)
    figure, axes = subplots((10.5, 2.25 * levels), levels, 3)
    for own in axes.flat:
        own.axis("off")
    for level in range(levels):
        lowest = level == levels - 1
        places = [(1, f"down.{level}")] if lowest else [(0, f"down.{level}"), (2, f"up.{levels - 2 - level}")]
        for column, name in places:
            maps = found[name][0]
            axes[level, column].imshow(strongest(maps)[0], cmap="viridis")
            axes[level, column].set_title(f"{name}: {'×'.join(map(str, maps.shape))}", fontsize=12)
        if not lowest:
            middle, arrow = axes[level, 1], {"arrowstyle": "->", "lw": 2}
            middle.annotate("", (1, 0.5), (0, 0.5), xycoords="axes fraction", arrowprops=arrow)
            text = "skip: added to the\nend of the channels"
            middle.text(0.5, 0.56, text, ha="center", transform=middle.transAxes)
    return figure
