"""Processes that share a machine have GPUs or cores of their own."""

from __future__ import annotations

import os

import pytest
import torch

from flexbert.devices.machine_shares import cpu_share, machine_shares
from flexbert.errors import UserError


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.usefixtures("eight_cores")
def test_cores_are_divided_among_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine_shares(2, 2) == ({"OMP_NUM_THREADS": "2"},) * 2
    assert machine_shares(16, 1) == ({"OMP_NUM_THREADS": "1"},) * 16
    # Who has the machine alone is told nothing, and what the user set stays.
    assert machine_shares(1, 4) == ({},)
    assert cpu_share(1) == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert machine_shares(2, 1) == ({}, {})


def test_no_gpu_is_in_two_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 4, None)
    assert machine_shares(2, 2) == (
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "2,3"},
    )
    # Of those that this process was given, by their own names.
    gpus(monkeypatch, 3, "5, 6,GPU-ab12")
    assert [share["CUDA_VISIBLE_DEVICES"] for share in machine_shares(3, 1)] == [
        "5",
        "6",
        "GPU-ab12",
    ]
    with pytest.raises(UserError, match="2 at once with 2 GPUs each need 4 GPUs, and there are 3"):
        machine_shares(2, 2)
