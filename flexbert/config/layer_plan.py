"""What each layer does: which attention, how wide, with which rotary base. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass

from flexbert.config.model import AttentionKind, LayerParts, ModelConfig


@dataclass(frozen=True)
class LayerPlan:
    """One layer of the plan.

    Args:
        index: counted from 0.
        parts: what it is built of.
        attention: ``global`` layers see the whole document, ``local`` ones a window.
        window: total width of the window, even: a query sees the keys with
            ``|q - k| <= window // 2``. None in a global layer.
        theta: rotary base, None without rotary embeddings.
        head_dim: size of a head.
        skip_attention_norm: whether attention reads the residual stream as it is.
    """

    index: int
    parts: LayerParts
    attention: AttentionKind
    window: int | None
    theta: float | None
    head_dim: int
    skip_attention_norm: bool

    @property
    def attention_size(self) -> int:
        """The size of all heads together."""
        return self.parts.attention.num_heads * self.head_dim


def layer_plan(model: ModelConfig) -> tuple[LayerPlan, ...]:
    """The plan of every layer."""
    return tuple(_plan_layer(model, index) for index in range(model.num_layers))


def _plan_layer(model: ModelConfig, index: int) -> LayerPlan:
    parts = model.layer(index)
    kind = parts.attention.kind(index)
    return LayerPlan(
        index=index,
        parts=parts,
        attention=kind,
        window=parts.attention.window if kind == "local" else None,
        theta=parts.attention.rope.layer_theta(kind) if parts.attention.rope else None,
        head_dim=parts.attention.size_of_head(model.hidden_size),
        skip_attention_norm=parts.block.skips_attention_norm(index),
    )
