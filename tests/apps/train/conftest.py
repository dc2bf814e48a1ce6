"""What the tests of training share: a preset that trains in a second, on forty real garments in a folder."""

import pytest

from tinydiff.apps.data.fashion_subset import write_idx
from tinydiff.datasets import load_fashion
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.models.classifier import ClassifierConfig
from tinydiff.models.unet import UNetConfig
from tinydiff.training import presets
from tinydiff.training.optim import OptimConfig
from tinydiff.training.presets import Preset, WordsConfig

QUICK = presets.PRESETS["quick"]

# 40 images in batches of 8: an epoch has five steps, so twelve steps see a third one.
TINY = Preset(
    autoencoder=AutoencoderConfig(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4),
    autoencoder_optim=OptimConfig(steps=12, batch=8, lr=3e-3, warmup=3, ema=0.9),
    unet=UNetConfig(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        num_attention_heads=2,
        norm_num_groups=4,
        cross_attention_dim=96,
    ),
    denoiser_optim=OptimConfig(steps=12, batch=8, lr=2e-3, warmup=3, ema=0.9),
    classifier_optim=OptimConfig(steps=3, batch=8, lr=2e-3),
    words=WordsConfig(captions=40, epochs=1),
    classifier=ClassifierConfig(block_out_channels=(8, 8, 8), norm_num_groups=4),
    text_layers=1,
    text_heads=2,
)


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def quick():
    """The real preset of that name."""
    return QUICK


@pytest.fixture(scope="module", autouse=True)
def _quick_is_tiny():
    """The command line knows its presets by name; here it trains the tiny one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.PRESETS, "quick", TINY)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of IDX files: the first forty training images that there are."""
    folder = tmp_path_factory.mktemp("data")
    grey, labels, _ = load_fashion("train")
    write_idx(folder / "train-images-idx3-ubyte", grey[:40])
    write_idx(folder / "train-labels-idx1-ubyte", labels[:40])
    return folder
