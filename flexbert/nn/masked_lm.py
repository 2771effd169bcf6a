"""The masked language model."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from flexbert.config.model import ModelConfig
from flexbert.nn.encoder import Encoder
from flexbert.nn.head import MLMHead
from flexbert.nn.logits import DeferredLogits
from flexbert.nn.packed_batch import PackedBatch


class MaskedLM(nn.Module):
    """An encoder with a masked-LM head, its parameters not filled yet."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(model)
        # Or another with its interface.
        self.head = cast(MLMHead, model.head.build(model))

    def forward(self, packed: PackedBatch, masked_positions: Tensor | None = None) -> Tensor:
        """Logits of the tokens at ``masked_positions``, or of all.

        Args:
            packed: N tokens.
            masked_positions: indices into them ``[M]``, int64; the head runs for these alone.

        Returns:
            ``[M, V]``, or ``[N, V]`` without ``masked_positions``.
        """
        return self.deferred_logits(packed, masked_positions).computed()

    def deferred_logits(
        self, packed: PackedBatch, masked_positions: Tensor | None = None
    ) -> DeferredLogits:
        """What :meth:`forward` returns, but for the decoder's product."""
        hidden = self.encoder(packed)
        if masked_positions is not None:
            hidden = hidden.index_select(0, masked_positions)
        return self.head.logits(hidden, self.encoder.token_matrix)
