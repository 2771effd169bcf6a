"""Muon and AdamW behind one optimizer."""

from __future__ import annotations

import torch

from tests.optim.cases import CONFIGS, Model


def test_the_closure_is_called_once_and_with_gradients() -> None:
    model = Model()
    optimizer = CONFIGS["muon"].build(model)
    before = [p.detach().clone() for p in model.parameters()]
    losses = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in model.parameters())
        loss.backward()
        losses.append(loss)
        return loss

    assert optimizer.step(closure) is losses[0]
    assert len(losses) == 1
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert not torch.equal(parameter, value)


def test_zero_grad_reaches_both() -> None:
    model = Model()
    optimizer = CONFIGS["muon"].build(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
