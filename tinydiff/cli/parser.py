"""The command line: what `tinydiff` and each of its commands take.

Arguments are checked before anything heavy is imported, so that `--help` and mistakes answer at once.
"""

import argparse
from collections.abc import Callable
from typing import Any

import tinydiff
from tinydiff.cli import choices, commands, types

Add = Callable[..., argparse.Action]  # a command's `add_argument`
Command = Callable[[Callable[[argparse.Namespace], None], str], Add]

FILES = "PNG, TIFF, JPEG or BMP"
FILE: dict[str, Any] = dict(type=types.existing_file, metavar="FILE")
FOLDER: dict[str, Any] = dict(type=types.existing_folder, metavar="DIR")
WEIGHTS: dict[str, Any] = dict(type=types.existing, metavar="PATH")
PNG: dict[str, Any] = dict(type=types.png_to_write, metavar="FILE")
PROMPT: dict[str, Any] = dict(type=types.prompt, metavar="PROMPT")
SEED: dict[str, Any] = dict(type=types.at_least(0), default=0)
INTERVAL: dict[str, Any] = dict(type=types.number(0, 1), nargs=2, metavar=("LOW", "HIGH"))
OWN = "else what the weights ask for, the shipped ones"

SHARED: dict[str, dict[str, Any]] = {  # options that several commands take
    "--steps": dict(type=types.at_least(1), help=f"denoising steps; {OWN} 25"),
    "--guidance": dict(type=types.guidance_scale, help=f"classifier-free; 1 is none; {OWN} {choices.GUIDANCE_SCALE:g}"),
    "--interval": dict(INTERVAL, help=f"guidance only between these shares of the noise levels; {OWN} 0 0.7"),
    "--seed": dict(SEED, help="the same seed gives the same images"),
    "--weights": dict(WEIGHTS, help="a folder that train wrote, or Stable Diffusion 1.x; else shipped"),
    "--sampler": dict(choices=choices.SAMPLERS, help=f"how to go from noise to image; {OWN} ddim"),
    "--output": dict(PNG, default="picture.png", help="PNG to write"),
    "--device": dict(choices=choices.DEVICES, default="cpu", help="cuda: an NVIDIA GPU"),
    "--data": dict(FOLDER, help="folder of Fashion-MNIST's files"),
    "--page": dict(type=types.at_least(1), metavar="N", help="the image to take of a TIFF that holds several"),
    "--json": dict(type=types.file_to_write, metavar="FILE", help="write the figures to a file, too"),
}
SAMPLING = ("--steps", "--guidance", "--interval", "--seed", "--weights")


def build_parser() -> argparse.ArgumentParser:
    top = types.Parser(
        prog="tinydiff",
        description="Stable Diffusion, from the convolution up, in NumPy and Numba.",
        epilog='Begin with: tinydiff generate "a red dress on a white background"',
    )
    top.add_argument("--version", action="version", version=f"tinydiff {tinydiff.__version__}")
    added_to = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None], line: str) -> Add:
        shows_defaults = argparse.ArgumentDefaultsHelpFormatter
        added = added_to.add_parser(run.__name__, help=line, description=line, formatter_class=shows_defaults)
        added.set_defaults(run=run)
        return added.add_argument

    generation_commands(command)
    image_commands(command)
    training_commands(command)
    measuring_commands(command)
    return top


def shared(add: Add, *options: str) -> None:
    for option in options:
        names = ("-o", option) if option == "--output" else (option,)
        add(*names, **SHARED[option])


def generation_commands(command: Command) -> None:
    """generate, interpolate, attention, invert"""
    add = command(commands.generate, "generate images of prompts")
    add("prompts", nargs="+", **PROMPT, help='"a {colour} {garment} on a {background} background", and more')
    add("--negative", **PROMPT, help="a prompt to be led away from")
    for side in ("height", "width"):
        add(f"--{side}", type=types.at_least(1), help="in pixels; else what the weights were trained for")
    add("-n", type=types.at_least(1), default=16, help="images of each prompt")
    shared(add, *SAMPLING, "--sampler", "--output", "--device")
    add("--each", action="store_true", help="write each image to a file of its own")
    add("--init", **FILE, help="change this image instead of making one")
    strength = types.number(0, 1, above=True)
    add("--strength", type=strength, help="how much --init changes, up to 1; else 0.6, with --mask 1")
    add("--mask", **FILE, help="change --init only where this is white")
    shared(add, "--page")

    add = command(commands.interpolate, "generate the images between two prompts or two seeds")
    add("prompt", **PROMPT, help="where to begin")
    add("to", nargs="?", **PROMPT, help="where to end; else at another seed")
    add("--to-seed", type=types.at_least(0), default=1, help="the other seed, where there is one prompt")
    add("-n", type=types.at_least(2), default=8, help="images, both ends included")
    shared(add, *SAMPLING, "--sampler", "--output", "--device")

    add = command(commands.invert, "find the noise of an image by DDIM backwards, and generate the image from it")
    add("image", type=types.existing_file, metavar="IMAGE", help="the image; its middle square is taken")
    add("prompt", **PROMPT, help="what the image shows")
    counts = [10, 25, 50, 100, 250]
    add("--steps", type=types.at_least(1), nargs="+", default=counts, help="numbers of steps to compare")
    shared(add, "--weights", "--output", "--device", "--page")

    add = command(commands.attention, "generate an image and show where each word of its prompt acts")
    add("prompt", **PROMPT, help="what to generate")
    shared(add, *SAMPLING, "--output", "--device")


