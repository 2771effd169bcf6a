"""What a token costs, and what a stage does at a given efficiency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from flexbert.config.schema import Recipe
from flexbert.data.corpus import Split
from flexbert.data.stream import sampling_stream
from flexbert.nn.build import Model
from flexbert.nn.layer_plan import layer_plan
from flexbert.recipe.flops import flops_per_token, mean_keys_attended

SAMPLED_PIECES = 100_000


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a plan's hours are for.

    Attributes:
        mfu: share of the peak that a run reaches (model FLOPs utilisation).
        peak_tflops: of one GPU; 989 is an H100's or H200's in dense bfloat16.
    """

    mfu: float = 0.4
    peak_tflops: float = 989.0

    def hours(self, flops: float) -> float:
        """GPU-hours of so many floating-point operations."""
        return flops / (self.mfu * self.peak_tflops * 1e12) / 3600


def token_cost(recipe: Recipe, model: Model, train: Mapping[str, Split] | None) -> dict[str, Any]:
    """Floating-point operations of a token, for the corpus's lengths where it is at hand."""
    if train is None:
        lengths = np.array([recipe.data.max_length])
        source = f"sequences of {recipe.data.max_length} tokens (no corpus given)"
    else:
        lengths = sampling_stream(train, recipe.data).mixture.sample_lengths(SAMPLED_PIECES)
        source = "the corpus's lengths"
    encoder, head = _matrices(recipe.model.hidden_size, model)
    flops = flops_per_token(
        encoder_matrices=encoder,
        head_matrices=head,
        mask_rate=recipe.data.mask_rate,
        attention=[
            (layer.attention_size, mean_keys_attended(lengths, layer.window))
            for layer in layer_plan(recipe.model)
        ],
    )
    return {"flops_per_token": flops, "flops_lengths": source}


def _matrices(hidden_size: int, model: Model) -> tuple[int, int]:
    """Weights in the matrices of the encoder's layers, and in those that masked tokens pass."""
    encoder = sum(p.numel() for p in model.encoder.layers.parameters() if p.ndim >= 2)
    # Counted by running it: a tied decoder's matrix is no parameter of the head.
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.head(torch.empty(1, hidden_size, device="meta"), model.encoder.token_matrix)
    return encoder, counter.get_total_flops() // 2
