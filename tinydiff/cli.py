"""The command line: `tinydiff generate | segment | train | evaluate | bench | doctor`.

Arguments are checked before anything heavy is imported, so that `--help` and mistakes answer at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import tinydiff
from tinydiff.arguments import (
    Parser,
    at_least,
    existing_file,
    existing_folder,
    file_to_write,
    folder_to_make,
    guidance_scale,
    picture_to_write,
    prompt,
    share,
)
from tinydiff.errors import Disagreement, InputError
from tinydiff.files import written_whole

BENCHMARKS = ("conv", "ladder", "step", "sampling", "memory", "threads")
PARTS = ("autoencoder", "words", "denoiser", "judge", "all", "segmentation")
WIDEST_ROW = 8  # pictures of one prompt that still make one row of the grid


# --- the commands


def generate(args: argparse.Namespace) -> None:
    _choose(args.device)
    pipe = tinydiff.load(args.weights)
    pipe.check(args.prompts, args.steps)
    pipe.to(args.device)
    prompts = [text for text in args.prompts for _ in range(args.n)]
    images = pipe.generate(prompts, steps=args.steps, guidance=args.guidance, seed=args.seed, sampler=args.sampler)

    from tinydiff import viz

    if not args.each:
        # Several prompts: one row for each, where it isn't too long.
        columns = args.n if len(args.prompts) > 1 and args.n <= WIDEST_ROW else None
        viz.save_grid(images, args.output, prompts, columns=columns)
        print(f"{args.output}: {len(images)} pictures")
        return
    digits = len(str(len(images)))
    names = [args.output.with_stem(f"{args.output.stem}-{i:0{digits}}") for i in range(1, len(images) + 1)]
    with ExitStack() as stack:  # all of them or none
        for image, name in zip(images, names, strict=True):
            viz.upscaled(image).save(stack.enter_context(written_whole(name)), format="PNG")
    print(f"{names[0]} to {names[-1].name}: {len(images)} pictures")


def train(args: argparse.Namespace) -> None:
    _choose(args.device)
    out = args.out or folder_to_make(f"runs/{args.preset}")
    if args.resume and not out.is_dir():
        raise InputError(f"--resume: there is no run to resume in {out}")
    if args.part != "segmentation":
        for option in ("images", "masks", "until_iou", "unpadded"):
            if getattr(args, option):
                raise InputError(f"--{option.replace('_', '-')} belongs to `train segmentation`, not to {args.part}")
        tinydiff.train(args.part, preset=args.preset, data=args.data, out=out, resume=args.resume, device=args.device)
        return
    if args.data:
        raise InputError("--data is the folder of Fashion-MNIST; segmentation takes --images and --masks")
    tinydiff.train_segmentation(
        args.images,
        args.masks,
        args.preset,
        out,
        until_iou=args.until_iou,
        padded=not args.unpadded,
        resume=args.resume,
        device=args.device,
    )


def segment(args: argparse.Namespace) -> None:
    _choose(args.device)
    from tinydiff.segmentation.command import segment_files

    segment_files(args.images, args.output, args.mask, args.weights, args.device, say=print)


def _choose(device: str) -> None:
    """Refuse a device that cannot be used here; Numba's simulator has to be chosen, as its arrays are NumPy's."""
    from tinydiff.arrays import check_device, simulated

    check_device(device)
    if device == "cuda" and simulated():
        tinydiff.use("cuda")


def evaluate(args: argparse.Namespace) -> None:
    figures = tinydiff.evaluate(
        args.weights, n=args.n, steps=args.steps, guidance=args.guidance, seed=args.seed, data=args.data
    )
    print(table(figures))
    if args.json:
        import json

        with written_whole(args.json) as beside:
            beside.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written to {args.json}")


def bench(args: argparse.Namespace) -> None:
    if args.dry and args.device != "cuda":
        raise InputError("--dry counts what the kernels for a GPU cost: it needs --device cuda")
    if args.dry:
        from tinydiff.bench.card import dry

        for line in dry():
            print(line, flush=True)
        return
    from tinydiff.bench import GROUPS, bench, conditions, report

    if args.device == "cuda":
        _choose("cuda")
        _refuse_simulator()
    found = conditions()
    print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    groups = ("card",) if args.device == "cuda" else GROUPS if "all" in args.groups else args.groups
    rows = bench(groups, args.rounds, on_row=lambda row: print(report.line(row), flush=True))
    print("\n".join(report.summary(rows)))
    if args.json:
        report.write_json(args.json, rows, found)
        print(f"written to {args.json}")
    if args.output:
        report.write_picture(args.output, rows, found)
        print(f"{args.output}: the ratios as a picture")


def _refuse_simulator() -> None:
    from tinydiff.arrays import simulated

    if simulated():
        raise InputError("bench: the simulator's times say nothing of a GPU; --dry counts without one")


def doctor(args: argparse.Namespace) -> None:
    from tinydiff.doctor import report

    print(report())


def table(figures: dict) -> str:
    """Figures as lines of text; a dict in the dict is a group of fractions, shown in per cent under its name."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines.append(name)
            lines += [f"  {key:<26}{100 * fraction:7.1f} %" for key, fraction in value.items()]
        else:
            lines.append(f"{name:<28}{value:7.4g}" if isinstance(value, float) else f"{name:<28}{value:>7}")
    return "\n".join(lines)


