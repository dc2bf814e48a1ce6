"""Which words each place of the picture listens to: cross-attention made visible.

At every denoising step each position of the U-Net's feature maps asks all words, and mixes what they answer by a
softmax over them (`ops/attention.py`).  These weights, seen for one word over all positions, are a picture of where
that word acts.  (Hertz 2022, arXiv:2208.01626)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.datasets.captions import tokens
from tinydiff.datasets.pixels import as_pixels
from tinydiff.device import to_numpy
from tinydiff.diffusion.guidance import GUIDANCE
from tinydiff.files import written_whole
from tinydiff.models.unet import UNet
from tinydiff.nn.blocks import Attention, TransformerBlock
from tinydiff.pipelines.text_to_image import TextToImage

SHOWN = 5  # steps in the figure


@dataclass(frozen=True)
class AttentionMaps:
    """How much each place listens to each word, while a picture is drawn."""

    image: np.ndarray  # uint8 (H, W, 3)
    words: list[str]  # of the prompt, W of them
    maps: np.ndarray  # float32 (steps, W, h, w): the mean over heads and layers; what is missing to 1 goes to padding
    guesses: np.ndarray  # uint8 (steps, H, W, 3): the picture that the network expects at each step


def attention_maps(
    pipe: TextToImage, prompt: str, steps: int = 25, guidance: float = GUIDANCE, seed: int = 0
) -> AttentionMaps:
    """Draw a prompt by DDIM and watch every cross-attention on the way.  Raises InputError as `pipe.generate` does."""
    pipe.check([prompt], steps)
    words = tokens(prompt)
    places = list(range(1, len(words) + 1))  # behind the token that begins a prompt
    maps: list[np.ndarray] = []
    guesses: list[np.ndarray] = []
    with watched(pipe.denoiser.unet) as seen:

        def callback(done: int, x: Array, x0: Array) -> None:
            size = max(weights.shape[1] for weights in seen)  # positions of the largest feature map
            side = int(np.sqrt(size))
            maps.append(np.mean([_enlarged(weights[-1], side) for weights in seen], 0)[..., places])
            guesses.append(as_pixels(to_numpy(pipe.autoencoder.decode(x0)))[0])
            seen.clear()

        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((1, *pipe.latent), np.float32)
        image = pipe.draw(pipe.words([prompt]), noise, steps, guidance, "ddim", rng, callback=callback)[0]
    return AttentionMaps(image, words, np.stack(maps).transpose(0, 3, 1, 2), np.stack(guesses))


@contextmanager
def watched(unet: UNet) -> Iterator[list[np.ndarray]]:
    """Within this block each cross-attention leaves its weights in the list, (N, L, M): positions L, words M."""
    seen: list[np.ndarray] = []
    layers = [module.attn2 for _, module in unet.named_modules() if isinstance(module, TransformerBlock)]

    def watching(layer: Attention) -> None:
        answer = layer.forward

        def forward(x: Tensor, context: Tensor | None = None) -> Tensor:
            assert context is not None
            seen.append(cross_attention_weights(layer, x, context))
            return answer(x, context)

        layer.forward = forward  # type: ignore[method-assign]

    for layer in layers:
        watching(layer)
    try:
        yield seen
    finally:
        for layer in layers:
            del layer.forward  # type: ignore[method-assign]  # the class's own is seen again


def cross_attention_weights(layer: Attention, x: Tensor, context: Tensor) -> np.ndarray:
    """softmax(q·kᵀ/√d), the mean over heads: x (N, L, D), context (N, M, D') → (N, L, M)."""
    q, k = (to_numpy(part.data) for part in (layer.to_q(x), layer.to_k(context)))
    n, length, width = q.shape
    q = q.reshape(n, length, layer.heads, -1).transpose(0, 2, 1, 3)  # (N, heads, L, d)
    k = k.reshape(n, k.shape[1], layer.heads, -1).transpose(0, 2, 3, 1)  # (N, heads, d, M)
    return ops.softmax.forward(q @ k / np.sqrt(width / layer.heads).astype(q.dtype))[0].mean(1)


def _enlarged(weights: np.ndarray, side: int) -> np.ndarray:
    """(L, M) of a square feature map of L positions → (side, side, M), each position repeated."""
    own = int(np.sqrt(len(weights)))
    square = weights.reshape(own, own, -1)
    return square.repeat(side // own, 0).repeat(side // own, 1)


def draw_attention(found: AttentionMaps, path: str | Path) -> None:
    """A figure: above, what the network expects at some of the steps; below, where each word acts then."""
    from matplotlib.figure import Figure

    steps = len(found.maps)
    columns = sorted({round(i) for i in np.linspace(0, steps - 1, min(SHOWN, steps))})
    rows = len(found.words) + 1
    figure = Figure(figsize=(1.5 * (len(columns) + 1) + 1.2, 1.5 * rows), layout="constrained")
    axes = figure.subplots(rows, len(columns) + 1, squeeze=False)
    for place, step in enumerate([*columns, None]):
        axes[0, place].imshow(found.image if step is None else found.guesses[step])
        axes[0, place].set_title("the picture; mean" if step is None else f"step {step + 1}", fontsize=11)
        for row, maps in enumerate(found.maps.transpose(1, 0, 2, 3), start=1):
            shown = maps.mean(0) if step is None else maps[step]
            mesh = axes[row, place].imshow(shown, vmin=0, vmax=found.maps.mean(0).max(), cmap="viridis")
    for row, name in enumerate(["expected", *found.words]):
        axes[row, 0].set_ylabel(name, fontsize=12, rotation=0, ha="right", va="center")
    for one in axes.flat:
        one.set_xticks([])
        one.set_yticks([])
    figure.colorbar(mesh, ax=axes[1:, -1], shrink=0.8, label="weight of the word")
    with written_whole(path) as beside:
        figure.savefig(beside, format="png", dpi=100)
