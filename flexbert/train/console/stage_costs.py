"""What a token costs in one stage against another: longer sequences cost more attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexbert.data.reading.corpora import Corpora
from flexbert.nn.build import meta_masked_lm
from flexbert.nn.flops import model_cost
from flexbert.schedule.stages import Stage

_SAMPLED_DOCUMENTS = 100_000


def stage_costs(stages: Sequence[Stage], corpora: Sequence[Corpora]) -> dict[str, float]:
    """Floating-point operations of a token in each stage, by its name.

    They are those of chunks of some documents, evenly spaced through each corpus: for estimates.
    """
    costs = {}
    for stage, opened in zip(stages, corpora, strict=True):
        recipe = stage.recipe
        model = meta_masked_lm(recipe.model)
        splits = opened.splits("train").values()
        documents = np.concatenate([_sample(split.lengths) for split in splits])
        lengths = chunk_lengths(documents, recipe.data.max_length)
        cost = model_cost(model, recipe.model)
        costs[stage.name] = cost.flops_per_token(lengths, recipe.data.mask_rate)
    return costs


def chunk_lengths(documents: np.ndarray, max_length: int) -> np.ndarray:
    """Lengths of the sequences that documents of these lengths are cut into, special tokens too."""
    longest = max_length - 2
    num_full, rest = np.divmod(documents.astype(np.int64), longest)
    return np.concatenate([np.full(int(num_full.sum()), max_length), rest[rest > 0] + 2])


def _sample(lengths: np.ndarray) -> np.ndarray:
    step = max(1, len(lengths) // _SAMPLED_DOCUMENTS)
    return np.asarray(lengths[::step])
