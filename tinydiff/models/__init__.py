"""The models: denoiser, autoencoder, text encoder, word vectors and judge."""

from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.judge import Judge, JudgeConfig
from tinydiff.models.text_encoder import TextEncoder, TextEncoderConfig
from tinydiff.models.unet import UNet, UNetConfig

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "Judge",
    "JudgeConfig",
    "TextEncoder",
    "TextEncoderConfig",
    "UNet",
    "UNetConfig",
]
