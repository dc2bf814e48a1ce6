"""The text encoder: a small transformer with CLIP's parts and names.  Ours sees whole captions, CLIP's is causal."""

from dataclasses import dataclass

import numpy as np

from tinydiff import ops
from tinydiff.autograd import Array, Tensor
from tinydiff.device import array_module
from tinydiff.errors import InputError
from tinydiff.nn.layers import Embedding, LayerNorm, Linear
from tinydiff.nn.module import Module, Rng, chain

ACTIVATIONS = {"gelu": ops.gelu, "quick_gelu": ops.quick_gelu}


@dataclass(frozen=True)
class TextEncoderConfig:
    """The fields and names of CLIP's `text_encoder/config.json`."""

    vocab_size: int
    max_position_embeddings: int  # positions: words, begin, end and padding
    hidden_size: int = 96
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    hidden_act: str = "gelu"  # or "quick_gelu", which is CLIP's
    causal: bool = False  # each word sees those before it alone; CLIP's do


class TextEncoder(Module):
    """Word ids (N, L) → vectors (N, L, D).  (Vaswani 2017; Radford 2021, arXiv:2103.00020)

    >>> config = models.TextEncoderConfig(vocab_size=30, max_position_embeddings=8)
    >>> models.TextEncoder(config, np.random.default_rng(0))(np.array([[1, 7, 9, 2]])).shape
    (1, 4, 96)
    """

    def __init__(self, config: TextEncoderConfig, rng: Rng) -> None:
        self.config = config
        self.embeddings = Embeddings(rng, config)
        self.encoder = EncoderStack(rng, config)
        self.final_layer_norm = LayerNorm(rng, config.hidden_size)

    def forward(self, tokens: Array) -> Tensor:
        return chain(tokens, self.embeddings, self.encoder, self.final_layer_norm)

    def start_from(self, vectors: np.ndarray) -> None:
        """Begin with these word vectors (V, D), Word2Vec's for instance, brought to the scale of the random start.

        Word2Vec's are a hundred times longer, and words of one kind nearly parallel: training could hardly part them.
        Raises InputError for vectors of another shape than the table's.
        """
        table = self.embeddings.token_embedding.weight
        if vectors.shape != table.shape:
            raise InputError(f"start_from: word vectors have shape {vectors.shape}, the encoder expects {table.shape}")
        table.assign((vectors * (0.02 / vectors.std())).astype(table.dtype))


class Embeddings(Module):
    """A vector for each word plus a vector for each position: (N, L) → (N, L, D)."""

    def __init__(self, rng: Rng, config: TextEncoderConfig) -> None:
        self.token_embedding = Embedding(rng, config.vocab_size, config.hidden_size)
        self.position_embedding = Embedding(rng, config.max_position_embeddings, config.hidden_size)

    def forward(self, tokens: Array) -> Tensor:
        return self.token_embedding(tokens) + self.position_embedding(array_module(tokens).arange(tokens.shape[1]))


class EncoderStack(Module):
    """One layer after the other: (N, L, D) → same, as are the next three."""

    def __init__(self, rng: Rng, config: TextEncoderConfig) -> None:
        self.layers = [EncoderLayer(rng, config) for _ in range(config.num_hidden_layers)]

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, *self.layers)


class EncoderLayer(Module):
    """Self-attention and a two-layer network, each after a layer norm and with a skip connection."""

    def __init__(self, rng: Rng, config: TextEncoderConfig) -> None:
        width = config.hidden_size
        self.layer_norm1, self.self_attn = LayerNorm(rng, width), SelfAttention(rng, config)
        self.layer_norm2, self.mlp = LayerNorm(rng, width), MLP(rng, width, config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class SelfAttention(Module):
    """Every word looks at every word, or at those before it."""

    def __init__(self, rng: Rng, config: TextEncoderConfig) -> None:
        width = config.hidden_size
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(rng, width, width) for _ in range(4))
        self.heads, self.causal = config.num_attention_heads, config.causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)  # (N, L, D) each
        return self.out_proj(ops.attention(q, k, v, heads=self.heads, causal=self.causal))


class MLP(Module):
    """To four times the width and back, with an activation between.  Raises InputError for one that is not known."""

    def __init__(self, rng: Rng, width: int, activation: str) -> None:
        if activation not in ACTIVATIONS:
            raise InputError(f"TextEncoder: hidden_act is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
        self.fc1, self.fc2 = Linear(rng, width, 4 * width), Linear(rng, 4 * width, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, self.fc1, self.activation, self.fc2)
