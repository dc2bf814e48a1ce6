"""Training the U-Net of 2015 on images with masks, until a chosen accuracy is reached."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from tinydiff import ops
from tinydiff.apps.data.image_files import Pair, read_pairs
from tinydiff.apps.data.nuclei import load_nuclei, simulate_nuclei
from tinydiff.apps.outputs import refuse_overwriting
from tinydiff.apps.train.curves import loss_curves
from tinydiff.apps.train.folder import files_of_run, folder_lock, refuse_another_run, refuse_existing, run_folder
from tinydiff.apps.train.session import fit, load_ema
from tinydiff.autograd import Array, Tensor
from tinydiff.device import check_device
from tinydiff.errors import InputError, MismatchError
from tinydiff.models.unet2015 import UNet2015
from tinydiff.segmentation import border_weights, classes, cut, normaliser, predict
from tinydiff.segmentation.metrics import overlap
from tinydiff.segmentation.presets import SegmentationPreset, segmentation_preset
from tinydiff.segmentation.tiles import Geometry
from tinydiff.training.loop import Task
from tinydiff.weights import save_weights

NAME = "segmentation"
VALIDATION_STRIP = 0.2  # the right-hand part of each image, which is not learnt from
VALIDATE_EVERY = 50  # steps
SIMULATED = 0.4  # share of the pieces, where the one shipped image is all there is
GENERATIONS = 10  # times the preset's steps: how long an accuracy is waited for


def train_segmentation(
    images: str | Path | None = None,
    masks: str | Path | None = None,
    preset: str = "quick",
    out: str | Path = "runs/quick",
    *,
    until_iou: float | None = None,
    padded: bool = True,
    resume: bool = False,
    device: str = "cpu",
) -> Path:
    """Train the U-Net of 2015 on a folder of images and one of masks of the same names; returns the run's folder.

    Without folders it learns from the left half of the shipped image of nuclei, and from simulated pieces with many
    nuclei, few and none, in haze and noise.  The right-hand fifth of each image, the validation strip, says how good
    the model is.  `until_iou`: go on until the intersection over union there reaches this, at most for ten times the
    preset's steps.  The weights go to `segmentation.safetensors`.
    Raises InputError for what does not fit, MismatchError where `until_iou` is not reached (the weights are kept).
    """
    settings = segmentation_preset(preset)
    if (images is None) != (masks is None):
        raise InputError("train segmentation: images and masks belong together; one of the two folders is missing")
    if until_iou is not None:  # the end is not known, so the learning rate cannot fall towards it
        settings = replace(settings, optim=replace(settings.optim, steps=GENERATIONS * settings.optim.steps, final=1.0))
    settings = replace(settings, model=replace(settings.model, padded=padded))
    check_device(device)
    if images is None or masks is None:
        pairs, source = [load_nuclei("left")], "the left half of the shipped nuclei, and simulated ones"
        settings = replace(settings, augmentation=replace(settings.augmentation, simulated=SIMULATED))
    else:
        pairs = read_pairs(images, masks, least=Geometry(settings.model).receptive_radius + 1)
        source = str(images)
        read = chain(Path(images).iterdir(), Path(masks).iterdir())
        refuse_overwriting(files_of_run(Path(out), (NAME,)), read)
    folder = run_folder(Path(out))
    path = folder / f"{NAME}.safetensors"
    kind = preset if padded else f"{preset}, unpadded"
    training = {"preset": kind, "data": source, "data_digest": fingerprint(pairs)}
    with folder_lock(folder):
        if not resume:
            refuse_existing(folder, (NAME,))
        refuse_another_run(path, training)
        if path.exists():
            print("tinydiff: segmentation is trained already, kept as it is", flush=True)
            if any(folder.glob("*.csv")):  # a kill may have come between the weights and their curves
                loss_curves(folder)
            return folder
        print(f"tinydiff: training segmentation ({preset}) on {source}, {len(pairs)} images", flush=True)
        start = time.monotonic()
        learnt = train_on_pairs(pairs, settings, folder, resume=resume, device=device, until_iou=until_iou)
        figures = {"seconds": round(time.monotonic() - start), "validation_iou": learnt.validation}
        config = {"model": asdict(settings.model), "training": {**training, **figures}}
        save_weights(folder, NAME, learnt.model.state_dict(), config)
        loss_curves(folder)
    step, iou = learnt.validation[-1]
    line = f"intersection over union {iou:.3f} on the validation strip, after {step} steps"
    if until_iou is not None and iou < until_iou:
        raise MismatchError(f"{line}; {until_iou} was asked for; the weights are in {path}")
    print(f"tinydiff: {line}; {path}", flush=True)
    return folder


@dataclass(frozen=True)
class Learnt:
    """A trained model, and how well it did on the validation strips."""

    model: UNet2015
    validation: list[tuple[int, float]]  # step, intersection over union


@dataclass(frozen=True)
class Example:
    """An image, ready to be cut from: float32 (H, W, channels), int32 (H, W) and float32 (H, W)."""

    image: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    strip_start: int  # the column where the validation strip begins

    def learnt_from(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        left = slice(self.strip_start)
        return self.image[:, left], self.labels[:, left], self.weights[:, left]


def train_on_pairs(
    pairs: Sequence[Pair],
    preset: SegmentationPreset,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    until_iou: float | None = None,
    validation_strip: float = VALIDATION_STRIP,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Learnt:
    """Learn from random pieces of the images but for their right-hand part, on which the model is validated.

    validation_strip: that part's share of the width; 0 is none.  until_iou: end as soon as the EMA of the weights
    reaches that intersection over union on all validation strips together; else after `preset.optim.steps`.
    prepare: makes (H, W, channels) float32 of every image; without it each image's own levels do.
    Raises InputError where an image is too small, or no mask holds a cell.
    """
    model = UNet2015(preset.model, np.random.default_rng([preset.seed, 50]))
    geometry = Geometry(preset.model)
    examples = [_example(pair, preset, validation_strip, prepare) for pair in pairs]
    if not any(e.learnt_from()[1].any() for e in examples):
        raise InputError("train segmentation: no mask holds a cell where it is learnt from")
    if until_iou is not None and not any(e.labels[:, e.strip_start :].any() for e in examples):
        raise InputError("train segmentation: no cell lies in the validation strips")
    ema_model = UNet2015(preset.model, rng=None)
    model.to(device)
    ema_model.to(device)
    seen = preset.size if preset.model.padded else geometry.seen(preset.size)
    area = np.array([e.learnt_from()[1].size for e in examples], float)

    def piece(rng: np.random.Generator, example: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        how = preset.augmentation
        if how.simulated and rng.random() < how.simulated:
            return simulated(rng, seen, preset)
        return cut(rng, *example.learnt_from(), seen, how)

    def loss_of(step: int, rng: np.random.Generator) -> Tensor:
        chosen = rng.choice(len(examples), preset.optim.batch, p=area / area.sum())
        pieces = [piece(rng, examples[int(i)]) for i in chosen]
        images = np.stack([_channels(image, model) for image, _, _ in pieces])
        logits = model(Tensor(model.place(images)), rng)
        rim = (seen - logits.shape[1]) // 2  # what unpadded convolutions have taken
        inside = slice(rim, seen - rim)
        targets = np.stack([classes(labels)[inside, inside] for _, labels, _ in pieces])
        weights = np.stack([weights[inside, inside] for _, _, weights in pieces])
        return ops.cross_entropy_loss(logits, targets, weights)

    validation: list[tuple[int, float]] = []

    def should_stop(step: int, weights: dict[str, Array]) -> bool:
        if step % VALIDATE_EVERY:
            return False
        load_ema(ema_model, weights)
        iou = validation_iou(ema_model, examples)
        validation.append((step, iou))
        print(f"step {step}: intersection over union {iou:.3f} on the validation strips, {until_iou} asked for")
        return until_iou is not None and iou >= until_iou

    run_config = {"preset": asdict(preset), "data": fingerprint(pairs), "validation_strip": validation_strip}
    task = Task(NAME, model, loss_of, preset.optim, preset.seed, run_config)
    load_ema(ema_model, fit(task, out, resume=resume, should_stop=None if until_iou is None else should_stop))
    reached = until_iou is not None and validation and validation[-1][1] >= until_iou
    if validation_strip and not reached:
        validation.append((preset.optim.steps, validation_iou(ema_model, examples)))
    return Learnt(ema_model, validation)


def simulated(
    rng: np.random.Generator, size: int, preset: SegmentationPreset
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A simulated piece, its labels and its weights: few nuclei or many, or none, in any haze and noise."""
    density, haze, exposures = np.exp(rng.uniform(*np.log([(0.003, 0.02, 0.5), (0.3, 2, 500)])))
    image, labels = simulate_nuclei(rng, (size, size), density * (rng.random() < 0.6), haze, exposures)
    return normaliser(image, 1)(image), labels, border_weights(labels, preset.w0, preset.sigma)


