"""``python -m data_prep baseline``: the neighbour model on masked positions of a corpus."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.unigram import unigram_counts, unigram_entropy
from flexbert.data.counting.neighbours import NeighbourModel, neighbours_of
from flexbert.data.reading.corpus import Corpus
from flexbert.data.reading.split_documents import read_blocks, with_borders
from flexbert.errors import UserError


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
    model = neighbours_of(opened.split("train", verify_hashes=False))
    held_out = opened.split("validation", verify_hashes=False)
    random = np.random.Generator(np.random.PCG64DXSM(seed))
    losses = []
    tokens = []
    for document in with_borders(held_out):
        masked = random.random(len(document)) < mask_rate
        masked[[0, -1]] = False
        losses.append(masked_loss(model, document, masked, meta.special_ids.mask))
        tokens.append(document[masked])
    loss, token = np.concatenate(losses), np.concatenate(tokens)
    if len(loss) == 0:
        raise UserError(
            f"--mask-rate {mask_rate} masks no token of {corpus / 'validation'}; raise it"
        )
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
