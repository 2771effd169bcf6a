"""Optimizers for one tensor in float64, from their formulas: slow and obvious."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What holds for one tensor at one update; ``base_lr`` is lr without its schedule."""

    lr: float
    base_lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    # Muon's own.
    momentum: float = 0.0
    nesterov: bool = False
    ns_steps: int = 0
    adjust_lr: str = ""


class Reference:
    def __init__(self, value: Tensor) -> None:
        self.p = value.detach().double().cpu()
        self.m = torch.zeros_like(self.p)
        self.v = torch.zeros_like(self.p)
        self.t = 0


class StableAdamW(Reference):
    """Wortsman et al. 2023, algorithm 2, with fully decoupled weight decay."""

    def step(self, g: Tensor, h: Hyperparameters) -> None:
        self.t += 1
        b1, b2 = ((beta**self.t - beta) / (beta**self.t - 1) for beta in h.betas)
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        rms = (g**2 / self.v.clamp(min=h.eps**2)).mean().sqrt().item()
        eta = h.lr / max(1.0, rms)
        self.p *= 1 - eta / h.base_lr * h.weight_decay
        self.p -= eta * self.m / (self.v.sqrt() + h.eps)


class AdamW(Reference):
    """Loshchilov and Hutter 2019, algorithm 2, lr standing for the schedule's multiplier."""

    def shrinkage(self, h: Hyperparameters) -> float:
        return h.lr * h.weight_decay

    def step(self, g: Tensor, h: Hyperparameters) -> None:
        self.t += 1
        b1, b2 = h.betas
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        m, v = self.m / (1 - b1**self.t), self.v / (1 - b2**self.t)
        self.p *= 1 - self.shrinkage(h)
        self.p -= h.lr * m / (v.sqrt() + h.eps)


class DecoupledAdamW(AdamW):
    """Algorithm 2 as it stands there."""

    def shrinkage(self, h: Hyperparameters) -> float:
        return h.lr / h.base_lr * h.weight_decay


class Muon(Reference):
    """torch.optim.Muon's docstring, the gradient weighted so that momentum is a moving average.

    Args:
        rounded: to what every result inside the iteration is rounded.
    """

    def __init__(self, value: Tensor, rounded: Callable[[Tensor], Tensor]) -> None:
        super().__init__(value)
        self.rounded = rounded

    def step(self, g: Tensor, h: Hyperparameters) -> None:
        self.m = h.momentum * self.m + (1 - h.momentum) * g
        ahead = h.momentum * self.m + (1 - h.momentum) * g if h.nesterov else self.m
        a, b = g.shape
        ratio = (
            math.sqrt(max(1, a / b)) if h.adjust_lr == "original" else 0.2 * math.sqrt(max(a, b))
        )
        self.p *= 1 - h.lr * h.weight_decay
        self.p -= h.lr * ratio * self.orthogonalized(ahead, h.ns_steps)

    def orthogonalized(self, matrix: Tensor, ns_steps: int) -> Tensor:
        """Quintic Newton-Schulz iteration (Jordan et al. 2024)."""
        if matrix.shape[0] > matrix.shape[1]:
            return self.orthogonalized(matrix.T, ns_steps).T
        x = self.rounded(matrix)
        x = self.rounded(x / self.rounded(x.norm()))
        for _ in range(ns_steps):
            gram = self.rounded(x @ x.T)
            polynomial = self.rounded(-4.7750 * gram + 2.0315 * gram @ gram)
            x = self.rounded(3.4445 * x + polynomial @ x)
        return x


def to_bfloat16(x: Tensor) -> Tensor:
    return x.bfloat16().double()


def exact(x: Tensor) -> Tensor:
    return x
