"""Named configurations: what is trained, how wide and how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tinydiff.errors import InputError
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.models.classifier import ClassifierConfig
from tinydiff.models.unet import UNetConfig
from tinydiff.training.optim import OptimConfig

TEXT_WIDTH = 96
EIGHT = AutoencoderConfig(block_out_channels=(16, 48, 64), layers_per_block=1, norm_num_groups=8)  # 32×32×3 → 8×8×4
FOUR = AutoencoderConfig(
    block_out_channels=(16, 48, 64, 64), layers_per_block=1, norm_num_groups=8
)  # 32×32×3 → 4×4×4, the article's 48 times


@dataclass(frozen=True)
class WordsConfig:
    """Word2Vec on the captions of one epoch."""

    captions: int = 20_000
    epochs: int = 2
    window: int = 4
    negatives: int = 5


@dataclass(frozen=True)
class SchedulerConfig:
    """How noise is added and what the network predicts of it; fields and values as in diffusers."""

    num_train_timesteps: int = 1000
    beta_schedule: str = "squaredcos_cap_v2"  # see diffusion.schedule.SCHEDULES
    prediction_type: str = "v_prediction"  # see diffusion.prediction.PREDICTION_TYPES


@dataclass(frozen=True)
class Preset:
    """All that `tinydiff train` needs to know."""

    autoencoder: AutoencoderConfig
    autoencoder_optim: OptimConfig
    denoiser: UNetConfig
    denoiser_optim: OptimConfig
    classifier_optim: OptimConfig
    words: WordsConfig = WordsConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    text_layers: int = 2
    text_heads: int = 4
    space: str = "latent"  # or "pixels": no autoencoder
    scheduler: SchedulerConfig = SchedulerConfig()
    caption_dropout: float = 0.1
    kl_weight: float = 1e-6
    seed: int = 0
    names: tuple[str, ...] = field(default=("autoencoder", "words", "denoiser"))  # the parts of `train all`


_CLASSIFIER = OptimConfig(steps=5_000, batch=64, lr=2e-3, warmup=200, weight_decay=0.02, ema=0.998)

PRESETS = {
    "quick": Preset(
        autoencoder=AutoencoderConfig(block_out_channels=(16, 32, 32), layers_per_block=1, norm_num_groups=8),
        autoencoder_optim=OptimConfig(steps=800, batch=32, lr=2e-3, warmup=50, ema=0.99),
        denoiser=UNetConfig(
            block_out_channels=(48, 96),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            num_attention_heads=4,
            norm_num_groups=8,
            cross_attention_dim=TEXT_WIDTH,
        ),
        denoiser_optim=OptimConfig(steps=2_500, batch=64, lr=1.5e-3, ema=0.995),
        classifier_optim=_CLASSIFIER,
    ),
    "full": Preset(
        autoencoder=EIGHT,
        autoencoder_optim=OptimConfig(steps=5_000, batch=32, lr=2e-3, ema=0.998),
        denoiser=UNetConfig(
            block_out_channels=(64, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            num_attention_heads=4,
            norm_num_groups=8,
            cross_attention_dim=TEXT_WIDTH,
        ),
        denoiser_optim=OptimConfig(steps=6_000, batch=96, lr=1.5e-3, warmup=200, ema=0.999),
        classifier_optim=_CLASSIFIER,
    ),
    "full-48": Preset(
        autoencoder=FOUR,
        autoencoder_optim=OptimConfig(steps=5_000, batch=32, lr=2e-3, ema=0.998),
        denoiser=UNetConfig(
            block_out_channels=(96, 160),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            num_attention_heads=4,
            norm_num_groups=8,
            cross_attention_dim=TEXT_WIDTH,
        ),
        denoiser_optim=OptimConfig(steps=6_000, batch=96, lr=1.5e-3, warmup=200, ema=0.999),
        classifier_optim=_CLASSIFIER,
    ),
}


PRESETS["pixels"] = replace(
    PRESETS["full"],
    space="pixels",
    denoiser=UNetConfig(
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 48, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        num_attention_heads=4,
        norm_num_groups=8,
        cross_attention_dim=TEXT_WIDTH,
    ),
    denoiser_optim=OptimConfig(steps=3_500, batch=32, lr=1.5e-3, warmup=200, ema=0.999),
    names=("words", "denoiser"),
)
# The same networks, data and steps, as iterative α-(de)blending learns.
for _name in ("full", "pixels"):
    PRESETS[f"{_name}-iadb"] = replace(
        PRESETS[_name], scheduler=SchedulerConfig(beta_schedule="iadb", prediction_type="iadb")
    )


def preset(name: str) -> Preset:
    """The preset of that name; InputError names those that there are."""
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
