from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flexbert.config.encode import encode
from flexbert.doctor import Advice, diagnose, diagnosis_text, faster_attention
from flexbert.nn.attention_backends import BACKENDS
from flexbert.nn.compilation import cxx_compiler

ABSENT = "needs the package, which is not installed"
BROKEN = "finds the package, but cannot use it: undefined symbol"
OLD_TORCH = "needs torch 2.11 or newer, this is 2.8.0"


def backends(**problems: str) -> dict[str, str | None]:
    return {name: problems.get(name) for name in BACKENDS}


def test_findings_are_plain_and_complete() -> None:
    findings = json.loads(json.dumps(encode(diagnose())))
    assert set(findings) >= {
        *("python", "platform", "cpu_cores", "gpus", "packages"),
        *("attention_backends", "attention_backend", "faster_attention", "cxx_compiler"),
    }
    assert list(findings["attention_backends"]) == list(BACKENDS)
    assert findings["attention_backends"][findings["attention_backend"]] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells of a machine without a GPU")
def test_without_a_gpu_there_is_nothing_to_install() -> None:
    diagnosis = diagnose()
    assert diagnosis.attention_backend == "matmul"
    assert diagnosis.faster_attention.command is None
    assert "nothing to install: without a GPU" in diagnosis_text(diagnosis)


HOPPER_BUILD = (
    "pip install --no-deps --no-build-isolation --force-reinstall "
    "'git+https://github.com/Dao-AILab/flash-attention.git#subdirectory=hopper'"
)
NEWER_TORCH = "pip install --upgrade 'torch>=2.11'"


@pytest.mark.parametrize(
    ("problems", "capability", "command"),
    [
        ({"flash_attn_3": ABSENT, "flash_attn_2": ABSENT}, (9, 0), HOPPER_BUILD),
        ({"flash_attn_3": BROKEN}, (9, 0), HOPPER_BUILD),
        ({"flash_attn_2": ABSENT}, (9, 0), None),
        # An older torch: the newer one brings kernels that need no building.
        (
            {"flash_attn_3": ABSENT, "flash_attn_2": ABSENT, "torch_varlen": OLD_TORCH},
            (9, 0),
            NEWER_TORCH,
        ),
        (
            {"flash_attn_3": "Hopper", "flash_attn_2": ABSENT, "torch_varlen": OLD_TORCH},
            (8, 0),
            NEWER_TORCH,
        ),
        # Ampere and Blackwell with either of the two: their kernels are the same.
        ({"flash_attn_3": "Hopper", "flash_attn_2": ABSENT}, (8, 6), None),
        ({"flash_attn_3": "Hopper", "torch_varlen": OLD_TORCH}, (10, 0), None),
        ({"flash_attn_3": "Hopper", "flash_attn_2": "Ampere"}, (7, 5), None),
    ],
)
def test_one_command_makes_attention_faster(
    problems: dict[str, str], capability: tuple[int, int], command: str | None
) -> None:
    advice = faster_attention(backends(**problems), capability)
    assert advice.command == command
    assert ("nothing to install" in advice.reason) == (command is None)


def test_the_command_stands_in_the_text() -> None:
    advice = Advice(command="pip install it", reason="it is fast")
    text = diagnosis_text(replace(diagnose(), faster_attention=advice))
    assert "for faster attention (it is fast):\n  pip install it\n" in text


def test_a_missing_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert cxx_compiler() is None
    assert "no C++ compiler, which" in diagnosis_text(replace(diagnose(), cxx_compiler=None))
    for name in ("clang++", "g++", "mine"):
        (tmp_path / name).touch(mode=0o755)
        monkeypatch.setenv("CXX", name if name == "mine" else "")
        assert cxx_compiler() == str(tmp_path / name)
    monkeypatch.setenv("CXX", "absent")
    assert cxx_compiler() is None
