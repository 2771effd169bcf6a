"""A masked LM on corpora, with the masks that evaluation while training has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch

from flexbert.checkpoint.weights import filled_model
from flexbert.config.model import MASKED_LM
from flexbert.data.counting.neighbours import NeighbourModel, neighbours_of
from flexbert.data.packing.loader import eval_loader
from flexbert.data.sampling.chunks import Chunks, Cut
from flexbert.devices.chosen import chosen_device
from flexbert.errors import UserError
from flexbert.evaluation.pseudo_perplexity import PseudoPerplexity, pseudo_perplexity
from flexbert.evaluation.scores import MaskedScore, PositionScore, ScoreSums
from flexbert.evaluation.settings import (
    TOKENS_PER_FORWARD,
    LmRequest,
    LmSettings,
    LmSource,
    settle,
)
from flexbert.nn.cross_entropy import token_scores
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch
from flexbert.pretrained.load_model import read_model


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Losses in nats of models that only count, on the same tokens seen in the same way.

    Attributes:
        unigram: by how often each token occurs in the training split (add-one smoothed).
        neighbours: by the two neighbours of the masked token, see
            :mod:`flexbert.data.counting.neighbours`.
    """

    unigram: float
    neighbours: float


@dataclass(frozen=True, kw_only=True)
class SourceScore:
    """One corpus's.

    Attributes:
        corpus: its folder.
        sequences: in which tokens were masked.
        positions: in buckets, each as long as all before it.
        floors, pseudo_perplexity: where they were asked for, and there is a training split.
    """

    corpus: str
    sequences: int
    score: MaskedScore
    positions: tuple[PositionScore, ...]
    floors: Floors | None = None
    pseudo_perplexity: PseudoPerplexity | None = None


@dataclass(frozen=True, kw_only=True)
class LmEvaluation:
    """How well a model predicts masked tokens.

    Attributes:
        model: the checkpoint or folder.
        parameters: how many it has.
        score: over the masked tokens of all sources.
        sources: each one's, by its name.
        notes: what is to be known of it.
    """

    model: str
    parameters: int
    split: str
    max_length: int
    mask_rate: float
    precision: str
    device: str
    score: MaskedScore
    positions: tuple[PositionScore, ...]
    sources: dict[str, SourceScore]
    notes: tuple[str, ...]


def evaluate_lm(source: Path, request: LmRequest) -> LmEvaluation:
    """Evaluate a trained masked LM.

    Args:
        source: a checkpoint, an average, a run's folder, a Hugging Face folder or name.

    Raises:
        UserError: if model or corpora cannot be read, or do not fit together.
    """
    read = read_model(source)
    if (task := read.config.head.task) != MASKED_LM:
        raise UserError(f"{read.path}: its head is for {task}, not for masked tokens")
    settings = settle(read, request)
    device = chosen_device(request.device)
    model = cast(MaskedLM, filled_model(read.config, read.weights)).to(device).eval()
    total = ScoreSums(settings.data.max_length)
    sources = {}
    is_bf16 = settings.precision == "amp_bf16"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
        for name, each in settings.sources.items():
            sums, sources[name] = _evaluate(model, each, settings, request, device)
            total += sums
    return LmEvaluation(
        model=str(read.path),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        split=request.split,
        max_length=settings.data.max_length,
        mask_rate=settings.mask_rate,
        precision=settings.precision,
        device=str(device),
        score=total.score(),
        positions=total.by_position(),
        sources=sources,
        notes=settings.notes,
    )


def _evaluate(
    model: MaskedLM,
    source: LmSource,
    settings: LmSettings,
    request: LmRequest,
    device: torch.device,
) -> tuple[ScoreSums, SourceScore]:
    """One corpus's sums, and what is said of them."""
    counts = None if source.training is None else neighbours_of(source.training)
    sums = ScoreSums(settings.data.max_length)
    floors = np.zeros(2)
    for scored in _scored(model, source, settings, device):
        sums.add(scored.losses, scored.hits, scored.positions, scored.sequences)
        if counts is not None:
            floors += _floor_sums(counts, scored)
    score = sums.score()
    unigram, neighbours = (floors / max(score.masked_tokens, 1)).tolist()
    has_floors = counts is not None and score.masked_tokens > 0
    pseudo = None
    if request.pseudo_perplexity:
        chunks = Chunks(source.split, Cut(settings.data.max_length, settings.data.merge_below))
        pseudo = pseudo_perplexity(model, chunks, request.pseudo_perplexity, device)
    return sums, SourceScore(
        corpus=str(source.split.folder.parent),
        sequences=sums.sequences,
        score=score,
        positions=sums.by_position(),
        floors=Floors(unigram=unigram, neighbours=neighbours) if has_floors else None,
        pseudo_perplexity=pseudo,
    )


class _Scored(NamedTuple):
    """Masked tokens of a micro-batch, each ``[M]``: their scores, places and neighbours as seen."""

    losses: np.ndarray
    hits: np.ndarray
    positions: np.ndarray
    sequences: np.ndarray
    left: np.ndarray
    token: np.ndarray
    right: np.ndarray


def _scored(
    model: MaskedLM, source: LmSource, settings: LmSettings, device: torch.device
) -> Iterator[_Scored]:
    loader = eval_loader(
        source.split,
        settings.data,
        mask_rate=settings.mask_rate,
        masking=settings.masking,
        microbatch_rows=max(1, TOKENS_PER_FORWARD // settings.data.row_length),
        max_rows=source.rows,
    )
    for batch in loader:
        for microbatch in batch["microbatches"]:
            count = microbatch["num_masked"]
            if not count:
                continue
            masked = microbatch["masked_positions"][:count]
            labels = microbatch["labels"][:count]
            packed = PackedBatch(
                tokens=microbatch["input_ids"].to(device),
                cu_seqlens=microbatch["cu_seqlens"].to(device),
                max_seqlen=microbatch["max_seqlen"],
                position_ids=microbatch["position_ids"].to(device),
            )
            logits = model.deferred_logits(packed, masked.to(device))
            scores = token_scores(logits, labels.to(device))
            places, seen = masked.numpy(), microbatch["input_ids"].numpy()
            borders = microbatch["cu_seqlens"].numpy()
            yield _Scored(
                losses=scores.losses.cpu().numpy(),
                hits=scores.hits.cpu().numpy(),
                positions=microbatch["position_ids"].numpy()[places],
                sequences=np.searchsorted(borders, places, side="right"),
                left=seen[places - 1],
                token=labels.numpy(),
                right=seen[places + 1],
            )


def _floor_sums(counts: NeighbourModel, scored: _Scored) -> np.ndarray:
    """Sums of the losses in nats of unigrams and of neighbours."""
    unigram = -np.log(counts.counts.unigram[scored.token])
    neighbours = -counts.log_prob(scored.left, scored.token, scored.right)
    return np.array([unigram.sum(), neighbours.sum()])
