"""Experiments and benchmarks run in small, to their last table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import (
    attention,
    callbacks,
    context_extension,
    cross_entropy,
    growth,
    inference,
    optimizer,
    starting,
    tiling,
    training_step,
    unpadding,
)
from benchmarks.document_sets import SETS
from benchmarks.encoders import peers
from benchmarks.measuring import this_device
from benchmarks.peers import GTE
from flexbert.errors import UserError
from tests.conftest import TINY_RECIPE, Overrides
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


def table_rows(printed: str) -> list[list[str]]:
    """The cells of every line of a Markdown table."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_inference_of_every_encoder_is_timed_on_every_set_it_can_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert inference.main(["--smoke"]) == 0
    rows = table_rows(capsys.readouterr().out)
    assert rows[0] == ["encoder", "parameters", "attention", *SETS]
    names = [inference.OURS, *peers(this_device())]
    speeds = {row[0]: row[1:] for row in rows[2 : 2 + len(names)]}
    assert list(speeds) == names
    # transformers' ModernBERT is the same encoder.
    assert speeds["modernbert"][0] == speeds[inference.OURS][0]
    for name, (_, _, *cells) in speeds.items():
        short = name in ("bert", "roberta", "deberta-v3")
        timed = [key for key, cell in zip(SETS, cells, strict=True) if cell != inference.NOT_RUN]
        assert timed == [key for key in SETS if SETS[key].max_length == 512 or not short]
        times = sum("times)" in cell for cell in cells)
        assert times == (0 if name == inference.OURS else len(timed))
    sizes = {row[0]: row[1:] for row in rows[2 + len(names) :]}
    assert all(len(sizes[name]) == len(SETS) for name in names)


def test_only_the_encoders_and_sets_asked_for_are_timed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert inference.main(["--smoke", "--models", "gte", "--sets", "normal-512"]) == 0
    rows = table_rows(capsys.readouterr().out)
    assert rows[0] == ["encoder", "parameters", "attention", "normal-512"]
    assert {row[0] for row in rows} == {"encoder", "---", inference.OURS, "gte", "documents"}


@pytest.mark.parametrize("backend", ["auto", "sdpa"])
def test_every_way_of_unpadding_agrees_and_is_timed(
    capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    assert unpadding.main(["--smoke", "--backend", backend]) == 0
    printed = capsys.readouterr().out
    header, _, ours, *others = table_rows(printed)
    assert header == ["way", "tokens/s"]
    assert ours[0] == unpadding.ONCE
    assert [name for name, _ in others] == [unpadding.IN_LAYERS, *unpadding.PEERS]
    assert all(cell.endswith("times)") for _, cell in others)
    assert "% of a padded batch is padding" in printed


def test_ways_that_do_not_agree_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(unpadding.PEERS, unpadding.PADDED, replace(GTE, theta=100.0))
    with pytest.raises(UserError, match="not the same encoder"):
        unpadding.main(["--smoke"])


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


def test_every_way_to_train_begins_at_one_loss_and_is_timed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert training_step.main(["--smoke"]) == 0
    printed = capsys.readouterr().out
    assert "loss of one update" in printed
    header, _, *rows = table_rows(printed)
    assert header == ["way", "real tokens/s", "flexbert is", "padding", "mfu"]
    rows = [row for row in rows if len(row) == len(header)]
    names = [name for name, *_ in rows]
    assert names[0] == training_step.OURS
    assert len(names) == len(set(names)) >= 5
    assert "matrix products" in printed  # the profile
    padding = {name: float(share.rstrip("%")) for name, _, _, share, _ in rows}
    assert padding["transformers, bucketed"] < padding["transformers"]


def test_ways_to_train_that_do_not_agree_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, "TOLERANCE", -1.0)
    assert training_step.main(["--smoke"]) == 2


def test_the_time_in_every_callback_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callbacks.main([str(tmp_path), "--smoke"]) == 0
    printed = capsys.readouterr().out
    rows = {row[0]: row[1:] for row in table_rows(printed)}
    assert rows.keys() >= {"forward", "backward", "optimizer", *callbacks.MEASURING, "RunLog"}
    assert "measuring an update costs " in printed


def test_the_loss_takes_less_memory_than_all_logits(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--smoke", "--compile", "--vocab-size", "4096", "--width", "16"]
    assert cross_entropy.main(arguments) == 0
    header, _, row = table_rows(capsys.readouterr().out)
    assert len(header) == len(row) == 7
    ours, compiled, all_logits = (int(cell.split()[0]) for cell in row[4:])
    assert max(ours, compiled) <= all_logits


def test_starts_are_timed(tiny: Overrides, capsys: pytest.CaptureFixture[str]) -> None:
    assert starting.main([str(TINY_RECIPE), *tiny(), "--rounds", "1"]) == 0
    _, _, of_plan, of_run = table_rows(capsys.readouterr().out)
    assert float(of_plan[1]) > 0
    assert float(of_run[1]) > 0
