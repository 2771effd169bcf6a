"""The masked language model, and how to get one from a config."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flexbert.config.model import ModelConfig
from flexbert.nn.encoder import Encoder
from flexbert.nn.ragged import RaggedBatch, pad, unpad


class MaskedLM(nn.Module):
    """An encoder with a masked-LM head. Get one that is initialised from :func:`build_model`."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(model)
        self.head = model.head.build(model)

    def forward(self, ragged: RaggedBatch, masked_positions: Tensor | None = None) -> Tensor:
        """Logits of the tokens at ``masked_positions``, or of all.

        Args:
            ragged: N tokens.
            masked_positions: indices into them ``[M]``, int64; the head runs for these alone.

        Returns:
            ``[M, V]``, or ``[N, V]`` without ``masked_positions``.
        """
        hidden = self.encoder(ragged)
        if masked_positions is not None:
            hidden = hidden.index_select(0, masked_positions)
        return self.head(hidden, self.encoder.token_matrix)


class PaddedMaskedLM(nn.Module):
    """A masked LM at the border to padded batches."""

    def __init__(self, masked_lm: MaskedLM) -> None:
        super().__init__()
        self.masked_lm = masked_lm

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits ``[B, T, V]`` of a padded batch ``[B, T]``; zero at padding."""
        ragged, indices = unpad(input_ids, attention_mask)
        return pad(self.masked_lm(ragged), indices, *input_ids.shape)


def build_model(model: ModelConfig, *, device: torch.device | str = "cpu") -> MaskedLM:
    """A new, initialised model.

    Its weights are drawn on the CPU from the global seed, so they are the same for any device and
    any number of processes. On the ``meta`` device nothing is drawn or allocated.
    """
    with torch.device("meta"):
        masked_lm = MaskedLM(model)
    if torch.device(device).type == "meta":
        return masked_lm
    masked_lm.to_empty(device="cpu")
    model.init.apply(masked_lm, model)
    return masked_lm.to(device)


def parameter_counts(model: ModelConfig) -> dict[str, int]:
    """How many parameters the model has, without allocating them.

    Returns:
        ``embedding``: token matrix and embedding norm; ``encoder``: layers and final norm;
        ``total``: these and the head, a tied decoder matrix counted once, as embedding.
    """
    masked_lm = build_model(model, device="meta")
    total = _count(masked_lm)
    embedding = _count(masked_lm.encoder.embedding)
    return {
        "total": total,
        "embedding": embedding,
        "encoder": _count(masked_lm.encoder) - embedding,
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
