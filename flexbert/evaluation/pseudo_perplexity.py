"""Pseudo-perplexity: every token of a sequence predicted from all others.

Each token but [CLS] and [SEP] is masked alone, and e to the mean of their losses is what Salazar et
al. (2020, "Masked language model scoring", arXiv 1910.14659) call pseudo-perplexity. A sequence of
T tokens takes T forward passes, so a sample of the sequences has to do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from flexbert.data.format.corpus_format import CorpusMeta
from flexbert.data.sampling.chunks import Chunks
from flexbert.evaluation.settings import TOKENS_PER_FORWARD
from flexbert.nn.cross_entropy import token_scores
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch


@dataclass(frozen=True, kw_only=True)
class PseudoPerplexity:
    """
    Attributes:
        sequences, tokens: that it was measured on, special tokens not counted.
        loss: mean in nats a token.
        perplexity: e to that.
    """

    sequences: int
    tokens: int
    loss: float
    perplexity: float


def pseudo_perplexity(
    model: MaskedLM, chunks: Chunks, count: int, device: torch.device
) -> PseudoPerplexity:
    """Of ``count`` sequences, spread evenly over all."""
    split = chunks.split
    numbers = chunks.sample(count)
    total, tokens = 0.0, 0
    for document, start, length in zip(*chunks.locate(numbers), strict=True):
        place = (np.array([value]) for value in (document, start, length))
        content = split.gather(*place).astype(np.int64)
        special = split.meta.special_ids
        sequence = np.concatenate([[special.cls], content, [special.sep]])
        for losses in _losses(model, torch.from_numpy(sequence).to(device), split.meta):
            total += losses
        tokens += int(length)
    loss = total / tokens
    return PseudoPerplexity(
        sequences=len(numbers), tokens=tokens, loss=loss, perplexity=math.exp(min(loss, 700.0))
    )


def _losses(model: MaskedLM, sequence: torch.Tensor, meta: CorpusMeta) -> Iterator[float]:
    """Sums of the losses of some tokens at a time of a sequence ``[T]``."""
    length = len(sequence)
    places = torch.arange(1, length - 1, device=sequence.device)
    for some in places.split(max(1, TOKENS_PER_FORWARD // length)):
        copies = sequence.repeat(len(some), 1)
        rows = torch.arange(len(some), device=sequence.device)
        copies[rows, some] = meta.special_ids.mask
        packed = PackedBatch(
            tokens=copies.flatten(),
            cu_seqlens=(torch.arange(len(some) + 1, device=sequence.device) * length).int(),
            max_seqlen=length,
            position_ids=torch.arange(length, device=sequence.device).repeat(len(some)),
        )
        logits = model.deferred_logits(packed, rows * length + some)
        yield token_scores(logits, sequence[some]).losses.double().sum().item()
