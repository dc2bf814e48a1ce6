"""Training: from nothing to the files that `tinydiff.load` reads."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tinydiff.arrays import check_device
from tinydiff.datasets import Vocabulary, load_fashion
from tinydiff.errors import InputError
from tinydiff.models.autoencoder import PixelSpace
from tinydiff.presets import Preset
from tinydiff.presets import preset as preset_named
from tinydiff.training.folder import refuse_another_run, refuse_existing, run_folder
from tinydiff.training.lock import FolderLock
from tinydiff.training.parts import Fashion, train_autoencoder, train_denoiser, train_judge, train_words
from tinydiff.viz import loss_curves
from tinydiff.weights import load_autoencoder, load_words, save_weights

PARTS = ("autoencoder", "words", "denoiser", "judge")


def train(
    part: str = "all",
    preset: str = "quick",
    data: str | Path | None = None,
    out: str | Path = "runs/quick",
    resume: bool = False,
    device: str = "cpu",
) -> Path:
    """Train one part ("autoencoder", "words", "denoiser", "judge") or "all" that `generate` needs; returns the folder.

    Each part's weights, the moving average in float16, go to `{part}.safetensors` in `out`, and the loss curves to
    `loss.png`.  `resume` goes on where a stopped run's checkpoint stands and skips finished parts; without it a folder
    that has them is refused, and so are always parts of another run (another preset, other data).
    `device` is "cpu" or "cuda"; Word2Vec learns on the CPU.
    Raises InputError for what does not fit, FloatingPointError where a value stops being finite.
    """
    settings = preset_named(preset)
    check_device(device)
    names = settings.names if part == "all" else (part,)
    if part != "all" and part not in PARTS:
        raise InputError(f"train: no part {part!r}; there are {', '.join(PARTS)} and all")
    folder = run_folder(Path(out))
    with FolderLock(folder):
        if not resume:
            refuse_existing(folder, names)
        grey, labels, source = load_fashion("train", data)
        print(f"tinydiff: training {', '.join(names)} ({preset}) on {source}", flush=True)
        fashion = Fashion(grey, labels, source, settings.seed)
        made = {"preset": preset, "data": source}
        for name in names:
            refuse_another_run(folder / f"{name}.safetensors", made)
        for name in names:
            if (folder / f"{name}.safetensors").exists():
                print(f"tinydiff: {name} is trained already, kept as it is", flush=True)
                continue
            start = time.monotonic()
            arrays, config = _train_part(name, settings, fashion, folder, resume, device)
            seconds = round(time.monotonic() - start)
            save_weights(folder, name, arrays, {**config, "made": {**made, "seconds": seconds}})
            if any(folder.glob("*.csv")):
                loss_curves(folder)
    return folder


def _train_part(
    name: str, settings: Preset, fashion: Fashion, folder: Path, resume: bool, device: str
) -> tuple[dict, dict]:
    """Arrays and configuration of one trained part."""
    vocabulary = Vocabulary()
    if name == "autoencoder":
        trained = train_autoencoder(
            lambda epoch: fashion.epoch(epoch).images, len(fashion), settings, folder, resume, fashion.source, device
        )
        return trained.state(), {"model": asdict(settings.autoencoder), "latent_scale": trained.latent_scale}
    if name == "words":
        words = train_words(fashion, vocabulary, settings)
        return {"vectors": words.vectors}, {"words": vocabulary.words, "losses": list(words.losses)}
    if name == "judge":
        return train_judge(fashion, settings, folder, resume, device).state(), {"model": asdict(settings.judge)}
    autoencoder = PixelSpace() if settings.space == "pixels" else load_autoencoder(folder)
    vectors, known = load_words(folder)
    model = train_denoiser(fashion, autoencoder, vectors, Vocabulary(known), settings, folder, resume, device)
    latent = autoencoder.encode(model.place(np.zeros((1, 32, 32, 3), np.float32))).shape[1:]
    return model.state(), {
        "unet": asdict(settings.denoiser),
        "text": asdict(model.text_encoder.config),
        "schedule": settings.schedule,
        "kind": settings.kind,
        "space": settings.space,
        "latent": list(latent),
        "words": known,
    }