def image_commands(command: Command) -> None:
    """denoise, segment"""
    images: dict[str, Any] = dict(type=types.existing_file, nargs="+", metavar="IMAGE", help=FILES)
    output: dict[str, Any] = dict(type=types.folder_to_make, default=".", metavar="DIR", help="where the results go")

    add = command(commands.denoise, "take the noise out of images")
    add("images", **images)
    add("-o", "--output", **output)
    level = "standard deviation of the noise, in 255ths; auto estimates"
    add("--level", type=types.noise_level, default="auto", help=level)
    add("--steps", type=types.at_least(1), default=50, help="of the way in small steps")
    add("--seed", **SEED, help="for the small steps")
    add("--weights", **FOLDER, help="a run of --preset pixels; else shipped")
    shared(add, "--device", "--page")

    add = command(commands.segment, "find the cells in images")
    add("images", **images)
    add("-o", "--output", **output)
    add("--mask", **FILE, help="the true mask of one IMAGE: measures, and shows the errors")
    shared(add, "--weights", "--device", "--page")


def training_commands(command: Command) -> None:
    """train, convert"""
    add = command(commands.train, "train from nothing, or go on with a run")
    part: dict[str, Any] = dict(nargs="?", choices=choices.PARTS, default="all", help="what to train")
    add("part", type=lambda text: choices.FORMER_PARTS.get(text, text), **part)
    add("--preset", choices=choices.PRESETS, default="quick", help="how much")
    shared(add, "--data")
    add("--out", type=types.folder_to_make, metavar="DIR", help="folder of the run; else runs/PRESET")
    shared(add, "--device")
    add("--resume", action="store_true", help="continue the run in that folder")
    add("--images", **FOLDER, help="your own images to learn from")
    add("--captions", **FILE, help="their captions: a CSV file, file name, caption")
    size = "what your images are brought to, in pixels"
    add("--size", type=int, choices=choices.SIZES, default=choices.SIZES[0], help=size)
    add("--masks", **FOLDER, help="segmentation: their masks, of the same names")
    until = "segmentation: until the IoU on the validation strip, the right-hand fifth of each image, is so good"
    add("--until-iou", type=types.number(0, 1, above=True, below=True), metavar="IOU", help=until)
    add("--unpadded", action="store_true", help="segmentation: convolutions without padding")

    add = command(commands.convert, "bring a run of tinydiff 0.1 to this version's names, in place")
    add("folder", **FOLDER, help="a folder that train wrote")


def measuring_commands(command: Command) -> None:
    """evaluate, bench, doctor"""
    add = command(commands.evaluate, "let the evaluation classifier name images of seen and unseen prompts")
    add("-n", type=types.at_least(1), default=2000, help="images to generate")
    shared(add, *SAMPLING, "--data", "--json")
    add("--neighbours", **PNG, help="show generated images with the training images that are nearest to them")
    add("--classifier", action="store_true", help="also train one on generated images and one on real ones")

    add = command(commands.bench, "measure speed and memory, against PyTorch where it is installed")
    add(
        "groups",
        nargs="*",
        choices=(*choices.BENCHMARKS, "stable-diffusion", "all"),
        default="all",
        help="what to measure",
    )
    shared(add, "--device")
    add("--dry", action="store_true", help="with --device cuda: count and compile, without a GPU")
    add("--rounds", type=types.at_least(1), default=15, help="how often each is timed; the median counts")
    shared(add, "--json")
    add("-o", "--output", **PNG, help="show the ratios as a PNG")

    command(commands.doctor, "show versions, threads, cache, data, weights and CUDA: what is used here and why")