def validation_iou(model: UNet2015, examples: Sequence[Example]) -> float:
    """Intersection over union of cells on all validation strips together."""
    found = [predict(model, _channels(e.image, model), 256)[:, e.strip_start :, 1].ravel() > 0.5 for e in examples]
    true = [e.labels[:, e.strip_start :].ravel() for e in examples]
    return overlap(np.concatenate(found), np.concatenate(true)).iou


def _channels(image: np.ndarray, model: UNet2015) -> np.ndarray:
    """Grey in each channel that the model expects."""
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], model.config.in_channels)))


def _example(
    pair: Pair, preset: SegmentationPreset, strip: float, prepare: Callable[[np.ndarray], np.ndarray] | None
) -> Example:
    image, labels = pair
    radius = Geometry(preset.model).receptive_radius
    if min(labels.shape) <= radius:
        raise InputError(f"train segmentation: an image of {labels.shape} pixels; the receptive radius is {radius}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    prepared = (prepare or normaliser(image, channels))(image)
    weights = border_weights(labels, preset.w0, preset.sigma)
    return Example(prepared, labels, weights, strip_start=round(labels.shape[1] * (1 - strip)))


def fingerprint(pairs: Sequence[Pair]) -> str:
    """What tells these images and masks from others."""
    digest = hashlib.sha256()
    for array in chain.from_iterable(pairs):
        digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()[:16]
