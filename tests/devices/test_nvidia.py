"""GPUs that are there and cannot be used; their files are made here."""

from __future__ import annotations

import pytest
import torch

from flexbert.devices.nvidia import driver_version, nvidia_problem
from flexbert.doctor import diagnose, diagnosis_text
from tests.devices.machines import PROPRIETARY, TOO_OLD, Machine


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (PROPRIETARY, "470.57.02"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\n"
            "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n",
            "550.54.15",
        ),
        ("something else\n", None),
    ],
)
def test_the_drivers_version_is_read(text: str, version: str | None, machine: Machine) -> None:
    machine.has_driver(text)
    assert driver_version() == version


def test_a_machine_without_a_gpu_has_no_problem(machine: Machine) -> None:
    assert nvidia_problem() is None
    assert driver_version() is None
    assert "none, training uses the CPU" in diagnosis_text(diagnose())


def test_a_driver_that_is_too_old_is_told_with_its_version(machine: Machine) -> None:
    machine.has_driver()
    machine.has_gpu()
    machine.cuda_fails(TOO_OLD)
    problem = nvidia_problem()
    assert problem is not None
    assert problem.startswith("the NVIDIA driver here is 470.57.02, and torch ")
    assert f"({TOO_OLD})" in problem
    assert "update the driver, or install a torch for an older CUDA than" in problem
    text = diagnosis_text(diagnose())
    assert f"GPUs: none can be used, and training is refused: {problem}" in text
    assert 'CUDA_VISIBLE_DEVICES="" trains on the CPU' in text


@pytest.mark.parametrize("hidden", ["", " ", "-1"])
def test_gpus_that_are_hidden_are_not_missed(
    hidden: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has_driver()
    machine.has_gpu()
    machine.cuda_fails(TOO_OLD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert nvidia_problem() is None


def test_a_choice_of_gpus_that_names_none_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has_gpu()
    machine.cuda_fails("No CUDA GPUs are available")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    problem = str(nvidia_problem())
    assert "of unknown version, CUDA_VISIBLE_DEVICES is 7" in problem
    assert "No CUDA GPUs are available" in problem


def test_a_container_that_was_given_no_gpu_is_told(machine: Machine) -> None:
    machine.has_driver()
    machine.cuda_fails("Found no NVIDIA driver on your system.")
    assert "give the container or the job its GPUs" in str(nvidia_problem())


def test_a_torch_without_cuda_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has_driver()
    machine.has_gpu()
    machine.cuda_fails("Torch not compiled with CUDA enabled")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA" in str(nvidia_problem())


def test_a_gpu_that_works_has_no_problem(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has_driver()
    machine.has_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert nvidia_problem() is None
