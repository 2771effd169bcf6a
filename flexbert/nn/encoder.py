"""The encoder: embedding, layers, final norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flexbert.config.model import ModelConfig
from flexbert.nn.layer_plan import layer_plan
from flexbert.nn.ragged import RaggedBatch
from flexbert.nn.rope import Rotation


class Encoder(nn.Module):
    """A ragged batch to hidden states ``[N, C]``.

    The rotation of each distinct rotary base is computed once per forward and shared by its layers.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        plan = layer_plan(model)
        self.layer_thetas = [layer.theta for layer in plan]
        self.thetas = sorted({theta for theta in self.layer_thetas if theta is not None})
        self.embedding = model.embedding.build(model.vocab_size, model.hidden_size)
        self.ropes = _build_ropes(model, self.thetas)
        self.layers = nn.ModuleList(model.block.build(model, layer) for layer in plan)
        self.final_norm = (
            model.final_norm.build(model.hidden_size) if model.final_norm else nn.Identity()
        )

    @property
    def token_matrix(self) -> Tensor:
        """The embedding matrix ``[V, C]`` that a decoder can be tied to."""
        return self.embedding.get_parameter("tokens.weight")

    def forward(self, ragged: RaggedBatch) -> Tensor:
        hidden = self.embedding(ragged)
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        rotations: dict[float | None, Rotation] = {
            theta: rope(ragged.position_ids, dtype)
            for theta, rope in zip(self.thetas, self.ropes, strict=True)
        }
        for layer, theta in zip(self.layers, self.layer_thetas, strict=True):
            hidden = layer(hidden, ragged, rotations.get(theta))
        return self.final_norm(hidden)


def _build_ropes(model: ModelConfig, thetas: list[float]) -> nn.ModuleList:
    rope = model.attention.rope
    if rope is None:
        return nn.ModuleList()
    head_dim = model.hidden_size // model.attention.num_heads
    return nn.ModuleList(rope.build(head_dim, theta) for theta in thetas)
