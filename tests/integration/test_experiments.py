"""Experiments and benchmarks run in small, to their last table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import attention, context_extension, tiling

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
