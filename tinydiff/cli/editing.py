"""Images from files, edited and inverted: what `generate --init` and `invert` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinydiff.apps.data.image_files import read_square
from tinydiff.datasets.pixels import as_floats
from tinydiff.evaluation.metrics import psnr
from tinydiff.pipelines.editing import reconstruct
from tinydiff.pipelines.text_to_image import TextToImage


def edit_file(
    pipe: TextToImage,
    picture: str | Path,
    prompts: Sequence[str],
    strength: float | None = None,
    mask: str | Path | None = None,
    **options: Any,
) -> np.ndarray:
    """`edit` of a file's middle square, once for each prompt, only where the mask's is white if there is one.

    strength: without it 0.6, and with a mask 1, so that what was there is forgotten.
    """
    images = np.repeat(read_square(picture, pipe.size)[None], len(prompts), 0)
    white = None if mask is None else read_square(mask, pipe.size).max(-1) > 127
    return pipe.edit(images, prompts, strength or (0.6 if mask is None else 1.0), white, **options)


def invert_file(
    pipe: TextToImage, picture: str | Path, prompt: str, steps: Sequence[int]
) -> tuple[np.ndarray, list[str]]:
    """A file's middle square, what the autoencoder alone makes of it, and what DDIM draws again from its noise.

    Pictures, uint8 (2 + len(steps), H, W, 3), and a caption for each with its error in dB: the autoencoder's to the
    picture, the others' to the autoencoder's, so that it is inversion's alone.
    """
    images = read_square(picture, pipe.size)[None]
    pipe.check([prompt], max(steps))
    latent = pipe.autoencoder.encode(pipe.denoiser.place(as_floats(images)))
    rebuilt = pipe.decode(latent)
    pictures, captions = [images, rebuilt], ["the picture", f"autoencoder alone: {psnr(rebuilt, images):.1f} dB"]
    for count in steps:
        pictures.append(reconstruct(pipe, pipe.invert(images, [prompt], count), [prompt], count))
        captions.append(f"{count} steps and back: {psnr(pictures[-1], rebuilt):.1f} dB")
    return np.concatenate(pictures), captions
