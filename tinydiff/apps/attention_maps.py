"""Which words each position of the image attends to: cross-attention made visible.

At every denoising step each position of the U-Net's feature maps asks all words, and mixes what they answer by a
softmax over them (`ops/attention.py`).  These weights, seen for one word over all positions, are an image of where that
word acts.  (Hertz 2022, arXiv:2208.01626)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.device import to_numpy
from tinydiff.diffusion.samplers import Options
from tinydiff.nn.blocks import Attention
from tinydiff.nn.module import Module, forward_hook
from tinydiff.pipelines.text_to_image import TextToImage


@dataclass(frozen=True)
class AttentionMaps:
    """How much each position attends to each word, while an image is generated."""

    image: np.ndarray  # uint8 (H, W, 3)
    words: list[str]  # of the prompt, L of them
    maps: np.ndarray  # float32 (steps, L, h, w): the mean over heads and layers; begin, end and padding have the rest
    predicted: np.ndarray  # uint8 (steps, H, W, 3): the image x̂0 that the network expects at each step


def attention_maps(
    pipe: TextToImage,
    prompt: str,
    steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    seed: int = 0,
) -> AttentionMaps:
    """Generate an image by DDIM and record every cross-attention.  Raises InputError as `pipe.generate` does."""
    words = pipe.vocabulary.split(prompt)
    of_this_step: list[np.ndarray] = []  # weights (positions, tokens), one array a layer
    maps: list[np.ndarray] = []
    predicted: list[np.ndarray] = []

    def record(layer: Module, inputs: tuple, y: Any) -> None:
        if isinstance(layer, Attention) and len(inputs) == 2:  # an image and a text
            # The last of the batch: guidance puts the empty prompt first.
            of_this_step.append(cross_attention_weights(layer, *inputs)[-1])

    def after_step(done: int, x: Array, x0: Array) -> None:
        side = int(np.sqrt(max(len(weights) for weights in of_this_step)))  # of the largest feature map
        mean = np.mean([_enlarged(weights, side) for weights in of_this_step], 0)
        maps.append(mean[..., 1 : len(words) + 1])  # behind the token that begins a prompt
        predicted.append(pipe.decode(x0)[0])
        of_this_step.clear()

    with forward_hook(record):
        options = Options(callback=after_step)
        asked = steps, guidance_scale, guidance_interval
        image = pipe.generate([prompt], *asked, seed=seed, sampler="ddim", options=options)[0]
    return AttentionMaps(image, words, np.stack(maps).transpose(0, 3, 1, 2), np.stack(predicted))


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
