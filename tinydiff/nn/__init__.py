"""Modules, layers and the blocks built from them."""

from tinydiff.nn.blocks import (
    GEGLU,
    Attention,
    Downsample,
    FeedForward,
    ResnetBlock,
    SpatialTransformer,
    TimestepEmbedding,
    TransformerBlock,
    Upsample,
    timestep_embedding,
)
from tinydiff.nn.layers import Conv2d, Embedding, GroupNorm, LayerNorm, Linear
from tinydiff.nn.module import Module, Parameter

__all__ = [
    "GEGLU",
    "Attention",
    "Conv2d",
    "Downsample",
    "Embedding",
    "FeedForward",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "Module",
    "Parameter",
    "ResnetBlock",
    "SpatialTransformer",
    "TimestepEmbedding",
    "TransformerBlock",
    "Upsample",
    "timestep_embedding",
]
