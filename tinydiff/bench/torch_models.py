"""The same models in PyTorch, as a user would write them today: what tinydiff's speed is compared with.

Channels first in name, and in memory either way, PyTorch's own attention, fused AdamW.  Every class mirrors the one
of the same name in tinydiff and its parameters have the same names, so `carry_over` can hand the weights across, and
outputs, gradients and losses can be compared before anything is timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tinydiff import models
from tinydiff.bench.torch_blocks import (
    Attention,
    Downsample,
    ResnetBlock,
    SpatialTransformer,
    TimestepEmbedding,
    Upsample,
    attention,
)
from tinydiff.device import to_numpy
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.errors import MismatchError
from tinydiff.models.autoencoder import AutoencoderConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import UNetConfig
from tinydiff.nn.module import Module
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.training.optim import OptimConfig


def carry_over(ours: Module, theirs: nn.Module, channels_last: bool = True) -> nn.Module:
    """Our weights into the twin: linear (in, out) → (out, in), convolution (KH, KW, in, out) → (out, in, KH, KW)."""
    with torch.no_grad():
        parameters = dict(theirs.named_parameters())
        if set(parameters) != set(ours.state_dict()):
            raise MismatchError(
                f"bench: the twin's parameters differ: {sorted(set(parameters) ^ set(ours.state_dict()))[:5]}"
            )
        for name, array in ours.state_dict().items():
            parameters[name].copy_(torch.from_numpy(to_torch_layout(name, to_numpy(array)).copy()))
    return theirs.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def to_torch_layout(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if array.ndim == 2 and "embedding.weight" not in name else array


def channels_first(images: np.ndarray, channels_last: bool = True) -> torch.Tensor:
    """(N, H, W, C) as a tensor (N, C, H, W), with its channels last in memory or not."""
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    return tensor if channels_last else tensor.contiguous()


class DownBlock(nn.Module):
    def __init__(self, config: UNetConfig, level: int, inputs: int, time_width: int, downsample: bool):
        super().__init__()
        width = config.block_out_channels[level]
        self.attentions = _transformers(config, level, config.layers_per_block)
        self.resnets = nn.ModuleList(
            ResnetBlock(inputs if i == 0 else width, width, config.norm_num_groups, time_width)
            for i in range(config.layers_per_block)
        )
        self.downsamplers = nn.ModuleList([Downsample(width)] if downsample else [])

    def forward(self, x: Any, time: Any, context: Any, saved: list[Any]) -> Any:
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            x = self.attentions[i](x, context) if len(self.attentions) else x
            saved.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            saved.append(x)
        return x


class MidBlock(nn.Module):
    def __init__(self, config: UNetConfig, width: int, time_width: int):
        super().__init__()
        self.attentions = nn.ModuleList(
            [SpatialTransformer(width, config.num_attention_heads, config.norm_num_groups, config.cross_attention_dim)]
        )
        self.resnets = nn.ModuleList(ResnetBlock(width, width, config.norm_num_groups, time_width) for _ in range(2))

    def forward(self, x: Any, time: Any, context: Any) -> Any:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time), context), time)


class UpBlock(nn.Module):
    def __init__(self, config: UNetConfig, level: int, inputs: int, saved: list[int], time_width: int, upsample: bool):
        super().__init__()
        width = config.block_out_channels[level]
        self.attentions = _transformers(config, level, len(saved))
        self.resnets = nn.ModuleList(
            ResnetBlock((inputs if i == 0 else width) + skip, width, config.norm_num_groups, time_width)
            for i, skip in enumerate(saved)
        )
        self.upsamplers = nn.ModuleList([Upsample(width)] if upsample else [])

    def forward(self, x: Any, time: Any, context: Any, saved: list[Any]) -> Any:
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, saved.pop()], dim=1), time)
            x = self.attentions[i](x, context) if len(self.attentions) else x
        for upsample in self.upsamplers:
            x = upsample(x)
        return x


class UNet(nn.Module):
    def __init__(self, config: UNetConfig):
        super().__init__()
        first, last = config.block_out_channels[0], config.block_out_channels[-1]
        time_width, deepest = 4 * first, len(config.block_out_channels) - 1
        self.conv_in, self.time_embedding = nn.Conv2d(config.in_channels, first, 3, padding=1), TimestepEmbedding(first)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, inputs = [first], first
        for level, width in enumerate(config.block_out_channels):
            self.down_blocks.append(DownBlock(config, level, inputs, time_width, level < deepest))
            skips += [width] * (config.layers_per_block + (level < deepest))
            inputs = width
        self.mid_block = MidBlock(config, last, time_width)
        for level in reversed(range(len(config.block_out_channels))):
            saved = [skips.pop() for _ in range(config.layers_per_block + 1)]
            self.up_blocks.append(UpBlock(config, level, inputs, saved, time_width, level > 0))
            inputs = config.block_out_channels[level]
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, first)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)

    def forward(self, x: Any, t: Any, context: Any) -> Any:
        time, x = self.time_embedding(t), self.conv_in(x)
        saved = [x]
        for block in self.down_blocks:
            x = block(x, time, context, saved)
        x = self.mid_block(x, time, context)
        for block in self.up_blocks:
            x = block(x, time, context, saved)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, x: Any) -> Any:
        return self.out_proj(attention(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads))


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderLayer(nn.Module):
    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.layer_norm1, self.self_attn = (
            nn.LayerNorm(config.hidden_size),
            SelfAttention(config.hidden_size, config.num_attention_heads),
        )
        self.layer_norm2, self.mlp = nn.LayerNorm(config.hidden_size), MLP(config.hidden_size)

    def forward(self, x: Any) -> Any:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TextEncoder(nn.Module):
    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict(
            {"layers": nn.Sequential(*(EncoderLayer(config) for _ in range(config.num_hidden_layers)))}
        )
        self.final_layer_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, tokens: Any) -> Any:
        x = self.embeddings(tokens)
        x = self.encoder["layers"](x)
        return self.final_layer_norm(x)


class Embeddings(nn.Module):
    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, tokens: Any) -> Any:
        return self.token_embedding(tokens) + self.position_embedding.weight


class Denoiser(nn.Module):
    def __init__(self, unet: UNetConfig, text: TextEncoderConfig):
        super().__init__()
        self.text_encoder, self.unet = TextEncoder(text), UNet(unet)

    def forward(self, x: Any, t: Any, tokens: Any) -> Any:
        return self.unet(x, t, self.text_encoder(tokens))


class AttentionBlock(Attention):
    def __init__(self, channels: int, groups: int):
        super().__init__(channels, heads=1, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, 1e-6)

    def forward(self, x: Any, context: Any = None) -> Any:
        n, channels, height, width = x.shape
        h = super().forward(self.group_norm(x).permute(0, 2, 3, 1).reshape(n, height * width, channels))
        return x + h.reshape(n, height, width, channels).permute(0, 3, 1, 2)


class CodecBlock(nn.Module):
    """A level of the autoencoder's encoder or decoder, or its middle."""

    def __init__(self, config: AutoencoderConfig, inputs: int, width: int, layers: int, change: str = ""):
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(inputs if i == 0 else width, width, config.norm_num_groups, eps=1e-6) for i in range(layers)
        )
        if change == "middle":
            self.attentions = nn.ModuleList(
                [AttentionBlock(width, config.norm_num_groups)] if config.mid_block_add_attention else []
            )
        if change == "down":
            self.downsamplers = nn.ModuleList([Downsample(width, padding=0)])
        if change == "up":
            self.upsamplers = nn.ModuleList([Upsample(width)])

    def forward(self, x: Any) -> Any:
        x = self.resnets[0](x)
        for layer in getattr(self, "attentions", ()):
            x = layer(x)
        for layer in [*self.resnets[1:], *getattr(self, "downsamplers", ()), *getattr(self, "upsamplers", ())]:
            x = layer(x)
        return x


class Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        widths = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            CodecBlock(config, widths[max(0, i - 1)], w, config.layers_per_block, "down" if i < len(widths) - 1 else "")
            for i, w in enumerate(widths)
        )
        self.mid_block = CodecBlock(config, widths[-1], widths[-1], 2, "middle")
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        widths = config.block_out_channels[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = CodecBlock(config, widths[0], widths[0], 2, "middle")
        self.up_blocks = nn.ModuleList(
            CodecBlock(
                config, widths[max(0, i - 1)], w, config.layers_per_block + 1, "up" if i < len(widths) - 1 else ""
            )
            for i, w in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], config.in_channels, 3, padding=1)

    def forward(self, z: Any) -> Any:
        z = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            z = block(z)
        return self.conv_out(F.silu(self.conv_norm_out(z)))


class Autoencoder(nn.Module):
    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        latent = config.latent_channels
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1), nn.Conv2d(latent, latent, 1)

    def moments(self, x: Any) -> Any:
        return self.quant_conv(self.encoder(x)).chunk(2, dim=1)

    def reconstruct(self, z: Any) -> Any:
        return self.decoder(self.post_quant_conv(z))


class Pipeline:
    """The whole of `tinydiff.pipelines.text_to_image.TextToImage.generate` with DDIM and guidance."""

    def __init__(self, pipe: TextToImage, channels_last: bool = True):
        assert isinstance(pipe.autoencoder, models.Autoencoder)
        self.pipe, self.channels_last, self.scaling_factor = pipe, channels_last, pipe.autoencoder.config.scaling_factor
        unet, text = pipe.denoiser.unet.config, pipe.denoiser.text_encoder.config
        self.denoiser = carry_over(pipe.denoiser, Denoiser(unet, text), channels_last)
        self.autoencoder = carry_over(pipe.autoencoder, Autoencoder(pipe.autoencoder.config), channels_last)

    @torch.inference_mode()
    def generate(
        self, prompts: list[str], steps: int = 25, guidance: float = GUIDANCE_SCALE, seed: int = 0
    ) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal((len(prompts), *self.pipe.latent_shape), np.float32)
        vocabulary, schedule = self.pipe.vocabulary, self.pipe.schedule
        tokens = np.concatenate([vocabulary.unconditional(len(prompts)), vocabulary.encode(prompts)])
        words, x = self.denoiser.text_encoder(torch.from_numpy(tokens)), channels_first(noise, self.channels_last)
        timesteps = schedule.timesteps(steps)
        low, high = (share * schedule.num_train_timesteps for share in GUIDANCE_INTERVAL)
        alpha_bars = [float(schedule.alpha_bar[t]) for t in timesteps]
        for t, a, p in zip(timesteps, alpha_bars, [*alpha_bars[1:], 1.0], strict=True):
            if low <= t < high:
                both = self.denoiser.unet(torch.cat([x, x]), torch.full((2 * len(x),), t), words)
                unconditional, conditional = both.chunk(2)
                v = unconditional + guidance * (conditional - unconditional)
            else:
                v = self.denoiser.unet(x, torch.full((len(x),), t), words[len(x) :])
            x0, epsilon = a**0.5 * x - (1 - a) ** 0.5 * v, a**0.5 * v + (1 - a) ** 0.5 * x
            x = p**0.5 * x0 + (1 - p) ** 0.5 * epsilon
        images = self.autoencoder.reconstruct(x / self.scaling_factor)
        return ((images.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()


class Trainer:
    """AdamW with the same settings, clipping and moving average as `tinydiff.training.optim.AdamW`."""

    def __init__(self, model: nn.Module, config: OptimConfig):
        self.parameters, self.config = list(model.parameters()), config
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
        )
        self.average = [p.detach().clone() for p in self.parameters]

    def step(self, loss: Any, lr: float, ema: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list[torch.Tensor](self.parameters), 1 - ema)
        return loss.item()


def _transformers(config: UNetConfig, level: int, count: int) -> nn.ModuleList:
    width, present = config.block_out_channels[level], config.down_block_types[level] == "CrossAttnDownBlock2D"
    made = [
        SpatialTransformer(width, config.num_attention_heads, config.norm_num_groups, config.cross_attention_dim)
        for _ in range(count * present)
    ]
    return nn.ModuleList(made)
