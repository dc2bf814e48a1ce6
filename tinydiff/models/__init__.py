"""The models: denoiser, autoencoder, text encoder, word vectors, evaluation classifier, and the U-Net of 2015."""

from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig, PixelSpace
from tinydiff.models.classifier import Classifier, ClassifierConfig
from tinydiff.models.text_encoder import TextEncoder, TextEncoderConfig
from tinydiff.models.unet import Denoiser, UNet, UNetConfig
from tinydiff.models.unet2015 import UNet2015, UNet2015Config
from tinydiff.models.word2vec import Word2Vec

__all__ = sorted(name for name, value in list(globals().items()) if callable(value))
