"""The encoder: embedding, layers, final norm."""

from __future__ import annotations

from torch import Tensor, nn

from flexbert.config.layer_plan import layer_plan
from flexbert.config.model import ModelConfig
from flexbert.nn.packed_batch import PackedBatch


class Encoder(nn.Module):
    """A packed batch to hidden states ``[N, C]``.

    Layers whose queries and keys turn by the same angles share one rotation, computed once a
    forward pass.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        plan = layer_plan(model)
        self.embedding = model.embedding.build(model.vocab_size, model.hidden_size)
        self.layers = nn.ModuleList(layer.parts.block.build(model, layer) for layer in plan)
        self.final_norm = (
            model.final_norm.build(model.hidden_size) if model.final_norm else nn.Identity()
        )
        turns = [(layer.parts.attention.rope, layer.head_dim, layer.theta) for layer in plan]
        distinct = [turn for i, turn in enumerate(turns) if turn not in turns[:i] and turn[0]]
        self.ropes = nn.ModuleList(
            rope.build(head_dim, theta)
            for rope, head_dim, theta in distinct
            if rope is not None and theta is not None
        )
        # For each layer its rope's place among them, None without one.
        self.layer_ropes = [distinct.index(turn) if turn[0] else None for turn in turns]

    @property
    def token_matrix(self) -> Tensor:
        """The embedding matrix ``[V, E]`` that a decoder can be tied to."""
        return self.embedding.get_parameter("tokens.weight")

    def forward(self, packed: PackedBatch) -> Tensor:
        hidden = self.embedding(packed)
        rotations = [rope(packed) for rope in self.ropes]
        for layer, rope in zip(self.layers, self.layer_ropes, strict=True):
            hidden = layer(hidden, packed, None if rope is None else rotations[rope])
        return self.final_norm(hidden)
