from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from flexbert.config.optimizer import Multipliers
from flexbert.devices import triton_toolchain
from flexbert.devices.triton_toolchain import c_compiler_problem, triton_problem
from flexbert.nn.compilation import toolchain_problem
from flexbert.optim.stable_adamw import why_without_triton
from tests.optim.cases import CONFIGS

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _not_remembered() -> Iterator[None]:
    triton_problem.cache_clear()
    yield
    triton_problem.cache_clear()


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def executable(file: Path, text: str) -> Path:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_the_compiler_of_this_machine_is_tried() -> None:
    assert c_compiler_problem() is None


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_neither_compiling_nor_the_optimizer_counts_on_triton() -> None:
    reason = "there is no C compiler for triton: install gcc, or set CC to one"
    assert toolchain_problem(CUDA) == reason
    assert why_without_triton(CUDA) == reason
    group = {"params": [FakeParameter()], "lr_multiplier": 1.0, "weight_decay_multiplier": 1.0}
    hyperparameters = CONFIGS["stable_adamw"].hyperparameters(group, Multipliers(lr=1.0))
    assert hyperparameters["triton"] is False


class FakeParameter:
    device = CUDA


def test_a_compiler_that_is_named_and_fails_is_told_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = executable(tmp_path / "cc", "echo 'cc1: no space left' >&2; exit 1")
    monkeypatch.setenv("CC", str(compiler))
    assert c_compiler_problem() == f"the C compiler {compiler} fails (cc1: no space left)"
    monkeypatch.setenv("CC", "ccache gcc")  # triton takes it as one name
    assert "the C compiler ccache gcc cannot be run" in str(c_compiler_problem())


def test_missing_headers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {**sysconfig.get_paths(), "include": str(tmp_path)}
    monkeypatch.setattr(triton_toolchain.sysconfig, "get_paths", lambda: paths)
    for name in ("CPATH", "C_INCLUDE_PATH"):
        monkeypatch.delenv(name, raising=False)
    problem = c_compiler_problem()
    assert problem == f"there is no Python.h in {tmp_path}: install Python's headers (python3-dev)"


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells of a machine without a GPU")
def test_without_a_driver_triton_cannot_work() -> None:
    pytest.importorskip("triton")
    assert "triton cannot use the GPU's driver" in str(triton_problem(CUDA))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_with_a_gpu_and_a_compiler_triton_works() -> None:
    assert os.environ.get("CC") or c_compiler_problem() is None
    assert triton_problem(torch.device("cuda", 0)) is None
