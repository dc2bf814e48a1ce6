"""Named configurations: what is trained, how wide and how long."""

from dataclasses import dataclass, replace

from tinydiff.errors import InputError
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.models.classifier import ClassifierConfig
from tinydiff.models.unet import CROSS_ATTENTION, PLAIN, UNetConfig
from tinydiff.training.optim import OptimConfig


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
    unet: UNetConfig
    denoiser_optim: OptimConfig
    classifier_optim: OptimConfig = OptimConfig(
        steps=5_000, batch=64, lr=2e-3, warmup=200, weight_decay=0.02, ema=0.998
    )
    words: WordsConfig = WordsConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    text_layers: int = 2
    text_heads: int = 4
    space: str = "latent"  # or "pixels": no autoencoder
    scheduler: SchedulerConfig = SchedulerConfig()
    caption_dropout: float = 0.1
    kl_weight: float = 1e-6
    seed: int = 0
    names: tuple[str, ...] = ("autoencoder", "words", "denoiser")  # the parts of `train all`


def _autoencoder(*channels: int) -> AutoencoderConfig:
    """Each level but the last halves the size."""
    return AutoencoderConfig(block_out_channels=channels, layers_per_block=1, norm_num_groups=8)


def _unet(*channels: int, attention: tuple[bool, ...], in_channels: int = 4) -> UNetConfig:
    return UNetConfig(
        in_channels=in_channels,
        out_channels=in_channels,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=tuple(CROSS_ATTENTION if present else PLAIN for present in attention),
        num_attention_heads=4,
        norm_num_groups=8,
        cross_attention_dim=96,  # and the text encoder's width
    )


_FULL = Preset(
    autoencoder=_autoencoder(16, 48, 64),  # 32×32×3 → 8×8×4
    autoencoder_optim=OptimConfig(steps=5_000, batch=32, lr=2e-3, ema=0.998),
    unet=_unet(64, 128, attention=(False, True)),
    denoiser_optim=OptimConfig(steps=6_000, batch=96, lr=1.5e-3, warmup=200, ema=0.999),
)
_PIXELS = replace(
    _FULL,
    space="pixels",
    unet=_unet(32, 48, 96, attention=(False, False, True), in_channels=3),
    denoiser_optim=OptimConfig(steps=3_500, batch=32, lr=1.5e-3, warmup=200, ema=0.999),
    names=("words", "denoiser"),
)
_IADB = SchedulerConfig(beta_schedule="iadb", prediction_type="iadb")

PRESETS = {
    "quick": Preset(
        autoencoder=_autoencoder(16, 32, 32),
        autoencoder_optim=OptimConfig(steps=800, batch=32, lr=2e-3, warmup=50, ema=0.99),
        unet=_unet(48, 96, attention=(False, True)),
        denoiser_optim=OptimConfig(steps=2_500, batch=64, lr=1.5e-3, ema=0.995),
    ),
    "full": _FULL,
    "full-48": replace(  # 32×32×3 → 4×4×4, the article's 48 times
        _FULL, autoencoder=_autoencoder(16, 48, 64, 64), unet=_unet(96, 160, attention=(True, True))
    ),
    "pixels": _PIXELS,
    # The same networks, data and steps, as iterative α-(de)blending learns.
    "full-iadb": replace(_FULL, scheduler=_IADB),
    "pixels-iadb": replace(_PIXELS, scheduler=_IADB),
}


def preset(name: str) -> Preset:
    """The preset of that name; InputError names those that there are."""
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
