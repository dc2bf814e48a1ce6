"""The denoiser with its text encoder, which learns along with the U-Net."""

from __future__ import annotations

from tinydiff.autograd import Array, Tensor
from tinydiff.models.text_encoder import TextEncoder, TextEncoderConfig
from tinydiff.models.unet import UNet, UNetConfig
from tinydiff.nn.module import Generator, Module


class Denoiser(Module):
    """A prediction of noise or velocity from a noisy latent (N, H, W, C), noise levels (N,) and word ids (N, L)."""

    def __init__(self, unet: UNetConfig, text: TextEncoderConfig, rng: Generator) -> None:
        self.text_encoder = TextEncoder(text, rng)
        self.unet = UNet(unet, rng)

    def forward(self, x: Tensor, t: Array, tokens: Array) -> Tensor:
        return self.unet(x, t, self.text_encoder(tokens))
