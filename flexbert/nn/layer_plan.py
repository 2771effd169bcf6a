"""What each layer does: which attention, how wide, with which rotary base. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flexbert.config.model import ModelConfig

AttentionKind = Literal["global", "local"]


@dataclass(frozen=True)
class LayerPlan:
    """One layer of the plan.

    Args:
        index: counted from 0.
        attention: ``global`` layers see the whole document, ``local`` ones a window.
        window: total width of the window, even: a query sees the keys with
            ``|q - k| <= window // 2``. None in a global layer.
        theta: rotary base, None without rotary embeddings.
        skip_attention_norm: whether attention reads the residual stream as it is.
    """

    index: int
    attention: AttentionKind
    window: int | None
    theta: float | None
    skip_attention_norm: bool


def layer_plan(model: ModelConfig) -> tuple[LayerPlan, ...]:
    """The plan of every layer. Layer i is global when ``i % global_every == 0``."""
    return tuple(_plan_layer(model, index) for index in range(model.num_layers))


def _plan_layer(model: ModelConfig, index: int) -> LayerPlan:
    attention = model.attention
    kind: AttentionKind = "global" if index % attention.global_every == 0 else "local"
    return LayerPlan(
        index=index,
        attention=kind,
        window=attention.window if kind == "local" else None,
        theta=attention.rope.layer_theta(kind) if attention.rope else None,
        skip_attention_norm=model.block.skips_attention_norm(index),
    )
