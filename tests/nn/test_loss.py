"""The training loss against float64."""

from __future__ import annotations

import pytest
import torch

from flexbert.nn.loss import IGNORE, CrossEntropyConfig


@pytest.mark.parametrize(("smoothing", "z"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1e-2), (0.2, 0.3)])
def test_loss_is_the_mean_over_masked_tokens(smoothing: float, z: float) -> None:
    logits = torch.randn(9, 11, requires_grad=True)
    labels = torch.randint(11, (9,))
    labels[5:] = IGNORE
    exact = logits.detach().double().requires_grad_()
    terms = []
    for row, label in zip(exact[:5], labels[:5], strict=True):
        target = torch.full((11,), smoothing / 11, dtype=torch.float64)
        target[label] += 1 - smoothing
        terms.append(-(target * row.log_softmax(-1)).sum() + z * row.logsumexp(-1) ** 2)
    expected = torch.stack(terms).mean()
    loss = CrossEntropyConfig(label_smoothing=smoothing, z_loss=z)(logits, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(logits.grad, exact.grad.float())


def test_nothing_masked_is_zero_with_zero_gradients() -> None:
    logits = torch.randn(4, 11, requires_grad=True)
    loss = CrossEntropyConfig(label_smoothing=0.1, z_loss=0.1)(logits, torch.full((4,), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
