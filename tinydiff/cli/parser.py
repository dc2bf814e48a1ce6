"""The command line: what `tinydiff` and each of its commands take.

Arguments are checked before anything heavy is imported, so that `--help` and mistakes answer at once.
"""

import argparse
from collections.abc import Callable

import tinydiff
from tinydiff.cli import choices, commands
from tinydiff.cli.types import (
    Parser,
    at_least,
    existing_file,
    existing_folder,
    file_to_write,
    folder_to_make,
    guidance_scale,
    noise_level,
    number,
    png_to_write,
    prompt,
)

FILES = "PNG, TIFF, JPEG or BMP"
WEIGHTS = "a folder that train wrote; else shipped"


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

    generation_commands(command)
    image_commands(command)
    training_commands(command)
    measuring_commands(command)
    return top


Command = Callable[[Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]


def generation_commands(command: Command) -> None:
    """generate, interpolate, attention, invert"""
    sub = command(commands.generate, "generate images of prompts")
    add = sub.add_argument
    kinds = '"a {colour} {garment} on a {background} background", and more'
    add("prompts", type=prompt, nargs="+", metavar="PROMPT", help=kinds)
    add("-n", type=at_least(1), default=16, help="images of each prompt")
    sampling(sub)
    sampler(sub)
    output(sub)
    device(sub)
    add("--each", action="store_true", help="write each image to a file of its own")
    add("--init", type=existing_file, metavar="FILE", help="change this image instead of making one")
    strength = number(0, 1, above=True)
    add("--strength", type=strength, help="how much --init changes, up to 1; else 0.6, with --mask 1")
    add("--mask", type=existing_file, metavar="FILE", help="change --init only where this is white")

    sub = command(commands.interpolate, "generate the images between two prompts or two seeds")
    add = sub.add_argument
    add("prompt", type=prompt, metavar="PROMPT", help="where to begin")
    add("to", type=prompt, nargs="?", metavar="PROMPT", help="where to end; else at another seed")
    add("--to-seed", type=at_least(0), default=1, help="the other seed, where there is one prompt")
    add("-n", type=at_least(2), default=8, help="images, both ends included")
    sampling(sub)
    sampler(sub)
    output(sub)
    device(sub)

    sub = command(commands.invert, "find the noise of an image by DDIM backwards, and generate the image from it")
    add = sub.add_argument
    add("image", type=existing_file, metavar="IMAGE", help="the image; its middle square is taken")
    add("prompt", type=prompt, metavar="PROMPT", help="what the image shows")
    counts = [10, 25, 50, 100, 250]
    add("--steps", type=at_least(1), nargs="+", default=counts, help="numbers of steps to compare")
    weights(sub)
    output(sub)
    device(sub)

    sub = command(commands.attention, "generate an image and show where each word of its prompt acts")
    sub.add_argument("prompt", type=prompt, metavar="PROMPT", help="what to generate")
    sampling(sub)
    output(sub)
    device(sub)


def image_commands(command: Command) -> None:
    """denoise, segment"""
    sub = command(commands.denoise, "take the noise out of images")
    add = sub.add_argument
    add("images", type=existing_file, nargs="+", metavar="IMAGE", help=FILES)
    folder(sub)
    level = "standard deviation of the noise, in 255ths; auto estimates"
    add("--level", type=noise_level, default="auto", help=level)
    add("--steps", type=at_least(1), default=50, help="of the way in small steps")
    add("--seed", type=at_least(0), default=0, help="for the small steps")
    weights(sub, "a run of --preset pixels; else shipped")
    device(sub)

    sub = command(commands.segment, "find the cells in images")
    add = sub.add_argument
    add("images", type=existing_file, nargs="+", metavar="IMAGE", help=FILES)
    folder(sub)
    mask = "the true mask of one IMAGE: measures, and shows the errors"
    add("--mask", type=existing_file, metavar="FILE", help=mask)
    weights(sub)
    device(sub)


def training_commands(command: Command) -> None:
    """train, convert"""
    sub = command(commands.train, "train from nothing, or go on with a run")
    add = sub.add_argument
    former = choices.FORMER_PARTS
    part = dict(nargs="?", choices=choices.PARTS, default="all", help="what to train")
    add("part", type=lambda text: former.get(text, text), **part)  # type: ignore[arg-type]
    add("--preset", choices=choices.PRESETS, default="quick", help="how much")
    data(sub)
    add("--out", type=folder_to_make, metavar="DIR", help="folder of the run; else runs/PRESET")
    device(sub)
    add("--resume", action="store_true", help="continue the run in that folder")
    add("--images", type=existing_folder, metavar="DIR", help="your own images to learn from")
    add("--captions", type=existing_file, metavar="FILE", help="their captions: a CSV file, file name, caption")
    size = "what your images are brought to, in pixels"
    add("--size", type=int, choices=choices.SIZES, default=choices.SIZES[0], help=size)
    add("--masks", type=existing_folder, metavar="DIR", help="segmentation: their masks, of the same names")
    until = "segmentation: until the IoU on the validation strip, the right-hand fifth of each image, is so good"
    add("--until-iou", type=number(0, 1, above=True, below=True), metavar="IOU", help=until)
    add("--unpadded", action="store_true", help="segmentation: convolutions without padding")

    sub = command(commands.convert, "bring a run of tinydiff 0.1 to this version's names, in place")
    sub.add_argument("folder", type=existing_folder, metavar="DIR", help="a folder that train wrote")


def measuring_commands(command: Command) -> None:
    """evaluate, bench, doctor"""
    sub = command(commands.evaluate, "let the evaluation classifier name images of seen and unseen prompts")
    add = sub.add_argument
    add("-n", type=at_least(1), default=2000, help="images to generate")
    sampling(sub)
    data(sub)
    json(sub)
    nearest = "show generated images with the training images that are nearest to them"
    add("--neighbours", type=png_to_write, metavar="FILE", help=nearest)
    both = "also train one on generated images and one on real ones"
    add("--classifier", action="store_true", help=both)

    sub = command(commands.bench, "measure speed and memory, against PyTorch where it is installed")
    add = sub.add_argument
    add("groups", nargs="*", choices=(*choices.BENCHMARKS, "all"), default="all", help="what to measure")
    device(sub)
    add("--dry", action="store_true", help="with --device cuda: count and compile, without a GPU")
    add("--rounds", type=at_least(1), default=15, help="how often each is timed; the median counts")
    json(sub)
    add("-o", "--output", type=png_to_write, metavar="FILE", help="show the ratios as a PNG")

    command(commands.doctor, "show versions, threads, cache, data, weights and CUDA: what is used here and why")


def sampling(sub: argparse.ArgumentParser) -> None:
    add = sub.add_argument
    add("--steps", type=at_least(1), default=25, help="denoising steps")
    add("--guidance", type=guidance_scale, default=choices.GUIDANCE_SCALE, help="classifier-free; 1 is none")
    between = "guidance only between these shares of the noise levels; 0 1 is everywhere"
    interval = dict(nargs=2, default=choices.GUIDANCE_INTERVAL, metavar=("LOW", "HIGH"), help=between)
    add("--interval", type=number(0, 1), **interval)  # type: ignore[arg-type]
    add("--seed", type=at_least(0), default=0, help="the same seed gives the same images")
    weights(sub)


def sampler(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--sampler", choices=choices.SAMPLERS, default="ddim", help="how to go from noise to image")


def weights(sub: argparse.ArgumentParser, which: str = WEIGHTS) -> None:
    sub.add_argument("--weights", type=existing_folder, metavar="DIR", help=which)


def output(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-o", "--output", type=png_to_write, default="picture.png", metavar="FILE", help="PNG to write")


def folder(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-o", "--output", type=folder_to_make, default=".", metavar="DIR", help="where the results go")


def device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", choices=choices.DEVICES, default="cpu", help="cuda: an NVIDIA GPU")


def data(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--data", type=existing_folder, metavar="DIR", help="folder of Fashion-MNIST's files")


def json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", type=file_to_write, metavar="FILE", help="write the figures to a file, too")
