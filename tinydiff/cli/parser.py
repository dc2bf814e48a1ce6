"""The command line: what `tinydiff` and each of its commands take.

Arguments are checked before anything heavy is imported, so that `--help` and mistakes answer at once.
"""

import argparse
from collections.abc import Callable

import tinydiff
from tinydiff.cli import commands
from tinydiff.cli.types import (
    Parser,
    at_least,
    existing_file,
    existing_folder,
    file_to_write,
    folder_to_make,
    guidance_scale,
    noise_level,
    part_of_one,
    picture_to_write,
    prompt,
    share,
    share_or_end,
)

BENCHMARKS = ("conv", "ladder", "step", "sampling", "memory", "threads")
PRESETS = ("quick", "full", "full-48", "full-iadb", "pixels", "pixels-iadb", "paper")
GUIDANCE, INTERVAL = 5.0, [0.0, 0.7]  # those of diffusion/guidance.py, which needs NumPy
PARTS = ("autoencoder", "words", "denoiser", "judge", "all", "segmentation")


def build_parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="tinydiff",
        description="Stable Diffusion, from the convolution up, in NumPy and Numba.",
        epilog='Begin with: tinydiff generate "a red dress on a white background"',
    )
    top.add_argument("--version", action="version", version=f"tinydiff {tinydiff.__version__}")
    added_to = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None], line: str) -> argparse.ArgumentParser:
        added = added_to.add_parser(
            run.__name__, help=line, description=line, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        added.set_defaults(run=run)
        return added

    def sampling(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--steps", type=at_least(1), default=25, help="denoising steps")
        sub.add_argument("--guidance", type=guidance_scale, default=GUIDANCE, help="classifier-free; 1 is none")
        sub.add_argument(
            "--interval",
            type=share_or_end,
            nargs=2,
            default=INTERVAL,
            metavar=("LOW", "HIGH"),
            help="guidance only between these shares of the noise levels; 0 1 is everywhere",
        )
        sub.add_argument("--seed", type=at_least(0), default=0, help="the same seed gives the same pictures")
        sub.add_argument(
            "--weights", type=existing_folder, metavar="DIR", help="a folder that train wrote; else shipped"
        )

    def sampler(sub: argparse.ArgumentParser) -> None:
        samplers = ("ddim", "ddpm", "dpm", "heun")
        sub.add_argument("--sampler", choices=samplers, default="ddim", help="how to go from noise to picture")

    def output(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "-o", "--output", type=picture_to_write, default="picture.png", metavar="FILE", help="the PNG to write"
        )

    def on_device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: an NVIDIA GPU")

    sub = command(commands.generate, "draw pictures of prompts")
    sub.add_argument(
        "prompts",
        type=prompt,
        nargs="+",
        metavar="PROMPT",
        help='"a {colour} {garment} on a {background} background", and more',
    )
    sub.add_argument("-n", type=at_least(1), default=16, help="pictures of each prompt")
    sampling(sub)
    sampler(sub)
    output(sub)
    on_device(sub)
    sub.add_argument("--each", action="store_true", help="write each picture to a file of its own")
    sub.add_argument("--init", type=existing_file, metavar="FILE", help="change this picture instead of making one")
    sub.add_argument("--strength", type=part_of_one, help="how much --init changes, up to 1; else 0.6, with --mask 1")
    sub.add_argument("--mask", type=existing_file, metavar="FILE", help="change --init only where this is white")

    sub = command(commands.interpolate, "draw the pictures between two prompts or two seeds")
    sub.add_argument("prompt", type=prompt, metavar="PROMPT", help="where to begin")
    sub.add_argument("to", type=prompt, nargs="?", metavar="PROMPT", help="where to end; else at another seed")
    sub.add_argument("--to-seed", type=at_least(0), default=1, help="the other seed, where there is one prompt")
    sub.add_argument("-n", type=at_least(2), default=8, help="pictures, both ends included")
    sampling(sub)
    sampler(sub)
    output(sub)
    on_device(sub)

    sub = command(commands.invert, "find the noise of a picture by DDIM backwards, and draw it again")
    sub.add_argument("image", type=existing_file, metavar="IMAGE", help="the picture; its middle square is taken")
    sub.add_argument("prompt", type=prompt, metavar="PROMPT", help="what the picture shows")
    sub.add_argument(
        "--steps", type=at_least(1), nargs="+", default=[10, 25, 50, 100, 250], help="numbers of steps to compare"
    )
    sub.add_argument("--weights", type=existing_folder, metavar="DIR", help="a folder that train wrote; else shipped")
    output(sub)
    on_device(sub)

    sub = command(commands.attention, "draw a picture and show where each word of its prompt acts")
    sub.add_argument("prompt", type=prompt, metavar="PROMPT", help="what to draw")
    sampling(sub)
    output(sub)
    on_device(sub)

    sub = command(commands.denoise, "take the noise out of pictures")
    sub.add_argument("images", type=existing_file, nargs="+", metavar="IMAGE", help="PNG, TIFF, JPEG or BMP")
    sub.add_argument("-o", "--output", type=folder_to_make, default=".", metavar="DIR", help="where the results go")
    sub.add_argument(
        "--level", type=noise_level, default="auto", help="standard deviation of the noise, in 255ths; auto estimates"
    )
    sub.add_argument("--steps", type=at_least(1), default=50, help="of the way in small steps")
    sub.add_argument("--seed", type=at_least(0), default=0, help="for the small steps")
    sub.add_argument("--weights", type=existing_folder, metavar="DIR", help="a run of --preset pixels; else shipped")
    on_device(sub)

    sub = command(commands.segment, "find the cells in pictures")
    sub.add_argument("images", type=existing_file, nargs="+", metavar="IMAGE", help="PNG, TIFF, JPEG or BMP")
    sub.add_argument("-o", "--output", type=folder_to_make, default=".", metavar="DIR", help="where the results go")
    sub.add_argument(
        "--mask", type=existing_file, metavar="FILE", help="the true mask of one IMAGE: measures, and shows the errors"
    )
    sub.add_argument("--weights", type=existing_folder, metavar="DIR", help="a folder that train wrote; else shipped")
    on_device(sub)

    sub = command(commands.train, "train from nothing, or go on with a run")
    sub.add_argument("part", nargs="?", choices=PARTS, default="all", help="what to train")
    sub.add_argument("--preset", choices=PRESETS, default="quick", help="how much")
    sub.add_argument("--data", type=existing_folder, metavar="DIR", help="folder of Fashion-MNIST's files")
    sub.add_argument("--out", type=folder_to_make, metavar="DIR", help="folder of the run; else runs/PRESET")
    on_device(sub)
    sub.add_argument("--resume", action="store_true", help="continue the run in that folder")
    sub.add_argument("--images", type=existing_folder, metavar="DIR", help="your own pictures to learn from")
    sub.add_argument(
        "--captions", type=existing_file, metavar="FILE", help="their captions: a CSV file, file name, caption"
    )
    sub.add_argument(
        "--size", type=int, choices=(32, 64), default=32, help="what your pictures are brought to, in pixels"
    )
    sub.add_argument(
        "--masks", type=existing_folder, metavar="DIR", help="segmentation: their masks, of the same names"
    )
    sub.add_argument(
        "--until-iou",
        type=share,
        metavar="IOU",
        help="segmentation: until the right-hand fifth, not learnt from, is so good",
    )
    sub.add_argument("--unpadded", action="store_true", help="segmentation: convolutions without padding")

    sub = command(commands.evaluate, "let the judge look at pictures of seen and unseen prompts")
    sub.add_argument("-n", type=at_least(1), default=2000, help="pictures to draw")
    sampling(sub)
    sub.add_argument("--data", type=existing_folder, metavar="DIR", help="folder of Fashion-MNIST's files")
    sub.add_argument("--json", type=file_to_write, metavar="FILE", help="write the figures to a file, too")

    sub.add_argument(
        "--neighbours", type=picture_to_write, metavar="FILE", help="draw pictures with those they are nearest to"
    )
    sub.add_argument("--classifier", action="store_true", help="also train one on drawn pictures and one on real ones")

    sub = command(commands.bench, "measure speed and memory, against PyTorch where it is installed")
    sub.add_argument("groups", nargs="*", choices=(*BENCHMARKS, "all"), default="all", help="what to measure")
    on_device(sub)
    sub.add_argument("--dry", action="store_true", help="with --device cuda: count and compile, without a GPU")
    sub.add_argument("--rounds", type=at_least(1), default=15, help="how often each is timed; the median counts")
    sub.add_argument("--json", type=file_to_write, metavar="FILE", help="write the figures to a file, too")
    sub.add_argument("-o", "--output", type=picture_to_write, metavar="FILE", help="draw the ratios as a PNG")

    sub = command(commands.convert, "bring weights and checkpoints of tinydiff 0.1 to the present format")
    sub.add_argument("folder", type=existing_folder, metavar="DIR", help="their folder; the arrays stay as they are")

    command(commands.doctor, "show versions, threads, cache, data, weights and CUDA: what is used here and why")
    return top
