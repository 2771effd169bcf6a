"""Models at the border to padded batches: the only file that knows of padding on both sides."""

from __future__ import annotations

from torch import Tensor, nn

from flexbert.config.model import ModelConfig
from flexbert.nn.build import Model
from flexbert.nn.packed_batch import pad, unpad


class PaddedModel(nn.Module):
    """A model that takes padded batches, with the config it was built from."""

    def __init__(self, model: Model, config: ModelConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Logits of a padded batch ``[B, T]``, or ``[B, choices, T]`` for multiple choice.

        Returns:
            ``[B, T, V]``, zero at padding; ``[B, T, num_labels]`` for token
            classification, ``[B, num_labels]`` for sequences, ``[B, choices]`` for multiple choice.
        """
        rows = input_ids.flatten(0, -2)
        types = None if token_type_ids is None else token_type_ids.flatten(0, -2)
        packed, indices = unpad(rows, attention_mask.flatten(0, -2), types)
        logits = self.model(packed)
        if self.config.head.per_token:
            return pad(logits, indices, *rows.shape).unflatten(0, input_ids.shape[:-1])
        return logits.view(input_ids.shape[:-1]) if self.config.head.per_choice else logits
