"""What the tests of training share: a preset that trains in a second, on forty real garments in a folder."""

import numpy as np
import pytest

from tinydiff import presets
from tinydiff.datasets import load_fashion, write_idx
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.models.judge import JudgeConfig
from tinydiff.models.unet import UNetConfig
from tinydiff.presets import TEXT_WIDTH, Preset, WordsConfig
from tinydiff.training.optim import OptimConfig

# 40 pictures in batches of 8: an epoch has five steps, so twelve steps see a third one.
TINY = Preset(
    autoencoder=AutoencoderConfig(widths=(8, 8, 8), layers=1, groups=4),
    autoencoder_optim=OptimConfig(steps=12, batch=8, lr=3e-3, warmup=3, ema=0.9),
    denoiser=UNetConfig(widths=(8, 16), layers=1, attention=(False, True), heads=2, groups=4, text_width=TEXT_WIDTH),
    denoiser_optim=OptimConfig(steps=12, batch=8, lr=2e-3, warmup=3, ema=0.9),
    judge_optim=OptimConfig(steps=3, batch=8, lr=2e-3),
    words=WordsConfig(captions=40, epochs=1),
    judge=JudgeConfig(widths=(8, 8, 8), groups=4),
    text_layers=1,
    text_heads=2,
)


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session", autouse=True)
def _registered():
    """`quick` is tiny here, so that the command line, which knows its presets by name, trains it; `other` is not it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "quick", TINY)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of IDX files: the first forty training pictures that there are."""
    folder = tmp_path_factory.mktemp("data")
    grey, labels, _ = load_fashion("train")
    for part, name in (("train", "train"), ("test", "t10k")):
        write_idx(folder / f"{name}-images-idx3-ubyte", np.ascontiguousarray(grey[:40]))
        write_idx(folder / f"{name}-labels-idx1-ubyte", np.ascontiguousarray(labels[:40]))
        del part
    return folder
