"""What each layer does: which attention, how wide, with which rotary base. Pure Python."""

from __future__ import annotations

from flexbert.config.model import LayerPlan, ModelConfig


def layer_plan(model: ModelConfig) -> tuple[LayerPlan, ...]:
    """The plan of every layer."""
    return tuple(_plan_layer(model, index) for index in range(model.num_layers))


def _plan_layer(model: ModelConfig, index: int) -> LayerPlan:
    parts = model.layer(index)
    window = parts.attention.windows.of(index, model.num_layers)
    return LayerPlan(
        index=index,
        parts=parts,
        attention="global" if window is None else "local",
        window=window,
        theta=parts.attention.rope.layer_theta(window) if parts.attention.rope else None,
        head_dim=parts.attention.size_of_head(model.hidden_size),
        skip_attention_norm=parts.block.skips_attention_norm(index),
    )
