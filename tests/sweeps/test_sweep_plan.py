"""A sweep is priced run by run before it trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flexbert.config.encode import encode
from flexbert.errors import UserError
from flexbert.files import free_space
from flexbert.files.line_file import json_line
from flexbert.plan.make_plan import make_plan
from flexbert.plan.stage_cost import Hardware
from flexbert.sweeps import sweep_plan
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import read_sweep
from flexbert.sweeps.sweep_plan import plan_sweep, sweep_plan_text
from tests.conftest import TINY_RECIPE

HARDWARE = Hardware(tokens_per_second=100.0)


def runs_of(folder: Path, corpus: Path, **tree: object) -> list[SweepRun]:
    path = folder / "ablation.yaml"
    overrides = {"data.path": str(corpus)}
    path.write_text(yaml.safe_dump({"base": str(TINY_RECIPE), "overrides": overrides, **tree}))
    return resolve_runs(read_sweep(path), folder / "sweep")


def recorded(run: SweepRun, tokens: int) -> None:
    run.folder.mkdir(parents=True)
    line = {"event": "train", "stage": "only", "step": 1, "tokens": tokens, "stage_tokens": tokens}
    (run.folder / "metrics.jsonl").write_bytes(json_line(line))


def test_what_is_trained_already_is_marked_and_not_counted_as_left(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(tmp_path, corpus, list=[{"duration": f"{n}ba"} for n in (7, 8, 12, 16)])
    plans = [make_plan(run.recipe, 1, HARDWARE) for run in runs]
    monkeypatch.setattr(sweep_plan, "is_finished", lambda run: run is runs[0])
    recorded(runs[1], plans[1].tokens // 4)
    plan = plan_sweep("tiny", tmp_path / "sweep", runs, HARDWARE, at_once=2, num_processes=2)
    hours = [each.tokens / 100 / 3600 for each in plans]
    assert plan.gpu_hours == pytest.approx(sum(hours))
    left = 0.75 * hours[1] + hours[2] + hours[3]
    assert plan.gpu_hours_left == pytest.approx(left)
    # Two at once take half of it, and each has two processes.
    assert plan.clock_hours == pytest.approx(left / 4)
    assert plan.updates == sum(each.steps for each in plans) == 43
    assert plan.checkpoint_bytes == sum(each.checkpoints.total_bytes for each in plans)
    text = sweep_plan_text(plan)
    assert "by the clock without evaluations; each start takes some 10 to 20 seconds more" in text
    header, _, *rows = text.splitlines()
    assert header.split() == ["run", "tokens", "updates", "parameters", "GPU-hours", "disk"]
    assert [row.split()[-1] for row in rows[:2]] == ["finished", "25%"]
    assert rows[5].split()[:3] == ["all", f"{plan.tokens:,}", "43"]
    assert encode(plan)["runs"][3]["price"]["updates"] == 16


def test_a_sweep_that_is_finished_starts_nothing(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_plan, "is_finished", lambda run: True)
    runs = runs_of(tmp_path, corpus, list=[{"duration": "8ba"}])
    assert "seconds more" not in sweep_plan_text(plan_sweep("tiny", tmp_path, runs, HARDWARE))


def test_the_longest_run_is_what_the_clock_waits_for(tmp_path: Path, corpus: Path) -> None:
    runs = runs_of(tmp_path, corpus, list=[{"duration": f"{n}ba"} for n in (8, 12)])
    plan = plan_sweep("tiny", tmp_path / "sweep", runs, HARDWARE, at_once=8)
    assert plan.clock_hours == pytest.approx(plan.runs[1].price.gpu_hours)


def test_a_run_that_its_corpus_does_not_suit_is_named(tmp_path: Path, corpus: Path) -> None:
    runs = runs_of(tmp_path, corpus, grid={"model.vocab_size": [512, 256]})
    with pytest.raises(UserError, match=r"run 2 of 2 \(vocab_size-256\): model.vocab_size: 256 is"):
        plan_sweep("tiny", tmp_path / "sweep", runs, HARDWARE)


def test_a_disk_too_small_for_all_checkpoints_is_said(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(tmp_path, corpus, grid={"optimizer.lr": [1e-3, 2e-3]})
    for module in (free_space, sweep_plan):
        monkeypatch.setattr(module, "free_bytes", lambda path: 1_000_000)
    text = sweep_plan_text(plan_sweep("tiny", tmp_path / "sweep", runs, HARDWARE, total=5))
    assert "tiny: 2 of 5 runs, 0 of them finished" in text
    assert "has room for 1.0 MB; free some, set checkpoints.keep" in text
