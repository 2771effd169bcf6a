"""What a token costs, and what a stage does at a given efficiency."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from flexbert.config.recipe import Precision, Recipe
from flexbert.data.packing.row_stream import sampling_stream
from flexbert.data.reading.corpus import Split
from flexbert.devices.gpus import DEFAULT, GPUS
from flexbert.devices.peak_flops import measured_peak_flops
from flexbert.nn.flops import model_cost
from flexbert.nn.masked_lm import MaskedLM

SAMPLED_CHUNKS = 100_000
CPU = "cpu"


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What a plan's hours and micro-batches are for.

    Attributes:
        device: a name of :data:`~flexbert.devices.gpus.GPUS`, or ``cpu``.
        mfu: share of the peak that a run reaches (model FLOPs utilisation).
        peak_tflops: of one GPU, in dense bfloat16.
        gpu_memory: of one GPU, in GiB.
        tokens_per_second: that one GPU was measured to train on; takes the place of peak and MFU.
    """

    device: str = DEFAULT
    mfu: float = 0.4
    peak_tflops: float = GPUS[DEFAULT].peak_tflops
    gpu_memory: float = GPUS[DEFAULT].memory
    tokens_per_second: float | None = None

    @property
    def unit(self) -> str:
        """What there are several of."""
        return "CPU" if self.device == CPU else "GPU"

    @property
    def rate_text(self) -> str:
        """What hours count on, in words."""
        if self.tokens_per_second is not None:
            return f"{self.tokens_per_second:,.0f} tokens a second on one {self.unit}, as given"
        measured = ", measured here" if self.device == CPU else ""
        return f"an MFU of {self.mfu:.0%} of {self.peak_tflops:.4g} TFLOP/s{measured}"

    @property
    def gpu_bytes(self) -> int:
        """Memory of one GPU."""
        return int(self.gpu_memory * 2**30)

    def hours(self, tokens: int, flops_per_token: float) -> float:
        """GPU-hours of training on this many tokens."""
        rate = self.tokens_per_second
        return tokens / (rate or self.mfu * self.peak_tflops * 1e12 / flops_per_token) / 3600


def cpu_hardware(precision: Precision, mfu: float = Hardware.mfu) -> Hardware:
    """This machine's CPU: its rate is measured, for a fifth of a second, and its memory read."""
    dtype = torch.bfloat16 if precision == "amp_bf16" else torch.float32
    return Hardware(
        device=CPU,
        mfu=mfu,
        peak_tflops=measured_peak_flops(torch.device(CPU), dtype) / 1e12,
        gpu_memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
    )


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
