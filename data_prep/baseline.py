"""``python -m data_prep baseline``: the neighbour model on masked positions of a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.neighbours import NeighbourModel, neighbour_model
from data_prep.reading import read_blocks, read_documents
from data_prep.unigram import unigram_counts, unigram_entropy
from flexbert.data.reading.corpus import Corpus
from flexbert.errors import UserError

__all__ = ["evaluate_baseline", "masked_loss", "neighbour_model", "with_borders"]


def with_borders(corpus: Path, split: str) -> Iterator[np.ndarray]:
    """Each document of a split between [CLS] and [SEP], as a network sees it."""
    opened = Corpus.open(corpus)
    meta = opened.meta
    cls, sep = ([id_] for id_ in (meta.special_ids.cls, meta.special_ids.sep))
    for document in read_documents(opened.split(split, verify_hashes=False)):
        yield np.concatenate([cls, document, sep]).astype(meta.dtype)


def masked_loss(
    model: NeighbourModel, tokens: np.ndarray, masked: np.ndarray, mask_id: int
) -> np.ndarray:
    """Cross-entropy in nats of each masked position of one sequence.

    Args:
        tokens: original ids [T]; neither the first nor the last is masked.
        masked: positions to predict, bool [T]; a masked neighbour is seen as ``mask_id``.
    """
    seen = np.where(masked, mask_id, tokens)
    positions = np.flatnonzero(masked)
    return -model.log_prob(seen[positions - 1], tokens[positions], seen[positions + 1])


def evaluate_baseline(corpus: Path, *, mask_rate: float, seed: int) -> dict[str, Any]:
    """Mean cross-entropy of the neighbour model on random positions of the validation split.

    Each token is masked independently with probability ``mask_rate``, as in training.

    Raises:
        UserError: if the corpus is missing or corrupt, or no position came out masked.
    """
    opened = Corpus.open(corpus)
    meta = opened.meta
    model = neighbour_model(with_borders(corpus, "train"), meta.vocab_size)
    random = np.random.Generator(np.random.PCG64DXSM(seed))
    losses = []
    tokens = []
    for document in with_borders(corpus, "validation"):
        masked = random.random(len(document)) < mask_rate
        masked[[0, -1]] = False
        losses.append(masked_loss(model, document, masked, meta.special_ids.mask))
        tokens.append(document[masked])
    loss, token = np.concatenate(losses), np.concatenate(tokens)
    if len(loss) == 0:
        raise UserError(
            f"--mask-rate {mask_rate} masks no token of {corpus / 'validation'}; raise it"
        )
    held_out = opened.split("validation", verify_hashes=False)
    counts = unigram_counts((tokens for tokens, _ in read_blocks(held_out)), meta.vocab_size)
    return {
        "positions": len(loss),
        "neighbour_loss": float(loss.mean()),
        "unigram_loss": float(-np.log(model.counts.unigram[token]).mean()),
        "unigram_entropy": unigram_entropy(counts),
        "weights": asdict(model.weights),
    }


def format_baseline(result: dict[str, Any]) -> str:
    """The result as lines for people."""
    return "\n".join(
        [
            f"masked positions  {result['positions']:,} (validation)",
            f"neighbour model   {result['neighbour_loss']:.4f} nats a token",
            f"unigram model     {result['unigram_loss']:.4f} nats a token",
            f"unigram entropy   {result['unigram_entropy']:.4f} nats a token",
        ]
    )
