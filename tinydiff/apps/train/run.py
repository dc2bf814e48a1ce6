"""Training: from nothing to the files that `tinydiff.load` reads."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from tinydiff.apps.data.own_images import OwnImages, load_own_images
from tinydiff.apps.outputs import refuse_overwriting
from tinydiff.apps.train.classifier import classifier_task
from tinydiff.apps.train.folder import files_of_run, folder_lock, refuse_another_run, refuse_existing, run_folder
from tinydiff.apps.train.report import EXAMPLES, Strips, write_report
from tinydiff.apps.train.session import fit, load_ema
from tinydiff.autograd import Array
from tinydiff.datasets import GARMENTS, Fashion, Vocabulary, load_fashion
from tinydiff.datasets.captions import BACKGROUNDS, COLOURS, canonical
from tinydiff.datasets.pixels import as_floats, as_pixels
from tinydiff.device import check_device, to_numpy
from tinydiff.diffusion.schedule import make_schedule
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import Autoencoder, PixelSpace
from tinydiff.models.unet import Denoiser
from tinydiff.nn.module import Module
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.training import presets, tasks
from tinydiff.training.loop import Task
from tinydiff.training.presets import Preset
from tinydiff.weights import fingerprint, load_autoencoder, load_words, save_weights

PARTS = ("autoencoder", "words", "denoiser", "classifier")


def train(
    part: str = "all",
    preset: str = "quick",
    data: str | Path | None = None,
    out: str | Path = "runs/quick",
    resume: bool = False,
    device: str = "cpu",
    *,
    images: str | Path | None = None,
    captions: str | Path | None = None,
    size: int = 32,
) -> Path:
    """Train one part ("autoencoder", "words", "denoiser", "classifier") or "all" that `generate` needs.

    Returns the run's folder `out`.  Each part's weights, their exponential moving average in float16, go to
    `{part}.safetensors` in it, and to `report.md` its losses, its time, and images that it generated on the way.
    `resume` goes on where a stopped run's checkpoint stands and skips finished parts; without it a folder that has them
    is refused, and so are always parts of another run (another preset, other data).
    `images` and `captions`: learn from your own images instead (see `load_own_images`), at `size`×`size` pixels.
    `device` is "cpu" or "cuda"; Word2Vec learns on the CPU.
    Raises InputError for what does not fit, FloatingPointError where a value stops being finite.
    """
    settings = presets.preset(preset)
    check_device(device)
    if (images is None) != (captions is None):
        raise InputError("train: images and captions belong together; one of the two is missing")
    if images is not None and part == "classifier":
        raise InputError("train: the classifier knows garments only, it does not learn from other images")
    names = settings.names if part == "all" else (part,)
    if part not in (*PARTS, "all"):
        raise InputError(f"train: no part {part!r}; there are {', '.join(PARTS)} and all")
    folder = run_folder(Path(out))
    with folder_lock(folder):
        if not resume:
            refuse_existing(folder, names)
        learnt_from: Fashion | OwnImages
        if images is not None and captions is not None:
            learnt_from = load_own_images(images, captions, size)
            settings, read, digest = _at_most(settings, len(learnt_from)), learnt_from.files, learnt_from.digest
        else:
            learnt_from = Fashion(*load_fashion("train", data), settings.seed)
            read = [] if data is None else list(Path(data).iterdir())
            digest = hashlib.sha256(learnt_from.grey.tobytes() + learnt_from.labels.tobytes()).hexdigest()[:12]
        refuse_overwriting(files_of_run(folder, names), read)
        print(f"tinydiff: training {', '.join(names)} ({preset}) on {learnt_from.source}", flush=True)
        training = {"preset": preset, "data": learnt_from.source, "data_digest": digest}
        for name in names:
            refuse_another_run(folder / f"{name}.safetensors", training)
        missing = [name for name in names if not (folder / f"{name}.safetensors").exists()]
        for name in names:
            if name not in missing:
                print(f"tinydiff: {name} is trained already, kept as it is", flush=True)
                continue
            start = time.monotonic()
            arrays, config = _train_part(name, settings, learnt_from, digest, folder, resume, device)
            seconds = round(time.monotonic() - start)
            save_weights(folder, name, arrays, {**config, "training": {**training, "seconds": seconds}})
            write_report(folder, examples(learnt_from))
        if not missing:  # a kill may have come between the last weights and their report
            write_report(folder, examples(learnt_from))
    return folder


def _train_part(
    name: str, settings: Preset, images: Fashion | OwnImages, digest: str, folder: Path, resume: bool, device: str
) -> tuple[dict, dict]:
    """Arrays and configuration of one trained part."""
    identity = {"data_digest": digest}
    if name == "words":
        words = tasks.train_words(images, images.vocabulary, settings)
        return {"vectors": words.vectors}, {"words": images.vocabulary.words, "losses": list(words.losses)}
    if name == "classifier":
        assert isinstance(images, Fashion)
        model = _trained(classifier_task(images, settings), identity, folder, resume, device)
        return model.state_dict(), {"model": asdict(settings.classifier)}
    if name == "autoencoder":
        strips = Strips(folder, name, resume, lambda ema: _reconstructed(settings, images, ema, device), rows=2)
        model = _trained(tasks.autoencoder_task(images, settings), identity, folder, resume, device, strips)
        assert isinstance(model, Autoencoder)
        scaling_factor = tasks.measured_scaling_factor(model, images, settings.seed)
        return model.state_dict(), {"model": asdict(replace(settings.autoencoder, scaling_factor=scaling_factor))}
    autoencoder = PixelSpace() if settings.space == "pixels" else load_autoencoder(folder)
    belongs_to = {} if settings.space == "pixels" else {"autoencoder": fingerprint(autoencoder)}
    autoencoder.to(device)
    vectors, known = load_words(folder)
    vocabulary = Vocabulary(known, images.vocabulary.length)
    task = tasks.denoiser_task(images, autoencoder, vectors, vocabulary, settings)
    assert isinstance(task.model, Denoiser)
    text, (height, width) = task.model.text_encoder.config, images.epoch(0).images.shape[1:3]
    latent_shape = height // autoencoder.factor, width // autoencoder.factor, autoencoder.channels

    def generated(ema: dict[str, Array]) -> np.ndarray:
        model = Denoiser(settings.unet, text, rng=None)
        model.to(device)
        load_ema(model, ema)
        scheduler = settings.scheduler
        schedule = make_schedule(scheduler.beta_schedule, scheduler.num_train_timesteps)
        pipe = TextToImage(autoencoder, model, vocabulary, schedule, scheduler.prediction_type, latent_shape)
        return pipe.generate(examples(images))

    strips = Strips(folder, name, resume, generated)
    return _trained(task, {**identity, **belongs_to}, folder, resume, device, strips).state_dict(), {
        "unet": asdict(settings.unet),
        "text_encoder": asdict(text),
        "scheduler": asdict(settings.scheduler),
        "space": settings.space,
        "latent_shape": list(latent_shape),
        "words": known,
        **belongs_to,
    }


def _trained(
    task: Task,
    identity: dict[str, str],
    folder: Path,
    resume: bool,
    device: str,
    on_checkpoint: Callable[[int, dict[str, Array]], None] | None = None,
) -> Module:
    """The task's model with the EMA of its weights, as the file will hold them.  identity: what else its run is of."""
    task.model.to(device)
    task = replace(task, run_config={**task.run_config, **identity})
    load_ema(task.model, fit(task, folder, resume=resume, on_checkpoint=on_checkpoint))
    return task.model


def _reconstructed(settings: Preset, images: Fashion | OwnImages, ema: dict[str, Array], device: str) -> np.ndarray:
    """The first images, and what the autoencoder with these weights makes of them."""
    model = Autoencoder(settings.autoencoder, rng=None)
    model.to(device)
    load_ema(model, ema)
    originals = images.epoch(0).images[:EXAMPLES]
    decoded = model.decode(model.encode(model.place(as_floats(originals))))
    return np.concatenate([originals, as_pixels(to_numpy(decoded))])


def examples(images: Fashion | OwnImages) -> list[str]:
    """Captions to follow a training by: every garment in one colour or another, or the first captions that differ."""
    if isinstance(images, OwnImages):
        return list(dict.fromkeys(images.captions))[:EXAMPLES]
    return [canonical(i % len(GARMENTS), i % len(COLOURS), i % len(BACKGROUNDS)) for i in range(EXAMPLES)]


def _at_most(settings: Preset, count: int) -> Preset:
    """Batches that are no larger than the data."""
    parts = {name: getattr(settings, name) for name in ("autoencoder_optim", "denoiser_optim")}
    return replace(settings, **{name: replace(optim, batch=min(optim.batch, count)) for name, optim in parts.items()})
