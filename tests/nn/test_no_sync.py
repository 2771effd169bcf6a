"""No micro-batch makes the process wait for its device.

The model runs forward and backward on fake tensors, which have shapes and no content. Whatever
would read a number off the device raises there: ``.item()``, an ``if``, a shape that depends on
values. What stands inside an attention op is not seen; on a GPU it is one kernel's launch.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from flexbert.config.model import ModelConfig
from flexbert.nn.loss import CrossEntropyConfig
from flexbert.nn.masked_lm import MaskedLM
from flexbert.nn.packed_batch import PackedBatch
from tests.nn.test_compile import MODELS

TOKENS, SEQUENCES, MASKED = 256, 12, 80


def forward_and_backward(model: MaskedLM, loss: CrossEntropyConfig) -> None:
    packed = PackedBatch(
        tokens=torch.zeros(TOKENS, dtype=torch.int64),
        cu_seqlens=torch.zeros(SEQUENCES + 1, dtype=torch.int32),
        max_seqlen=64,
        position_ids=torch.zeros(TOKENS, dtype=torch.int64),
    )
    masked = torch.zeros(MASKED, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.deferred_logits(packed, masked)
    loss(logits, masked).backward()


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
def test_a_micro_batch_reads_nothing_off_the_device(config: ModelConfig) -> None:
    with FakeTensorMode():
        model = MaskedLM(config)
        forward_and_backward(model, CrossEntropyConfig(label_smoothing=0.1, z_loss=1e-4))
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


class ReadsANumber(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * x.sum().item()


class FindsPositions(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + x.nonzero().sum()


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (ReadsANumber(), DataDependentOutputException),
        (FindsPositions(), DynamicOutputShapeException),
    ],
)
def test_what_waits_is_seen(module: nn.Module, error: type[Exception]) -> None:
    with FakeTensorMode():
        model = MaskedLM(MODELS["ModernBERT"])
        model.head.activation = module
        with pytest.raises(error):
            forward_and_backward(model, CrossEntropyConfig())