# --- the face


def parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="tinydiff",
        description="Stable Diffusion, from the convolution up, in NumPy and Numba.",
        epilog='Begin with: tinydiff generate "a red dress on a white background"',
    )
    top.add_argument("--version", action="version", version=f"tinydiff {tinydiff.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None], line: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            run.__name__, help=line, description=line, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        added.set_defaults(run=run)
        return added

    def sampling(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--steps", type=at_least(1), default=25, help="denoising steps")
        sub.add_argument("--guidance", type=guidance_scale, default=3.0, help="classifier-free guidance; 1 is none")
        sub.add_argument("--seed", type=at_least(0), default=0, help="the same seed gives the same pictures")
        sub.add_argument(
            "--weights", type=existing_folder, metavar="DIR", help="a folder that train wrote; else shipped"
        )

    def on_device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: an NVIDIA GPU")

    sub = command(generate, "draw pictures of prompts")
    sub.add_argument(
        "prompts",
        type=prompt,
        nargs="+",
        metavar="PROMPT",
        help='"a {colour} {garment} on a {background} background", and more',
    )
    sub.add_argument("-n", type=at_least(1), default=16, help="pictures of each prompt")
    sampling(sub)
    sub.add_argument(
        "--sampler", choices=("ddim", "ddpm", "dpm", "heun"), default="ddim", help="how to go from noise to picture"
    )
    sub.add_argument(
        "-o", "--output", type=picture_to_write, default="picture.png", metavar="FILE", help="the PNG to write"
    )
    on_device(sub)
    sub.add_argument("--each", action="store_true", help="write each picture to a file of its own")

    sub = command(segment, "find the cells in pictures")
    sub.add_argument("images", type=existing_file, nargs="+", metavar="IMAGE", help="PNG, TIFF, JPEG or BMP")
    sub.add_argument("-o", "--output", type=folder_to_make, default=".", metavar="DIR", help="where the results go")
    sub.add_argument(
        "--mask", type=existing_file, metavar="FILE", help="the true mask of one IMAGE: measures, and shows the errors"
    )
    sub.add_argument("--weights", type=existing_folder, metavar="DIR", help="a folder that train wrote; else shipped")
    on_device(sub)

    sub = command(train, "train from nothing, or go on with a run")
    sub.add_argument("part", nargs="?", choices=PARTS, default="all", help="what to train")
    sub.add_argument("--preset", choices=("quick", "full", "full-48", "paper"), default="quick", help="how much")
    sub.add_argument("--data", type=existing_folder, metavar="DIR", help="folder of Fashion-MNIST's files")
    sub.add_argument("--out", type=folder_to_make, metavar="DIR", help="folder of the run; else runs/PRESET")
    on_device(sub)
    sub.add_argument("--resume", action="store_true", help="continue the run in that folder")
    sub.add_argument("--images", type=existing_folder, metavar="DIR", help="segmentation: pictures to learn from")
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

    sub = command(evaluate, "let the judge look at pictures of seen and unseen prompts")
    sub.add_argument("-n", type=at_least(1), default=2000, help="pictures to draw")
    sampling(sub)
    sub.add_argument("--data", type=existing_folder, metavar="DIR", help="folder of Fashion-MNIST's files")
    sub.add_argument("--json", type=file_to_write, metavar="FILE", help="write the figures to a file, too")

    sub = command(bench, "measure speed and memory, against PyTorch where it is installed")
    sub.add_argument("groups", nargs="*", choices=(*BENCHMARKS, "all"), default="all", help="what to measure")
    on_device(sub)
    sub.add_argument("--dry", action="store_true", help="with --device cuda: count and compile, without a GPU")
    sub.add_argument("--rounds", type=at_least(1), default=15, help="how often each is timed; the median counts")
    sub.add_argument("--json", type=file_to_write, metavar="FILE", help="write the figures to a file, too")
    sub.add_argument("-o", "--output", type=picture_to_write, metavar="FILE", help="draw the ratios as a PNG")

    command(doctor, "show versions, threads, vector width, cache, data, weights and CUDA: what is used and why")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 2 for bad input, 1 for wrong results (NaN, disagreement), 130 at Ctrl-C."""
    try:
        args = parser().parse_args(argv)
        args.run(args)
    except (InputError, argparse.ArgumentTypeError, OSError) as error:
        return _complain(error, 2)
    except (FloatingPointError, Disagreement) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    return 0


def _complain(error: object, status: int) -> int:
    print(f"tinydiff: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
