"""Machines with NVIDIA's files, and what torch's CUDA makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flexbert.devices import nvidia

PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021\n"
    "GCC version:  gcc version 9.4.0 (Ubuntu 9.4.0-1ubuntu1~20.04.2)\n"
)
TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040)."


class Machine:
    """A machine without a GPU, until something is put into it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices, self.driver = folder / "dev", folder / "version"
        self.devices.mkdir()
        # Of any machine with the toolkit's container runtime.
        (self.devices / "nvidiactl").touch()
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(nvidia, "DEVICES", self.devices)
        monkeypatch.setattr(nvidia, "DRIVER", self.driver)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def has_driver(self, text: str = PROPRIETARY) -> None:
        self.driver.write_text(text)

    def has_gpu(self) -> None:
        (self.devices / "nvidia0").touch()

    def cuda_fails(self, message: str) -> None:
        def init() -> None:
            raise RuntimeError(f"{message}\nPlease see elsewhere.")

        self._monkeypatch.setattr(torch.cuda, "init", init)
        self._monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
