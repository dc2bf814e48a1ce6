"""The torch reference: the same models in PyTorch, which tinydiff's speed is compared with.

U-Net and autoencoder are diffusers' own classes, as a user would take them today (`pip install torch diffusers`), with
channels first in name and in memory either way, PyTorch's attention and fused AdamW.  They take tinydiff's weights by
name, so that outputs, gradients and losses are compared before anything is timed.  Against plain PyTorch modules
written by hand a training step takes 1 to 2 % longer: the denoiser 452 ms instead of 449, the autoencoder 376 instead
of 368, on one thread, in the faster of the two memory formats.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from tinydiff.device import to_numpy
from tinydiff.diffusion.guidance import GUIDANCE_INTERVAL, GUIDANCE_SCALE
from tinydiff.errors import MismatchError
from tinydiff.models import unet
from tinydiff.models.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.models.text_encoder import TextEncoderConfig
from tinydiff.models.unet import UNetConfig
from tinydiff.nn.module import Module
from tinydiff.pipelines.text_to_image import TextToImage
from tinydiff.training.optim import OptimConfig


def carry_over(ours: Module, theirs: nn.Module, channels_last: bool = True) -> nn.Module:
    """Our weights in the reference: linear (in, out) → (out, in), convolution (KH, KW, in, out) → (out, in, KH, KW).

    Raises MismatchError where the names of the parameters differ.
    """
    state = ours.state_dict()
    different = sorted(set(state) ^ {name for name, _ in theirs.named_parameters()})
    if different:
        raise MismatchError(f"bench: the torch reference has other parameters than the model: {different[:5]}")
    arrays = {name: to_torch_layout(name, to_numpy(array)).copy() for name, array in state.items()}
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return theirs.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def to_torch_layout(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if array.ndim == 2 and "embedding.weight" not in name else array


def channels_first(images: np.ndarray, channels_last: bool = True) -> torch.Tensor:
    """(N, H, W, C) as a tensor (N, C, H, W), with its channels last in memory or not."""
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    return tensor if channels_last else tensor.contiguous()


def make_unet(config: UNetConfig) -> nn.Module:
    fields = asdict(config)
    heads = fields.pop("num_attention_heads")  # which diffusers calls attention_head_dim, for old files' sake
    up = tuple(name.replace("Down", "Up") for name in reversed(config.down_block_types))
    return UNet2DConditionModel(**fields, attention_head_dim=heads, up_block_types=up)


def make_autoencoder(config: AutoencoderConfig) -> nn.Module:
    levels = len(config.block_out_channels)
    down, up = ("DownEncoderBlock2D",) * levels, ("UpDecoderBlock2D",) * levels
    return AutoencoderKL(**asdict(config), out_channels=config.in_channels, down_block_types=down, up_block_types=up)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, x: Any) -> Any:
        q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.layer_norm1, self.self_attn = nn.LayerNorm(width), SelfAttention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Any) -> Any:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x))))


class TextEncoder(nn.Module):
    """CLIP's, without the causal mask, as tinydiff's: token numbers (N, L) → vectors (N, L, D)."""

    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        tables = {"token_embedding": config.vocab_size, "position_embedding": config.max_position_embeddings}
        self.embeddings = nn.ModuleDict({name: nn.Embedding(size, width) for name, size in tables.items()})
        layers = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(config.num_hidden_layers)))
        self.encoder = nn.ModuleDict({"layers": layers})
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, tokens: Any) -> Any:
        x = self.embeddings["token_embedding"](tokens) + self.embeddings["position_embedding"].weight
        return self.final_layer_norm(self.encoder["layers"](x))


class Denoiser(nn.Module):
    """U-Net and text encoder: latents (N, C, H, W), timesteps (N,) and token numbers (N, L) → a prediction."""

    def __init__(self, unet: UNetConfig, text: TextEncoderConfig):
        super().__init__()
        self.text_encoder, self.unet = TextEncoder(text), make_unet(unet)

    def forward(self, x: Any, t: Any, tokens: Any) -> Any:
        return self.unet(x, t, self.text_encoder(tokens)).sample


def model_and_loss(
    ours: Module, inputs: Sequence[np.ndarray], channels_last: bool = True, device: str = "cpu"
) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    """The reference of a denoiser or an autoencoder, with its weights, and the loss of `steps.Task` on its inputs."""
    loss: Callable[..., torch.Tensor]
    if isinstance(ours, Autoencoder):
        theirs, loss = make_autoencoder(ours.config), autoencoder_loss
    else:
        assert isinstance(ours, unet.Denoiser)
        theirs, loss = Denoiser(ours.unet.config, ours.text_encoder.config), denoiser_loss
    theirs = carry_over(ours, theirs, channels_last).to(device)
    copies = [a.copy() for a in inputs]
    tensors = [channels_first(a, channels_last) if a.ndim == 4 else torch.from_numpy(a) for a in copies]
    return theirs, partial(loss, theirs, *(tensor.to(device) for tensor in tensors))


def denoiser_loss(model: Any, x: Any, target: Any, t: Any, tokens: Any) -> Any:
    return F.mse_loss(model(x, t, tokens), target)


def autoencoder_loss(model: Any, x: Any, noise: Any) -> Any:
    latents = model.encode(x).latent_dist
    mean, log_variance = latents.mean, latents.logvar
    y = model.decode(mean + (log_variance / 2).exp() * noise).sample
    kl = 0.5e-6 * (mean**2 + log_variance.exp() - 1 - log_variance).sum() / len(x)
    return F.l1_loss(y, x) + F.mse_loss(y, x) + kl


class Pipeline:
    """The whole of `TextToImage.generate` with DDIM and guidance, images uint8 (N, H, W, 3)."""

    def __init__(self, pipe: TextToImage, channels_last: bool = True):
        assert isinstance(pipe.autoencoder, Autoencoder)
        denoiser, autoencoder = pipe.denoiser, pipe.autoencoder.config
        self.pipe, self.channels_last, self.scaling_factor = pipe, channels_last, autoencoder.scaling_factor
        theirs = Denoiser(denoiser.unet.config, denoiser.text_encoder.config)
        self.denoiser = carry_over(denoiser, theirs, channels_last)
        self.autoencoder = carry_over(pipe.autoencoder, make_autoencoder(autoencoder), channels_last)

    @torch.inference_mode()
    def generate(
        self, prompts: list[str], steps: int = 25, guidance_scale: float = GUIDANCE_SCALE, seed: int = 0
    ) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal((len(prompts), *self.pipe.latent_shape), np.float32)
        vocabulary, schedule, unet = self.pipe.vocabulary, self.pipe.schedule, self.denoiser.unet
        tokens = np.concatenate([vocabulary.unconditional(len(prompts)), vocabulary.encode(prompts)])
        text, x = self.denoiser.text_encoder(torch.from_numpy(tokens)), channels_first(noise, self.channels_last)
        timesteps = schedule.timesteps(steps)
        low, high = (share * schedule.num_train_timesteps for share in GUIDANCE_INTERVAL)
        alpha_bars = [float(schedule.alpha_bar[t]) for t in timesteps]
        for t, a, p in zip(timesteps, alpha_bars, [*alpha_bars[1:], 1.0], strict=True):
            if low <= t < high:
                unconditional, conditional = unet(torch.cat([x, x]), t, text).sample.chunk(2)
                v = unconditional + guidance_scale * (conditional - unconditional)
            else:
                v = unet(x, t, text[len(x) :]).sample
            x0, epsilon = a**0.5 * x - (1 - a) ** 0.5 * v, a**0.5 * v + (1 - a) ** 0.5 * x
            x = p**0.5 * x0 + (1 - p) ** 0.5 * epsilon
        images = self.autoencoder.decode(x / self.scaling_factor).sample
        return ((images.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()


class Trainer:
    """AdamW with the same settings, clipping and EMA as `tinydiff.training.optim.AdamW`."""

    def __init__(self, model: nn.Module, config: OptimConfig):
        self.parameters, self.config = list(model.parameters()), config
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
        )
        self.ema = [p.detach().clone() for p in self.parameters]

    def step(self, loss: Any, lr: float, decay: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, list[torch.Tensor](self.parameters), 1 - decay)
        return loss.item()
