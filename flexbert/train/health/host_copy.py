"""A number of the device that the host reads later, without waiting."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """Sent while the device works, read once something else has waited for the device.

    Composer reads the loss after every update; whatever was sent before that has arrived then.
    """

    def __init__(self, device: torch.device) -> None:
        self._there = torch.zeros(1, pin_memory=device.type == "cuda")

    def send(self, number: Tensor) -> None:
        self._there.copy_(number.detach().reshape(1), non_blocking=True)

    def read(self) -> float:
        return self._there.item()
