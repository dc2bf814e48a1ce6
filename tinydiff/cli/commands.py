"""What each command of the command line does with its arguments, which `parser.py` has read and checked."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinydiff
from tinydiff.apps.outputs import refuse_overwriting
from tinydiff.cli.results import write_json
from tinydiff.cli.types import folder_to_make
from tinydiff.errors import InputError
from tinydiff.files import shipped

if TYPE_CHECKING:
    from tinydiff.pipelines.text_to_image import TextToImage

WIDEST_ROW = 8  # images of one prompt that still make one row of the grid


def generate(args: argparse.Namespace) -> None:
    from tinydiff import viz
    from tinydiff.cli.files import edit_file, save_all

    prompts = [text for text in args.prompts for _ in range(args.n)]
    digits = len(str(len(prompts)))
    names = [args.output.with_stem(f"{args.output.stem}-{i:0{digits}}") for i in range(1, len(prompts) + 1)]
    _check_outputs(args, names if args.each else [args.output], args.init, args.mask)
    pipe = _loaded(args)
    pipe.check(args.prompts, args.steps)
    options = {**_sampling(args), "sampler": args.sampler, "negative_prompt": args.negative}
    if args.init is not None:
        if args.height or args.width:
            raise InputError("--height and --width belong to a new image; one that --init names keeps its size")
        images = edit_file(pipe, args.init, prompts, args.strength, args.mask, args.page, **options)
    elif any(value is not None for value in (args.strength, args.mask, args.page)):
        raise InputError("--strength, --mask and --page belong to a changed image: name it with --init")
    else:
        images = pipe.generate(prompts, height=args.height, width=args.width, **options)
    if not args.each:
        # Several prompts: one row for each, where it isn't too long.
        columns = args.n if len(args.prompts) > 1 and args.n <= WIDEST_ROW else None
        viz.save_grid(images, args.output, prompts, columns=columns)
        print(f"{args.output}: {len(images)} images")
        return
    save_all({name: viz.upscaled(image) for name, image in zip(names, images, strict=True)})
    print(f"{names[0]} to {names[-1].name}: {len(images)} images")


def interpolate(args: argparse.Namespace) -> None:
    from tinydiff import viz

    _check_outputs(args, [args.output])
    pipe = _loaded(args)
    options = {**_sampling(args), "count": args.n, "sampler": args.sampler}
    if args.to is None:
        images = pipe.interpolate(args.prompt, to_seed=args.to_seed, **options)
        first, last = f"{args.prompt}, seed {args.seed}", f"seed {args.to_seed}"
    else:
        images = pipe.interpolate(args.prompt, args.to, **options)
        first, last = args.prompt, args.to
    viz.save_grid(images, args.output, [first, *[""] * (args.n - 2), last], columns=min(args.n, WIDEST_ROW))
    print(f"{args.output}: {args.n} images")


def invert(args: argparse.Namespace) -> None:
    from tinydiff import viz
    from tinydiff.cli.files import invert_file

    _check_outputs(args, [args.output], args.image)
    images, captions = invert_file(_loaded(args), args.image, args.prompt, args.steps, args.page)
    viz.save_grid(images, args.output, captions, columns=len(images))
    print("\n".join(captions[1:]))
    print(f"{args.output}: the image, through the autoencoder alone, and generated from its own noise")


def attention(args: argparse.Namespace) -> None:
    from tinydiff.apps.attention_maps import attention_maps
    from tinydiff.viz.attention import attention_figure
    from tinydiff.viz.figures import save_figure

    _check_outputs(args, [args.output])
    found = attention_maps(_loaded(args), args.prompt, **_sampling(args))
    save_figure(attention_figure(found), args.output)
    print(f"{args.output}: where each of {len(found.words)} words acts, in {len(found.maps)} steps")


def denoise(args: argparse.Namespace) -> None:
    from tinydiff.cli.files import DENOISED, denoise_files, named_after

    _check_outputs(args, named_after(args.images, args.output, DENOISED, args.page), *args.images)
    _choose(args.device)
    denoiser = tinydiff.load_denoiser(args.weights).to(args.device)
    denoise_files(denoiser, args.images, args.output, args.level, args.steps, args.seed, args.page)


def segment(args: argparse.Namespace) -> None:
    from tinydiff.cli.files import SEGMENTED, named_after, segment_files

    _check_outputs(args, named_after(args.images, args.output, SEGMENTED, args.page), *args.images, args.mask)
    _choose(args.device)
    segment_files(args.images, args.output, args.mask, args.weights, args.device, args.page)


def train(args: argparse.Namespace) -> None:
    _choose(args.device)
    out = args.out or folder_to_make(f"runs/{args.preset}")
    if args.resume and not out.is_dir():
        raise InputError(f"--resume: there is no run to resume in {out}")
    run = {"preset": args.preset, "out": out, "resume": args.resume, "device": args.device}
    if args.part == "segmentation":
        if args.captions:
            raise InputError("--captions does not belong to `train segmentation`, which takes --images and --masks")
        if args.data:
            raise InputError("--data is the folder of Fashion-MNIST; segmentation takes --images and --masks")
        aim = {"until_iou": args.until_iou, "padded": not args.unpadded}
        tinydiff.train_segmentation(args.images, args.masks, **aim, **run)
        return
    for option in ("masks", "until_iou", "unpadded"):
        if getattr(args, option):
            raise InputError(f"--{option.replace('_', '-')} belongs to `train segmentation`, not to {args.part}")
    own = {"data": args.data, "images": args.images, "captions": args.captions, "size": args.size}
    tinydiff.train(args.part, **own, **run)


def convert(args: argparse.Namespace) -> None:
    from tinydiff.apps.convert import convert

    convert(args.folder)


def _check_outputs(args: argparse.Namespace, outputs: Iterable[Path | None], *images: Path | None) -> None:
    """Refuse, before any work, an output that would replace a file that the command reads."""
    weights = (args.weights or shipped("weights")).rglob("*.safetensors")
    data = (getattr(args, "data", None) or shipped("fashion-mnist")).glob("*ubyte*")
    refuse_overwriting(outputs, [*images, *weights, *data])


def _loaded(args: argparse.Namespace) -> "TextToImage":
    _choose(args.device)
    return tinydiff.load(args.weights).to(args.device)


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The options that `generate` and its like share, as keyword arguments."""
    interval = None if args.interval is None else tuple(args.interval)
    chosen = {"steps": args.steps, "guidance_scale": args.guidance, "guidance_interval": interval}
    return {"seed": args.seed, **{name: value for name, value in chosen.items() if value is not None}}


