"""Loss and accuracy over masked tokens against float64."""

from __future__ import annotations

import pytest
import torch

from flexbert.config.training import IGNORE
from flexbert.nn.cross_entropy import token_scores
from flexbert.nn.logits import DeferredLogits
from flexbert.train.masked_metrics import MaskedAccuracy, MaskedLoss


def labelled(seed: int, count: int, masked: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 11, generator=generator, requires_grad=True)
    labels = torch.randint(11, (count,), generator=generator)
    labels[masked:] = IGNORE
    return logits, labels


def expected_loss(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    losses = []
    for logits, labels in parts:
        log_probs = logits.detach().double().log_softmax(-1)
        losses += [-log_probs[i, label].item() for i, label in enumerate(labels) if label >= 0]
    return sum(losses) / len(losses)


def test_metrics_weigh_tokens_and_not_batches() -> None:
    parts = [labelled(1, 20, 17), labelled(2, 6, 1), labelled(3, 4, 0)]
    loss, accuracy = MaskedLoss(), MaskedAccuracy()
    for logits, labels in parts:
        # As logits of features that are the logits already.
        deferred = DeferredLogits(logits, torch.eye(11), None, torch.float32)
        scores = token_scores(deferred, labels)
        loss.update(scores)
        accuracy.update(scores)
    hits = [logits.argmax(-1) == labels for logits, labels in parts]
    assert loss.compute().item() == pytest.approx(expected_loss(parts), abs=1e-6)
    assert accuracy.compute().item() == pytest.approx(sum(h.sum().item() for h in hits) / 18)
