"""Diffusion on latents against diffusion on pixels: `python -m tinydiff.bench.latent_vs_pixel`.

Latent diffusion's promise is speed: the article says that a latent space 48 times smaller makes everything 48 times
faster.  Here both models are measured on the same prompts, steps and guidance: multiply-adds and seconds for a picture,
memory, training time, and how good the pictures are.
"""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import tinydiff
from tinydiff import checkpoint
from tinydiff.apps.summary import multiply_adds
from tinydiff.autograd import Tensor
from tinydiff.bench.samplers import Measure
from tinydiff.cli.types import Parser, at_least, existing_folder, file_to_write
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.evaluation.evaluate import NEIGHBOURS
from tinydiff.files import written_whole
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.weights import shipped

PICTURES = 16  # of a timed call


@dataclass(frozen=True)
class Row:
    """One model."""

    space: str
    numbers: int  # that diffusion works on, for each picture
    parameters: int  # of the U-Net
    gmac_step: float  # 10⁹ multiply-adds of one question to the U-Net, for one picture
    gmac_picture: float  # of 25 guided steps and what makes pixels of the result
    seconds: float  # for 16 pictures
    megabytes: float  # that drawing them takes at most beside the weights
    training: int  # seconds, of the denoiser, as its file says
    frechet_ratio: float
    garment: float


def row(name: str, pipe: TextToImage, folder: Path, measure: Measure) -> Row:
    unet = pipe.denoiser.unet
    words = Tensor(pipe.encode_prompt(measure.prompts[:1]))
    step = multiply_adds(unet, Tensor(np.zeros((1, *pipe.latent_shape), np.float32)), np.zeros(1), words)
    decoder = getattr(pipe.autoencoder, "decoder", None)
    after = 0 if decoder is None else multiply_adds(decoder, Tensor(np.zeros((1, *pipe.latent_shape), np.float32)))
    low, high = (share * pipe.schedule.num_train_timesteps for share in GUIDANCE_INTERVAL)
    asked = sum(2 if low <= t < high else 1 for t in pipe.schedule.timesteps(25))
    prompts = measure.prompts[:PICTURES]
    pipe.generate(prompts, steps=1)  # compiles, and warms up
    tracemalloc.start()
    pipe.generate(prompts, steps=1)
    megabytes = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        pipe.generate(prompts)
        times.append(time.perf_counter() - start)
    found = measure.row(pipe, "ddim", 25, GUIDANCE_SCALE)
    return Row(
        space=name,
        numbers=int(np.prod(pipe.latent_shape)),
        parameters=sum(p.data.size for p in unet.parameters()),
        gmac_step=step / 1e9,
        gmac_picture=(asked * step + after) / 1e9,
        seconds=float(np.median(times)),
        megabytes=megabytes,
        training=checkpoint.load(folder / "denoiser.safetensors")[1].get("training", {}).get("seconds", 0),
        frechet_ratio=found.frechet_ratio,
        garment=found.garment,
    )


def main() -> int:
    parser = Parser(prog="python -m tinydiff.bench.latent_vs_pixel", description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=at_least(NEIGHBOURS + 1), default=1000, help="pictures that are judged")
    parser.add_argument("--latents", type=existing_folder, metavar="DIR", help="what train wrote; else shipped")
    parser.add_argument("--pixels", type=existing_folder, metavar="DIR", help="a run of --preset pixels; else shipped")
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="write the figures to a file, too")
    args = parser.parse_args()
    measure, rows = Measure(args.n), []
    for name, folder in (("latents", args.latents or shipped()), ("pixels", args.pixels or shipped() / "pixels")):
        rows.append(row(name, tinydiff.load(folder), folder, measure))
    for key, value in asdict(rows[0]).items():
        other = getattr(rows[1], key)
        ratio = "" if isinstance(value, str) or not value else f"{other / value:8.2f} ×"
        shown = (f"{v:>12,.4g}" if isinstance(v, float) else f"{v:>12}" for v in (value, other))
        print(f"{key:<16}{''.join(shown)}{ratio}")
    if args.json:
        with written_whole(args.json) as beside:
            beside.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
