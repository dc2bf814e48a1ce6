"""Diffusion on latents against diffusion on pixels: `python notebooks/results/latent_vs_pixel.py`.

Latent diffusion's promise is speed: the article says that a latent space 48 times smaller makes everything 48 times
faster.  Here both models are measured on the same prompts, steps and guidance: multiply-adds and seconds for an image,
memory, training time, and how good the images are.
"""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import tinydiff
from samplers import Measure
from studies import program, run, write_results
from tinydiff import checkpoint
from tinydiff.apps.summary import multiply_adds
from tinydiff.autograd import Tensor
from tinydiff.bench.timing import time_interleaved
from tinydiff.cli.types import at_least, existing_folder, file_to_write
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.evaluation.evaluate import NEIGHBOURS
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.weights import shipped_weights

IMAGES = 16  # of a timed call


@dataclass(frozen=True)
class ModelCosts:
    """What one model costs and gives."""

    space: str
    numbers: int  # that diffusion works on, for each image
    parameters: int  # of the U-Net
    gmac_step: float  # 10⁹ multiply-adds of one prediction of the U-Net, for one image
    gmac_image: float  # of 25 steps with guidance, and of the decoder
    seconds: float  # for 16 images
    megabytes: float  # that generating them takes at most beside the weights
    training: int  # seconds, of the denoiser, as its file says
    frechet_ratio: float
    garment: float


def costs(name: str, pipe: TextToImage, folder: Path, measure: Measure) -> ModelCosts:
    unet = pipe.denoiser.unet
    text = Tensor(pipe.encode_prompt(measure.prompts[:1]))
    latent = Tensor(np.zeros((1, *pipe.latent_shape), np.float32))
    step = multiply_adds(unet, latent, np.zeros(1), text)
    decoder = getattr(pipe.autoencoder, "decoder", None)
    after = 0 if decoder is None else multiply_adds(decoder, latent)
    low, high = (share * pipe.schedule.num_train_timesteps for share in GUIDANCE_INTERVAL)
    asked = sum(2 if low <= t < high else 1 for t in pipe.schedule.timesteps(25))
    prompts = measure.prompts[:IMAGES]
    pipe.generate(prompts, steps=1)  # compiles, and warms up
    tracemalloc.start()
    pipe.generate(prompts, steps=1)
    megabytes = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    (seconds,) = time_interleaved(lambda: pipe.generate(prompts), rounds=3, warmup=0)
    found = measure.result(pipe, "ddim", 25, GUIDANCE_SCALE)
    return ModelCosts(
        space=name,
        numbers=int(np.prod(pipe.latent_shape)),
        parameters=sum(p.data.size for p in unet.parameters()),
        gmac_step=step / 1e9,
        gmac_image=(asked * step + after) / 1e9,
        seconds=seconds,
        megabytes=megabytes,
        training=checkpoint.load(folder / "denoiser.safetensors")[1].get("training", {}).get("seconds", 0),
        frechet_ratio=found.frechet_ratio,
        garment=found.garment,
    )


def main() -> None:
    parser = program("latent_vs_pixel", __doc__)
    add = parser.add_argument
    add("-n", type=at_least(NEIGHBOURS + 1), default=1000, help="images that are measured")
    add("--latents", type=existing_folder, metavar="DIR", help="what train wrote; else shipped")
    add("--pixels", type=existing_folder, metavar="DIR", help="a run of --preset pixels; else shipped")
    add("--json", type=file_to_write, metavar="FILE", help="write the figures to a file, too")
    args = parser.parse_args()
    measure = Measure(args.n)
    folders = {"latents": args.latents or shipped_weights(), "pixels": args.pixels or shipped_weights() / "pixels"}
    both = [costs(name, tinydiff.load(folder), folder, measure) for name, folder in folders.items()]
    for key, value in asdict(both[0]).items():
        other = getattr(both[1], key)
        ratio = "" if isinstance(value, str) or not value else f"{other / value:8.2f} ×"
        texts = (f"{v:>12,.4g}" if isinstance(v, float) else f"{v:>12}" for v in (value, other))
        print(f"{key:<16}{''.join(texts)}{ratio}")
    if args.json:
        write_results(args.json, both)


if __name__ == "__main__":
    sys.exit(run(main))
