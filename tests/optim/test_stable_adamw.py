"""StableAdamW as we wire it, against the published update in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from flexbert.optim.groups import parameter_groups
from flexbert.optim.stable_adamw import StableAdamW

LR, BETAS, EPS, DECAY = 3e-3, (0.90, 0.98), 1e-6, 1e-3


class Reference:
    """Wortsman et al. 2023, algorithm 2, for one tensor, with fully decoupled weight decay."""

    def __init__(self, value: np.ndarray, weight_decay: float) -> None:
        self.p = value.astype(np.float64)
        self.m = np.zeros_like(self.p)
        self.v = np.zeros_like(self.p)
        self.t = 0
        self.weight_decay = weight_decay

    def step(self, g: np.ndarray, lr: float) -> None:
        self.t += 1
        b1, b2 = ((beta**self.t - beta) / (beta**self.t - 1) for beta in BETAS)
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        rms = np.sqrt(np.mean(g**2 / np.maximum(self.v, EPS**2)))
        eta = lr / max(1.0, rms)
        self.p *= 1 - eta / LR * self.weight_decay
        self.p -= eta * self.m / (np.sqrt(self.v) + EPS)


def test_two_hundred_scheduled_steps_equal_the_float64_reference() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5))
    config = StableAdamW(lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    optimizer = config.build(model)
    references = [
        Reference(p.detach().numpy(), DECAY if p.ndim >= 2 else 0.0) for p in model.parameters()
    ]
    random = np.random.default_rng(1)
    for step in range(200):
        multiplier = min(1.0, step / 20) * (1 - step / 250)
        for group in optimizer.param_groups:
            group.update(config.hyperparameters(group, multiplier))
        for parameter, reference in zip(model.parameters(), references, strict=True):
            # Now and then a gradient far above the rest, which the update clipping is for.
            gradient = random.standard_normal(parameter.shape) * (30 if step % 37 == 5 else 1)
            gradient = gradient.astype(np.float32)
            parameter.grad = torch.from_numpy(gradient)
            reference.step(gradient.astype(np.float64), LR * multiplier)
        optimizer.step()
    for parameter, reference in zip(model.parameters(), references, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), reference.p, rtol=0, atol=1e-6)


def test_norms_and_biases_are_not_decayed() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    decayed, spared = parameter_groups(model)
    assert [tuple(p.shape) for p in decayed["params"]] == [(7, 4), (3, 4)]
    assert [tuple(p.shape) for p in spared["params"]] == [(3,), (3,), (3,)]
    config = StableAdamW(lr=LR, weight_decay=DECAY)
    assert config.hyperparameters(decayed, 1.0)["weight_decay"] == DECAY
    assert config.hyperparameters(spared, 1.0)["weight_decay"] == 0


def test_every_parameter_is_in_one_group() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.LayerNorm(3, elementwise_affine=False))
    (group,) = parameter_groups(model)
    assert group["params"] == list(model.parameters())


@pytest.mark.parametrize("multiplier", [0.0, 0.5, 1.0])
def test_the_schedule_scales_lr_and_leaves_the_base_for_weight_decay(multiplier: float) -> None:
    model = nn.Linear(3, 3)
    config = StableAdamW(lr=LR)
    values = config.hyperparameters(parameter_groups(model)[0], multiplier)
    assert (values["lr"], values["max_lr"]) == (LR * multiplier, LR)
