"""Training: from nothing to the files that `tinydiff.load` reads."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

from tinydiff.apps.data.own_images import OwnPictures, load_own
from tinydiff.apps.train.folder import refuse_another_run, refuse_existing, run_folder
from tinydiff.apps.train.lock import FolderLock
from tinydiff.apps.train.report import EXAMPLES, write_report
from tinydiff.datasets import Vocabulary, load_fashion
from tinydiff.device import check_device
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import PixelSpace
from tinydiff.training.presets import Preset
from tinydiff.training.presets import preset as preset_named
from tinydiff.training.tasks import Fashion, latent_shape, train_autoencoder, train_denoiser, train_judge, train_words
from tinydiff.weights import load_autoencoder, load_words, save_weights

PARTS = ("autoencoder", "words", "denoiser", "judge")


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
    """Train one part ("autoencoder", "words", "denoiser", "judge") or "all" that `generate` needs; returns the folder.

    Each part's weights, the moving average in float16, go to `{part}.safetensors` in `out`, and to `report.md` its
    losses, its time, and pictures that it drew on the way.  `resume` goes on where a stopped run's checkpoint stands
    and skips finished parts; without it a folder that has them is refused, and so are always parts of another run
    (another preset, other data).
    `images` and `captions`: learn from your own pictures instead, a folder and a CSV file of file names and captions
    (see `datasets.own`), brought to `size`×`size` pixels; the vocabulary is that of the captions.
    `device` is "cpu" or "cuda"; Word2Vec learns on the CPU.
    Raises InputError for what does not fit, FloatingPointError where a value stops being finite.
    """
    settings = preset_named(preset)
    check_device(device)
    if (images is None) != (captions is None):
        raise InputError("train: images and captions belong together; one of the two is missing")
    if images is not None and part == "judge":
        raise InputError("train: the judge knows garments only, it does not learn from other pictures")
    names = settings.names if part == "all" else (part,)
    if part != "all" and part not in PARTS:
        raise InputError(f"train: no part {part!r}; there are {', '.join(PARTS)} and all")
    folder = run_folder(Path(out))
    with FolderLock(folder):
        if not resume:
            refuse_existing(folder, names)
        pictures: Fashion | OwnPictures
        if images is not None and captions is not None:
            pictures = load_own(images, captions, size)
            settings = _at_most(settings, len(pictures))
        else:
            grey, labels, source = load_fashion("train", data)
            pictures = Fashion(grey, labels, source, settings.seed)
        print(f"tinydiff: training {', '.join(names)} ({preset}) on {pictures.source}", flush=True)
        made = {"preset": preset, "data": pictures.source}
        for name in names:
            refuse_another_run(folder / f"{name}.safetensors", made)
        for name in names:
            if (folder / f"{name}.safetensors").exists():
                print(f"tinydiff: {name} is trained already, kept as it is", flush=True)
                continue
            start = time.monotonic()
            arrays, config = _train_part(name, settings, pictures, folder, resume, device)
            seconds = round(time.monotonic() - start)
            save_weights(folder, name, arrays, {**config, "made": {**made, "seconds": seconds}})
            write_report(folder, pictures.examples(EXAMPLES))
    return folder


def _train_part(
    name: str, settings: Preset, pictures: Fashion | OwnPictures, folder: Path, resume: bool, device: str
) -> tuple[dict, dict]:
    """Arrays and configuration of one trained part."""
    if name == "autoencoder":
        trained = train_autoencoder(
            lambda epoch: pictures.epoch(epoch).images, len(pictures), settings, folder, resume, pictures.source, device
        )
        return trained.state(), {"model": asdict(settings.autoencoder), "latent_scale": trained.latent_scale}
    if name == "words":
        words = train_words(pictures, pictures.vocabulary, settings)
        return {"vectors": words.vectors}, {"words": pictures.vocabulary.words, "losses": list(words.losses)}
    if name == "judge":
        assert isinstance(pictures, Fashion)
        return train_judge(pictures, settings, folder, resume, device).state(), {"model": asdict(settings.judge)}
    autoencoder = PixelSpace() if settings.space == "pixels" else load_autoencoder(folder)
    vectors, known = load_words(folder)
    vocabulary = Vocabulary(known, pictures.vocabulary.length)
    model = train_denoiser(pictures, autoencoder, vectors, vocabulary, settings, folder, resume, device)
    return model.state(), {
        "unet": asdict(settings.denoiser),
        "text": asdict(model.text_encoder.config),
        "schedule": settings.schedule,
        "kind": settings.kind,
        "space": settings.space,
        "latent": list(latent_shape(autoencoder, pictures)),
        "words": known,
    }


def _at_most(settings: Preset, count: int) -> Preset:
    """Batches that are no larger than the data."""
    parts = {name: getattr(settings, name) for name in ("autoencoder_optim", "denoiser_optim")}
    return replace(settings, **{name: replace(optim, batch=min(optim.batch, count)) for name, optim in parts.items()})
