"""A small model, its gradients, and one config of each optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flexbert.config.optimizer import AdamFamilyConfig, Multipliers, OptimizerConfig
from flexbert.optim.adamw import AdamW
from flexbert.optim.decoupled_adamw import DecoupledAdamW
from flexbert.optim.muon import Muon
from flexbert.optim.stable_adamw import StableAdamW

CONFIGS: dict[str, AdamFamilyConfig] = {
    "stable_adamw": StableAdamW(lr=3e-3, betas=(0.90, 0.98), eps=1e-6, weight_decay=4e-4),
    "adamw": AdamW(lr=3e-3, weight_decay=0.1),
    "decoupled_adamw": DecoupledAdamW(lr=3e-3, weight_decay=4e-4),
    "muon": Muon(lr=1e-3, adamw_lr=3e-3, weight_decay=0.1),
}


def otherwise(config: AdamFamilyConfig) -> AdamFamilyConfig:
    """The same optimizer with every value another."""
    changes: dict[str, Any] = {
        "lr": config.lr / 2,
        "weight_decay": config.weight_decay / 3,
        "betas": (0.8, 0.95),
        "eps": config.eps * 1e4,
    }
    if isinstance(config, Muon):
        changes |= {
            "adamw_lr": config.lr / 3,
            "momentum": 0.9,
            "nesterov": False,
            "ns_steps": 4,
            "adjust_lr": "original",
        }
    return dataclasses.replace(config, **changes)


class Model(nn.Module):
    """Matrices of every shape, and vectors; only its parameters matter."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Embedding(7, 4)
        self.up = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.down = nn.Linear(6, 4, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)


def multipliers(step: int, num_steps: int) -> Multipliers:
    """A warmup from 0, a plateau, a decay to 0; and weight decay with a course of its own."""
    share = step / (num_steps - 1)
    return Multipliers(lr=min(1.0, 10 * share, 3 * (1 - share)), weight_decay=1 - share / 2)


def gradients(model: nn.Module, step: int) -> list[Tensor]:
    """Drawn from the step alone.

    Now and then they are far above the rest, which StableAdamW is for; and each tensor's are a
    tenth of those before, so that eps counts for some.
    """
    generator = torch.Generator().manual_seed(step)
    scale = 30.0 if step % 37 == 5 else 1.0
    return [
        scale * 0.1**index * torch.randn(parameter.shape, generator=generator)
        for index, parameter in enumerate(model.parameters())
    ]


def train(
    model: nn.Module,
    optimizer: Optimizer,
    config: OptimizerConfig,
    steps: Iterable[int],
    num_steps: int,
) -> None:
    """The updates ``steps`` out of ``num_steps``, as the trainer makes them."""
    for step in steps:
        for group in optimizer.param_groups:
            group.update(config.hyperparameters(group, multipliers(step, num_steps)))
        for parameter, gradient in zip(model.parameters(), gradients(model, step), strict=True):
            parameter.grad = gradient.to(parameter.device)
        optimizer.step()
        optimizer.zero_grad()
