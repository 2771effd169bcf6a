"""Experiments and benchmarks run in small, to their last table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import attention, context_extension, growth, optimizer, tiling
from tests.optim.cases import CONFIGS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """The experiments run on one thread; other tests do not."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_way_to_start_a_large_model_is_trained_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "tiling.png"
    assert tiling.main([str(tmp_path), "--smoke", "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n| {start} | " in printed for start in tiling.STARTS)
    assert "ahead of random weights with every seed" in printed
    assert picture.is_file()


def test_every_way_to_extend_a_model_is_trained_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert context_extension.main([str(tmp_path), "--smoke"]) == 0
    printed = capsys.readouterr().out
    assert "| extended minus | 0 to 63 | 64 to 127 | 128 to 255 | 256 to 511 |" in printed
    # The models are different ones, and so are their losses.
    rows = [line for line in printed.splitlines() if line.startswith(("| extended |", "| unext"))]
    assert len(set(rows)) == len(rows) >= 3


def test_every_attention_backend_of_this_machine_is_timed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attention.main(["--smoke"]) == 0
    printed = capsys.readouterr().out
    assert "| documents of | " in printed
    assert "\n| web-like | " in printed


def test_cost_is_measured_by_length_by_number_and_by_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "growth.png"
    assert growth.main(["--smoke", "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    tables = ("documents of", "tokens", "hidden size")
    assert all(f"\n| {first} | " in printed for first in tables)
    # What depends on no clock: FLOPs, and what autograd keeps.
    assert "per token as 128-token ones, by FLOPs 1.04 times" in printed
    assert "kept per token: 1.000 times from the least to the most, by length" in printed
    assert "bytes x tokens are kept, at most 0.0% off" in printed
    assert picture.is_file()


def test_every_optimizer_is_timed_beside_its_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert optimizer.main(["--smoke"]) == 0
    printed = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if " | " in line]
    state = {name: float(of_state) for name, *_, of_state in rows[2:]}
    assert state.keys() > {*CONFIGS, optimizer.PEER, f"{optimizer.OPTIMI}, foreach"}
    # Two moments in float32; Muon keeps one for matrices.
    assert all(state[name] == 8.0 for name in state.keys() - {"muon"})
    assert 4.0 < state["muon"] < 8.0
