"""Which words each place of the image attends to: cross-attention made visible.

At every denoising step each position of the U-Net's feature maps asks all words, and mixes what they answer by a
softmax over them (`ops/attention.py`).  These weights, seen for one word over all positions, are an image of where that
word acts.  (Hertz 2022, arXiv:2208.01626)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.datasets.captions import tokens
from tinydiff.device import to_numpy
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.diffusion.samplers import Options
from tinydiff.models.unet import UNet
from tinydiff.nn.blocks import Attention, TransformerBlock
from tinydiff.nn.module import Module, forward_hook

if TYPE_CHECKING:
    from tinydiff.pipelines.text_to_image import TextToImage


@dataclass(frozen=True)
class AttentionMaps:
    """How much each place attends to each word, while an image is generated."""

    image: np.ndarray  # uint8 (H, W, 3)
    words: list[str]  # of the prompt, L of them
    maps: np.ndarray  # float32 (steps, L, h, w): the mean over heads and layers; begin, end and padding have the rest
    predicted: np.ndarray  # uint8 (steps, H, W, 3): the image x̂0 that the network expects at each step


def attention_maps(
    pipe: TextToImage,
    prompt: str,
    steps: int = 25,
    guidance_scale: float = GUIDANCE_SCALE,
    guidance_interval: tuple[float, float] = GUIDANCE_INTERVAL,
    seed: int = 0,
) -> AttentionMaps:
    """Generate an image by DDIM and record every cross-attention.  Raises InputError as `pipe.generate` does."""
    pipe.check([prompt], steps, guidance_interval, seed=seed)
    words = tokens(prompt)
    places = list(range(1, len(words) + 1))  # behind the token that begins a prompt
    maps: list[np.ndarray] = []
    predicted: list[np.ndarray] = []
    with recorded(pipe.denoiser.unet) as seen:

        def callback(done: int, x: Array, x0: Array) -> None:
            side = int(np.sqrt(max(weights.shape[1] for weights in seen)))  # of the largest feature map
            # The last of the batch: guidance puts the empty prompt first.
            maps.append(np.mean([_enlarged(weights[-1], side) for weights in seen], 0)[..., places])
            predicted.append(pipe.decode(x0)[0])
            seen.clear()

        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((1, *pipe.latent_shape), np.float32)
        text, options = pipe.encode_prompt([prompt]), Options(callback=callback)
        latents = pipe.sample(text, noise, steps, rng, guidance_scale, guidance_interval, options=options)
    return AttentionMaps(pipe.decode(latents)[0], words, np.stack(maps).transpose(0, 3, 1, 2), np.stack(predicted))


@contextmanager
def recorded(unet: UNet) -> Iterator[list[np.ndarray]]:
    """Within this block each cross-attention leaves its weights in the list, (N, L, M): positions L, words M."""
    seen: list[np.ndarray] = []
    layers = {id(module.attn2) for _, module in unet.named_modules() if isinstance(module, TransformerBlock)}

    def record(module: Module, inputs: tuple, y: Any) -> None:
        if isinstance(module, Attention) and id(module) in layers:
            seen.append(cross_attention_weights(module, *inputs))

    with forward_hook(record):
        yield seen


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
