"""Self-attention over a packed batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flexbert.config.backend_choice import BackendChoice
from flexbert.config.fields import COMPUTATION, FUNCTION, key
from flexbert.config.model import AttentionConfig, LayerPlan, NormConfig
from flexbert.config.registry import register
from flexbert.errors import ConfigError
from flexbert.nn.attention_backends import Request, attend, check_backend, resolve_backend
from flexbert.nn.packed_batch import PackedBatch
from flexbert.nn.projection import OutputProjection
from flexbert.nn.rope import Rotation, rotate
from flexbert.nn.units import DimensionUnits, Units


@register("multi_head")
@dataclass(frozen=True, kw_only=True)
class MultiHeadConfig(AttentionConfig):
    """Multi-head attention (Vaswani et al. 2017), also with fewer keys than queries.

    Attributes:
        num_kv_heads: heads of keys and values, each shared by as many heads of queries (Ainslie et
            al. 2023); ``num_heads`` when null.
        alibi: penalise distant keys linearly (Press et al. 2022), instead of rope.
        qk_norm: a norm on every head's queries and one on its keys (Henry et al. 2020).
        bias: whether the projections to queries, keys and values have one.
        output_bias: whether the projection out has one; null is ``bias``.
        dropout: on attention probabilities.
        output_dropout: on what attention adds to the residual stream.
        backend: of :mod:`flexbert.nn.attention_backends`, or ``auto``; one for all layers, or one
            for each kind.
    """

    num_kv_heads: int | None = key(FUNCTION, default=None, above=0)
    alibi: bool = key(FUNCTION, default=False)
    qk_norm: NormConfig | None = key(FUNCTION, default=None)
    bias: bool = key(FUNCTION, default=False)
    output_bias: bool | None = key(FUNCTION, default=None)
    dropout: float = key(COMPUTATION, default=0.0, at_least=0, below=1)
    output_dropout: float = key(COMPUTATION, default=0.0, at_least=0, below=1)
    backend: BackendChoice = key(COMPUTATION, default=BackendChoice())

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backend("backend", self.backend.global_layers)
        check_backend("backend", self.backend.local_layers)
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ConfigError(
                "num_kv_heads", f"must divide num_heads {self.num_heads}, got {self.num_kv_heads}"
            )
        if self.alibi and self.rope is not None:
            raise ConfigError(
                "alibi", "stands for rope: give one of them, rope: null or alibi: false"
            )

    @property
    def knows_positions(self) -> bool:
        return self.alibi or super().knows_positions

    @property
    def queries_per_key(self) -> int:
        return self.num_heads // (self.num_kv_heads or self.num_heads)

    def build(self, hidden_size: int, layer: LayerPlan) -> MultiHeadAttention:
        return MultiHeadAttention(self, hidden_size, layer)


class MultiHeadAttention(nn.Module):
    """``qkv`` gives all heads' queries, then keys, then values."""

    def __init__(self, config: MultiHeadConfig, hidden_size: int, layer: LayerPlan) -> None:
        super().__init__()
        num_kv_heads = config.num_kv_heads or config.num_heads
        self.heads = (config.num_heads, num_kv_heads, num_kv_heads)
        self.head_dim = config.size_of_head(hidden_size)
        self.window = layer.window
        self.alibi = config.alibi
        self.backend = config.backend.of(layer.attention)
        self.qkv = nn.Linear(hidden_size, sum(self.heads) * self.head_dim, bias=config.bias)
        self.has_qk_norm = config.qk_norm is not None
        self.q_norm = config.qk_norm.build(self.head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = config.qk_norm.build(self.head_dim) if config.qk_norm else nn.Identity()
        self.out = OutputProjection(
            config.num_heads * self.head_dim,
            hidden_size,
            bias=config.bias if config.output_bias is None else config.output_bias,
        )
        self.probability_dropout = config.dropout
        self.dropout = nn.Dropout(config.output_dropout)
        self._slopes: Tensor | None = None
        self._place_slopes()

    def forward(self, hidden: Tensor, packed: PackedBatch, rotation: Rotation | None) -> Tensor:
        """``[N, C]`` to ``[N, C]``; without a rotation, queries and keys are not turned."""
        heads = self.qkv(hidden).unflatten(-1, (-1, self.head_dim))
        num_heads, num_kv_heads, _ = self.heads
        queries_and_keys, v = heads.split((num_heads + num_kv_heads, num_kv_heads), dim=1)
        if self.has_qk_norm:
            q, k = queries_and_keys.split((num_heads, num_kv_heads), dim=1)
            # Norms may be kept in another precision than the matrix product's result.
            queries_and_keys = torch.cat((self.q_norm(q), self.k_norm(k)), dim=1).to(v.dtype)
        if rotation is not None:
            queries_and_keys = rotate(queries_and_keys, rotation)
        q, k = queries_and_keys.split((num_heads, num_kv_heads), dim=1)
        mixed = attend(
            q,
            k,
            v,
            packed,
            window=self.window,
            scale=self.head_dim**-0.5,
            alibi_slopes=self._alibi_slopes(q.device),
            dropout=self.probability_dropout if self.training else 0.0,
            backend=self.backend,
        )
        return self.dropout(self.out(mixed.flatten(1)))

    def backend_for(self, device: torch.device, dtype: torch.dtype) -> str:
        """The name of the backend that trains it, on queries of this ``dtype``.

        Raises:
            ConfigError: if the one asked for cannot.
        """
        num_heads, num_kv_heads, _ = self.heads
        request = Request(
            device=device,
            dtype=dtype,
            head_dim=self.head_dim,
            windowed=self.window is not None,
            grouped=num_kv_heads != num_heads,
            alibi=self.alibi,
            dropout=self.probability_dropout > 0,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )
        return resolve_backend(self.backend, request).name

    def dimension_units(self) -> DimensionUnits:
        """Whole heads; those of queries in groups that share a key."""
        num_heads, num_kv_heads, _ = self.heads
        queries = Units(num_kv_heads, num_heads // num_kv_heads * self.head_dim)
        keys = values = Units(num_kv_heads, self.head_dim)
        return {("qkv", 0): (queries, keys, values), ("out", 1): (queries,)}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MultiHeadAttention:
        super()._apply(fn, recurse)
        self._place_slopes()
        return self

    def _place_slopes(self) -> None:
        """Keep the slopes where the parameters are: to bring them along waits for a GPU.

        No buffer, which the meta device would empty, casts would round, and DistributedDataParallel
        would send around in every forward pass.
        """
        device = self.qkv.weight.device
        if self.alibi and device.type != "meta":
            self._slopes = alibi_slopes(self.heads[0]).to(device)

    def _alibi_slopes(self, device: torch.device) -> Tensor | None:
        if not self.alibi:
            return None
        if self._slopes is None or self._slopes.device != device:
            # Parameters came from elsewhere without a word: load_state_dict(assign=True).
            self._slopes = alibi_slopes(self.heads[0]).to(device)
        return self._slopes


def alibi_slopes(num_heads: int) -> Tensor:
    """How strongly each head is drawn to near keys: ``[H]``, float32, on the CPU.

    Head h adds ``-slope[h] * |i - j|`` to the score of query i and key j; the paper's bias is
    causal, its mirror image for an encoder is MosaicBERT's (Portes et al. 2023). For a power of two
    the slopes are geometric from ``2 ** (-8 / H)`` to ``2 ** -8`` (section 3). Any other number
    takes those of the power of two below it and then every second one of the power above it, as
    the authors' published code does.
    """
    below = 1 << (num_heads.bit_length() - 1)
    slopes = [2 ** (-8 * i / below) for i in range(1, below + 1)]
    slopes += [2 ** (-8 * i / (2 * below)) for i in range(1, 2 * (num_heads - below), 2)]
    return torch.tensor(slopes, dtype=torch.float32, device="cpu")
