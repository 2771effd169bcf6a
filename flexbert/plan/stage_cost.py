"""What a token costs, and what a stage does at a given efficiency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flexbert.config.recipe import Recipe
from flexbert.data.packing.row_stream import sampling_stream
from flexbert.data.reading.corpus import Split
from flexbert.nn.flops import model_cost
from flexbert.nn.masked_lm import MaskedLM

SAMPLED_CHUNKS = 100_000


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a plan's hours and micro-batches are for.

    Attributes:
        mfu: share of the peak that a run reaches (model FLOPs utilisation).
        peak_tflops: of one GPU; 989 is an H100's or H200's in dense bfloat16.
        gpu_memory: of one GPU, in GiB; 80 is an H100's.
    """

    mfu: float = 0.4
    peak_tflops: float = 989.0
    gpu_memory: float = 80.0

    @property
    def gpu_bytes(self) -> int:
        """Memory of one GPU."""
        return int(self.gpu_memory * 2**30)

    def hours(self, flops: float) -> float:
        """GPU-hours of this many floating-point operations."""
        return flops / (self.mfu * self.peak_tflops * 1e12) / 3600


@dataclass(frozen=True, kw_only=True)
class TokenCost:
    """What a token costs forward and backward.

    Attributes:
        flops: floating-point operations of a token.
        lengths: which lengths of sequences they are averaged over, in words.
    """

    flops: float
    lengths: str


def token_cost(recipe: Recipe, model: MaskedLM, train: Mapping[str, Split] | None) -> TokenCost:
    """Count a token's floating-point operations, for the lengths of the corpus if there is one."""
    if train is None:
        lengths = np.array([recipe.data.max_length])
        source = f"sequences of {recipe.data.max_length} tokens (no corpus given)"
    else:
        lengths = sampling_stream(train, recipe.data).mixture.sample_lengths(SAMPLED_CHUNKS)
        source = "the corpus's lengths"
    cost = model_cost(model, recipe.model)
    flops = cost.flops_per_token(lengths, recipe.data.mask_rate)
    return TokenCost(flops=flops, lengths=source)