def _choose(device: str) -> None:
    """Refuse a device that cannot be used here; Numba's simulator has to be chosen, as its arrays are NumPy's."""
    from tinydiff.device import check_device, simulated

    check_device(device)
    if device == "cuda" and simulated():
        tinydiff.use("cuda")


def evaluate(args: argparse.Namespace) -> None:
    import numpy as np

    from tinydiff import viz
    from tinydiff.evaluation.evaluate import classifiers, neighbours

    _check_outputs(args, [args.json, args.neighbours])
    options = {**_sampling(args), "data": args.data}
    figures = tinydiff.evaluate(args.weights, n=args.n, **options)
    print(table(figures))
    if args.neighbours:
        images, nearest, prompts, near = neighbours(args.weights, WIDEST_ROW, **options)
        captions = [*prompts, *[f"nearest in training: {decibels:.1f} dB" for decibels in near]]
        viz.save_grid(np.concatenate([images, nearest]), args.neighbours, captions, columns=WIDEST_ROW)
        print(f"{args.neighbours}: generated images above, the nearest training images below")
    if args.classifier:
        more = classifiers(args.weights, **{**options, "steps": 25})
        print(table(more))
        figures |= more
    if args.json:
        write_json(args.json, figures)
        print(f"written to {args.json}")


def bench(args: argparse.Namespace) -> None:
    if args.dry:
        if args.device != "cuda":
            raise InputError("--dry counts what the kernels for a GPU cost: it needs --device cuda")
        from tinydiff.bench.gpu import dry

        for line in dry():
            print(line, flush=True)
        return
    from tinydiff.bench import GROUPS, bench, conditions, report
    from tinydiff.device import simulated

    refuse_overwriting([args.json, args.output], [])
    _choose(args.device)
    if args.device == "cuda" and simulated():
        raise InputError("bench: the simulator's times say nothing of a GPU; --dry counts without one")
    found = conditions(args.device)
    print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    groups = ("gpu",) if args.device == "cuda" else GROUPS if "all" in args.groups else args.groups
    rows = bench(groups, args.rounds, on_row=lambda row: print(report.line(row), flush=True))
    print("\n".join(report.summary(rows)))
    if args.json:
        report.write_rows(args.json, rows, found)
        print(f"written to {args.json}")
    if args.output:
        report.write_image(args.output, rows, found)
        print(f"{args.output}: the ratios as an image")


def doctor(args: argparse.Namespace) -> None:
    from tinydiff.cli.doctor import report

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
