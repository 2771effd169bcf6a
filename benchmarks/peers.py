"""NomicBERT's and GTE's encoder on padded batches, to compare with.

Without unpadding, or with what ModernBERT's paper (arXiv 2412.13663, section 2.1.2) sets its own
unpadding against: to unpad and pad again in each layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexbert.config.backend_choice import AUTO
from flexbert.nn.attention_backends import attend
from flexbert.nn.packed_batch import pad, unpad

# What queries, keys and values are mixed by.
Mix = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PaddedEncoderConfig:
    """BERT's layers with rotary embeddings and a gated MLP; sizes are those of a base model.

    Args:
        theta: base of the rotary embeddings.
        bias: whether attention's matrices and the MLP's second one have one.
        token_types: how many there are; all tokens are of the first.
        unpadding: ``none``; ``in_layers``, where hidden states are padded between layers, and each
            gathers the real tokens, computes on them alone and scatters its results back;
            ``around_attention``, where layers hand on real tokens alone, and each pads queries,
            keys and values for attention (MosaicBERT's way, Portes et al. 2023).
        backend: of attention over real tokens alone, which is ``in_layers``.
    """

    activation: Literal["gelu", "silu"]
    theta: float
    bias: bool
    token_types: int = 0
    vocab_size: int = 30528
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    unpadding: Literal["none", "in_layers", "around_attention"] = "none"
    backend: str = AUTO


# Nussbaum et al. 2024, arXiv 2402.01613.
NOMICBERT = PaddedEncoderConfig(activation="silu", theta=1000.0, bias=False, token_types=2)
# GTE-en-MLM, Zhang et al. 2024, arXiv 2407.19669.
GTE = PaddedEncoderConfig(activation="gelu", theta=10_000.0, bias=True)


class PaddedEncoder(nn.Module):
    """Padded batches to hidden states. Parameters bear the names that FlexBERT's encoder gives
    them, so that its state dict fits."""

    def __init__(self, config: PaddedEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = _Embedding(config)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states ``[B, T, C]``, of no meaning at padding.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: bool ``[B, T]``, the real tokens; padding stands on the right.
        """
        hidden = self.embedding(input_ids)
        if self.config.unpadding == "none":
            turn = self._turn(torch.arange(input_ids.shape[1], device=input_ids.device))
            mix = _padded_attention(attention_mask)
            for layer in self.layers:
                hidden = layer(hidden, turn, mix)
            return hidden

        packed, indices = unpad(input_ids, attention_mask)
        turn = self._turn(packed.position_ids)

        def padded(x: Tensor) -> Tensor:
            return pad(x, indices, *input_ids.shape)

        def unpadded(x: Tensor) -> Tensor:
            return x.flatten(0, 1).index_select(0, indices)

        if self.config.unpadding == "in_layers":
            scale, backend = self._head_dim**-0.5, self.config.backend
            mix = partial(attend, packed=packed, window=None, scale=scale, backend=backend)
            for layer in self.layers:
                hidden = padded(layer(unpadded(hidden), turn, mix))
            return hidden

        padded_mix = _padded_attention(attention_mask)
        hidden = unpadded(hidden)
        for layer in self.layers:
            hidden = layer(hidden, turn, lambda *qkv: unpadded(padded_mix(*map(padded, qkv))))
        return padded(hidden)

    @property
    def _head_dim(self) -> int:
        return self.config.hidden_size // self.config.num_heads

    def _turn(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines ``[T, 1, D / 2]`` or ``[N, 1, D / 2]``, in float32."""
        exponents = torch.arange(0, self._head_dim, 2, device=positions.device) / self._head_dim
        angles = positions[:, None, None].float() / self.config.theta**exponents
        return angles.cos(), angles.sin()


class _Embedding(nn.Module):
    def __init__(self, config: PaddedEncoderConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.tokens = nn.Embedding(config.vocab_size, size)
        self.token_types = nn.Embedding(config.token_types, size) if config.token_types else None
        self.norm = _norm(config)

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.tokens(input_ids)
        if self.token_types is not None:
            hidden = hidden + self.token_types.weight[0]
        return self.norm(hidden)


class _Layer(nn.Module):
    """Hidden states ``[B, T, C]`` or ``[N, C]`` to others of that shape."""

    def __init__(self, config: PaddedEncoderConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.attention_norm = _norm(config)
        self.mlp = _GLU(config)
        self.mlp_norm = _norm(config)

    def forward(self, hidden: Tensor, turn: tuple[Tensor, Tensor], mix: Mix) -> Tensor:
        hidden = self.attention_norm(hidden + self.attention(hidden, turn, mix))
        return self.mlp_norm(hidden + self.mlp(hidden))


class _Attention(nn.Module):
    def __init__(self, config: PaddedEncoderConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(size, 3 * size, bias=config.bias)
        self.out = nn.Linear(size, size, bias=config.bias)

    def forward(self, hidden: Tensor, turn: tuple[Tensor, Tensor], mix: Mix) -> Tensor:
        heads = self.qkv(hidden).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = heads.unbind(-3)
        return self.out(mix(_turned(q, *turn), _turned(k, *turn), v).flatten(-2))


class _GLU(nn.Module):
    def __init__(self, config: PaddedEncoderConfig) -> None:
        super().__init__()
        self.activation = {"gelu": F.gelu, "silu": F.silu}[config.activation]
        self.up = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        activated, multiplier = self.up(hidden).chunk(2, dim=-1)
        return self.down(self.activation(activated) * multiplier)


def _padded_attention(attention_mask: Tensor) -> Mix:
    """torch's, over heads ``[B, T, H, D]``."""
    # Without a mask it is faster.
    mask = None if attention_mask.all() else attention_mask[:, None, None]

    def mix(*qkv: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in qkv), attn_mask=mask)
        return out.transpose(1, 2)

    return mix


def _norm(config: PaddedEncoderConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=1e-12)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads ``[..., H, D]`` turned in float32; pairs are dimensions i and i + D / 2."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)
