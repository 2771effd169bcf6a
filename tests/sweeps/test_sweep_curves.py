"""Curves of runs, their means, and what they are drawn over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flexbert.errors import UserError
from flexbert.report.recorded_run import read_run
from flexbert.sweeps.run_flops import run_flops
from flexbert.sweeps.sweep_curves import (
    DrawnRun,
    RunCurve,
    curve_number,
    curve_panels,
    mean_curve,
)
from tests.report.situations import write_lines
from tests.sweeps.recorded_runs import TFLOPS, Recorded


def drawn(folder: Path, counts: bool = True, **values: Any) -> DrawnRun:
    recorded = Recorded(values={}, **{"seed": 1, **values})
    run = read_run(recorded.write(folder / f"run-{len(list(folder.iterdir()))}"))
    return DrawnRun(label="base", seed=recorded.seed, counts=counts, recorded=run)


def test_flops_are_those_of_a_token_times_tokens_however_many_processes(tmp_path: Path) -> None:
    for resumed_at in (None, 200):
        run = drawn(tmp_path, resumed_at=resumed_at).recorded
        at = run_flops(run)
        rates = np.array([r.numbers.get("tokens_per_second", np.nan) for r in run.records])
        steps = np.array([r.step for r in run.records])
        of_train = np.isfinite(rates)
        # TFLOPS is what all processes do together in each interval of ten updates.
        totals = np.cumsum(TFLOPS * 1e12 * 10 * 8192 / rates[of_train])
        found = [at(r) for r, own in zip(run.records, of_train, strict=True) if own]
        assert found == pytest.approx(totals)
        assert steps[of_train].tolist() == list(range(10, 401, 10))


def test_flops_begin_with_the_run_and_not_with_the_one_before(tmp_path: Path) -> None:
    run = drawn(tmp_path).recorded
    whole = run_flops(run)(run.records[-1])
    lines = [
        {**line, "step": line["step"] + 1000, "tokens": line["tokens"] + 1000 * 8192}
        for line in Recorded(values={}, seed=1).lines()
    ]
    write_lines(run.folder / "metrics.jsonl", lines)
    manifest = (run.folder / "manifest.json").read_text()
    (run.folder / "manifest.json").write_text(
        manifest.replace('"after_step": 0', '"after_step": 1000')
    )
    later = read_run(run.folder)
    assert run_flops(later)(later.records[-1]) == pytest.approx(whole)


def test_without_what_updates_cost_there_is_no_axis_of_flops(tmp_path: Path) -> None:
    run = drawn(tmp_path)
    file = run.recorded.folder / "metrics.jsonl"
    assert [p.title for p in curve_panels([run], "eval", "eval_loss")] == [
        *("tokens", "FLOPs", "seconds of training")
    ]
    file.write_text(file.read_text().replace('"tflops"', '"other"').replace('"seconds"', '"s"'))
    old = DrawnRun(label="base", seed=1, counts=True, recorded=read_run(run.recorded.folder))
    with pytest.raises(UserError, match="do not say what updates cost"):
        run_flops(old.recorded)
    assert [p.title for p in curve_panels([old], "eval", "eval_loss")] == ["tokens"]


def test_evaluations_are_drawn_where_they_make_a_curve_else_the_training_loss(
    tmp_path: Path,
) -> None:
    measures = ["tokens_per_second", "eval_loss"]
    assert curve_number([drawn(tmp_path)], measures) == ("eval", "eval_loss")
    short = [drawn(tmp_path, evaluations=1, counts=False)] * 3
    assert curve_number(short, measures) == ("train", "loss")
    # Trials that were stopped early take no curve from those that were not.
    assert curve_number([*short, drawn(tmp_path)], measures) == ("eval", "eval_loss")
    (panel, *_) = curve_panels([drawn(tmp_path, evaluations=1)], "train", "loss")
    assert len(panel.curves[0].x) == 40


def curve(
    run: DrawnRun, x: list[float], y: list[float], tokens: list[float] | None = None
) -> RunCurve:
    return RunCurve(run=run, tokens=np.array(tokens or x), x=np.array(x), y=np.array(y))


def test_a_mean_is_that_of_straight_lines_where_all_curves_are(tmp_path: Path) -> None:
    run = drawn(tmp_path)
    one = curve(run, [0, 10, 20], [4.0, 2.0, 2.0])
    other = curve(run, [5, 15, 25], [1.0, 3.0, 3.0])
    x, y = mean_curve([one, other])
    assert x.tolist() == [5, 10, 15, 20]
    assert y.tolist() == [(3 + 1) / 2, (2 + 2) / 2, (2 + 3) / 2, (2 + 3) / 2]
    # What is no number is passed over, and nothing in common is no curve.
    gap = curve(run, [0, 10, 20], [4.0, np.nan, 2.0])
    assert mean_curve([gap])[1].tolist() == [4.0, 2.0]
    assert len(mean_curve([curve(run, [0, 1], [1, 1]), curve(run, [2, 3], [1, 1])])[0]) == 0
    assert len(mean_curve([])[0]) == 0


def test_runs_of_one_length_have_a_mean_over_time_however_fast_each_was(tmp_path: Path) -> None:
    fast, slow = drawn(tmp_path, speed=60_000.0), drawn(tmp_path, speed=10_000.0)
    by_tokens, _, over_time = curve_panels([fast, slow], "eval", "eval_loss")
    assert over_time.is_time
    x, y = mean_curve(over_time.curves)
    one, other = over_time.curves
    assert x == pytest.approx((one.x + other.x) / 2)
    assert y == pytest.approx(mean_curve(by_tokens.curves)[1])
