"""Modules, layers and the blocks built from them.

Each takes a `numpy.random.Generator` first, for its initial weights; with None there are shapes and no numbers.
"""

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
from tinydiff.nn.module import Module, Parameter, chain, forward_hook

__all__ = sorted(name for name, value in list(globals().items()) if callable(value))
