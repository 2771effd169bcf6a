"""The table of a sweep, against scipy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import yaml

from flexbert.errors import UserError
from flexbert.files.line_file import json_line
from flexbert.sweeps.outcomes import RunOutcome, more_is_better, read_outcome
from flexbert.sweeps.runs import SweepRun, resolve_runs
from flexbert.sweeps.sweep_file import Sweep, read_sweep
from flexbert.sweeps.sweep_table import sweep_table
from flexbert.sweeps.sweep_text import sweep_latex, sweep_markdown, sweep_table_text
from tests.conftest import REPOSITORY, TINY_RECIPE

LOSSES = {
    "gelu": [3.10, 3.14, 3.05],
    "silu": [3.01, 3.06, 2.97],
    "relu": [3.12, 3.10, 3.08],
}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    path = tmp_path / "ablation.yaml"
    tree = {
        "base": str(TINY_RECIPE),
        "overrides": {"data.path": "/some/corpus"},
        "grid": {"model.mlp.activation": list(LOSSES)},
        "seeds": [1, 2, 3],
    }
    path.write_text(yaml.safe_dump(tree))
    return read_sweep(path)


@pytest.fixture
def runs(sweep: Sweep, tmp_path: Path) -> list[SweepRun]:
    return resolve_runs(sweep, tmp_path / "sweep")


def outcomes_of(runs: list[SweepRun]) -> list[RunOutcome]:
    return [
        RunOutcome(
            run=run,
            tokens=1000,
            updates=10,
            values={"eval_loss": LOSSES[run.point.values["model.mlp.activation"]][run.seed - 1]},
        )
        for run in runs
    ]


def test_differences_are_those_of_the_paired_t_test(sweep: Sweep, runs: list[SweepRun]) -> None:
    table = sweep_table(sweep, outcomes_of(runs))
    assert (table.reference, table.finished, table.total) == ("activation=gelu", 9, 9)
    assert table.cells["activation=gelu"]["eval_loss"].difference is None
    for name in ("silu", "relu"):
        cell = table.cells[f"activation={name}"]["eval_loss"]
        assert cell.mean == pytest.approx(np.mean(LOSSES[name]))
        assert cell.spread == pytest.approx(scipy.stats.tstd(LOSSES[name]))
        expected = scipy.stats.ttest_rel(LOSSES[name], LOSSES["gelu"]).confidence_interval()
        found = cell.difference
        assert found is not None
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert cell.p == pytest.approx(scipy.stats.ttest_rel(LOSSES[name], LOSSES["gelu"]).pvalue)
    # A lower loss is the better one, and what holds zero is not.
    _, differences = sweep_table_text(table).split("differences to activation=gelu")
    verdicts = {
        name: next(line for line in differences.splitlines() if f"={name}" in line)
        for name in ("silu", "relu")
    }
    assert verdicts["silu"].endswith("better")
    assert "no difference seen" in verdicts["relu"]


def test_the_page_shows_the_table_as_it_is_printed(sweep: Sweep, runs: list[SweepRun]) -> None:
    table, _ = sweep_table_text(sweep_table(sweep, outcomes_of(runs))).split("\n\np, better")
    assert f"```\n{table}\n```" in (REPOSITORY / "docs" / "sweeps.md").read_text()


def with_losses(outcomes: list[RunOutcome], losses: dict[str, list[float]]) -> list[RunOutcome]:
    return [
        replace(
            each,
            values={
                "eval_loss": losses[each.run.point.values["model.mlp.activation"]][
                    each.run.seed - 1
                ]
            },
        )
        for each in outcomes
    ]


def test_what_is_better_alone_is_not_called_so_among_several(
    sweep: Sweep, runs: list[SweepRun]
) -> None:
    # Of three seeds: p is 0.03 for silu, which is enough for one difference and not for two.
    losses = {**LOSSES, "silu": [3.058, 3.070, 3.011], "relu": [3.11, 3.12, 3.07]}
    outcomes = with_losses(outcomes_of(runs), losses)
    table = sweep_table(sweep, outcomes)
    silu, relu = (table.cells[f"activation={name}"]["eval_loss"] for name in ("silu", "relu"))
    assert silu.p is not None
    assert relu.p is not None
    assert 0.025 < silu.p < 0.05 < relu.p
    assert silu.holm == pytest.approx(2 * silu.p)
    assert silu.difference is not None
    assert (silu.difference.verdict, silu.verdict) == ("better", "better by itself")
    assert "better by itself" in sweep_table_text(table)
    assert any(note.startswith("by itself: ") for note in table.notes)
    # With one difference alone there is nothing to hold it against.
    pair = [each for each in outcomes if "relu" not in each.run.point.label]
    cell = sweep_table(sweep, pair).cells["activation=silu"]["eval_loss"]
    assert (cell.verdict, cell.holm) == ("better", cell.p)


def test_a_point_whose_runs_diverged_is_not_called_better_nor_others_worse(
    tmp_path: Path, sweep: Sweep
) -> None:
    tree = yaml.safe_load((tmp_path / "ablation.yaml").read_text())
    (tmp_path / "four.yaml").write_text(yaml.safe_dump({**tree, "seeds": [1, 2, 3, 4]}))
    longer = read_sweep(tmp_path / "four.yaml")
    outcomes = [
        RunOutcome(run=run, tokens=1000, updates=10, values={"eval_loss": 0.0})
        for run in resolve_runs(longer, tmp_path / "four")
    ]
    good = {"gelu": [3.10, 3.14, 3.05, 3.08], "relu": [3.12, 3.10, 3.08, 3.07]}
    fine = {**good, "silu": [3.01, 3.05, 2.96, 2.98]}
    assert verdict_of(longer, with_losses(outcomes, fine)) == "better"
    one_lost = {**good, "silu": [3.01, 3.05, 2.96, math.nan]}
    assert verdict_of(longer, with_losses(outcomes, one_lost)) == "not known"
    worse = {**good, "silu": [3.21, 3.25, 3.16, 3.18]}
    assert verdict_of(longer, with_losses(outcomes, worse)) == "worse"
    reference_lost = {**worse, "gelu": [3.10, 3.14, 3.05, math.nan]}
    assert verdict_of(longer, with_losses(outcomes, reference_lost)) == "not known"
    text = sweep_table_text(sweep_table(longer, with_losses(outcomes, one_lost)))
    assert "activation=silu: eval_loss is no finite number with seed 4; its mean leaves" in text


def verdict_of(sweep: Sweep, outcomes: list[RunOutcome]) -> str | None:
    return sweep_table(sweep, outcomes).cells["activation=silu"]["eval_loss"].verdict


def test_points_say_which_of_their_runs_are_missing(sweep: Sweep, runs: list[SweepRun]) -> None:
    whole = outcomes_of(runs)
    unfinished = {("activation=silu", 3): "not finished, at update 7"}
    table = sweep_table(sweep, [*whole[:5], *whole[6:8]], unfinished)
    assert "activation=silu, seed 3: not finished, at update 7" in table.notes
    assert "activation=relu, seed 3: no run" in table.notes
    assert "2 of 3" in sweep_table_text(table)


def test_differences_stand_by_the_first_measure_the_best_first(
    sweep: Sweep, runs: list[SweepRun]
) -> None:
    several = replace(sweep, measures=("eval_loss", "tokens_per_second"))
    outcomes = [
        replace(each, values={**each.values, "tokens_per_second": 100.0 * (index + each.run.seed)})
        for index, each in enumerate(outcomes_of(runs))
    ]
    table = sweep_table(several, outcomes)
    assert table.best_first == ("activation=silu", "activation=gelu", "activation=relu")
    for measure in several.measures:
        _, rows = sweep_table_text(table).split(f"{measure}: differences to")
        assert rows.index("activation=silu") < rows.index("activation=relu")


def test_many_measures_and_long_names_stay_within_100_columns(
    sweep: Sweep, runs: list[SweepRun]
) -> None:
    measures = tuple(f"eval_losses.source_{number}" for number in range(9))
    names = {
        point.label: f"{point.label},optimizer.weight_decay=0.00001,attention.windows=[128, 128, "
        "'global'],schedule.warmup=0.05dur,name=stable_adamw"
        for point in sweep.points
    }
    points = tuple(replace(point, label=names[point.label]) for point in sweep.points)
    wide = replace(sweep, measures=measures, points=points, reference=points[0])
    outcomes = [
        replace(
            each,
            run=replace(each.run, point=replace(each.run.point, label=names[each.run.point.label])),
            values=dict.fromkeys(measures, each.values["eval_loss"]),
        )
        for each in outcomes_of(runs)
    ]
    table = sweep_table(wide, outcomes)
    text = sweep_table_text(table)
    assert max(map(len, text.splitlines())) <= 100
    assert all(measure in text for measure in measures)
    # Nothing of a name is lost where it goes on below.
    assert "name=stable_adamw" in text
    assert sweep_markdown(table).count(f"| {names['activation=relu']} |".replace("_", "\\_")) == 10
    assert sweep_latex(table).count("toprule") == 10


def test_what_is_not_finished_or_no_number_is_left_out(sweep: Sweep, runs: list[SweepRun]) -> None:
    whole = outcomes_of(runs)
    sick = replace(whole[4], values={"eval_loss": math.nan})
    table = sweep_table(sweep, [*whole[:4], sick])
    assert (table.finished, table.total) == (5, 9)
    cell = table.cells["activation=silu"]["eval_loss"]
    assert (cell.seeds, cell.diverged, cell.spread) == ((1,), (2,), None)
    assert cell.difference is not None
    assert cell.difference.verdict == "not known"
    assert "activation=relu" not in table.cells
    assert sweep_table(sweep, []).cells == {}
    assert "0 of 9" in sweep_table_text(sweep_table(sweep, []))


def test_runs_of_other_lengths_are_noted(sweep: Sweep, runs: list[SweepRun]) -> None:
    whole = outcomes_of(runs)
    assert not [note for note in sweep_table(sweep, whole).notes if "tokens" in note]
    shorter = [*whole[:-1], replace(whole[-1], tokens=500)]
    # What a sweep calls equal is no difference here.
    about = [*whole[:-1], replace(whole[-1], tokens=991)]
    assert not [note for note in sweep_table(sweep, about).notes if "tokens" in note]
    (note,) = [note for note in sweep_table(sweep, shorter).notes if "tokens" in note]
    assert note.startswith(
        "runs were trained on 500 to 1,000 tokens, activation=relu with seed 3 on the fewest"
    )


def test_a_point_that_comes_to_the_same_in_every_seed_is_noted(
    sweep: Sweep, runs: list[SweepRun]
) -> None:
    same = with_losses(outcomes_of(runs), {**LOSSES, "silu": LOSSES["gelu"]})
    notes = sweep_table(sweep, same).notes
    said = "activation=silu: the same eval_loss as activation=gelu in every seed: what differs "
    assert f"{said}changes nothing that is measured" in notes
    assert not [note for note in notes if "no interval" in note]
    # Differences of one size that is not zero are none of that.
    shifted = [loss + 0.5 for loss in LOSSES["gelu"]]
    other = sweep_table(sweep, with_losses(same, {**LOSSES, "silu": shifted})).notes
    # Nor is what one seed has in common.
    one = [LOSSES["gelu"][0], 3.0, 3.1]
    third = sweep_table(sweep, with_losses(same, {**LOSSES, "silu": one})).notes
    assert not [note for note in (*other, *third) if "in every seed" in note]


def test_what_was_held_equal_is_told_last(sweep: Sweep, runs: list[SweepRun]) -> None:
    table = sweep_table(sweep, outcomes_of(runs), conditions=["one", "two"])
    assert sweep_table_text(table).endswith("\none\ntwo")


def recorded(run: SweepRun) -> None:
    run.folder.mkdir(parents=True)
    lines = [
        {"event": "train", "loss": 4.0, "tokens_per_second": 10.0, "peak_memory": 5},
        {"event": "train", "loss": 3.0, "tokens_per_second": 90.0, "peak_memory": 9},
        {"event": "train", "loss": 3.5, "tokens_per_second": 50.0, "peak_memory": 7},
        {"event": "eval", "eval_loss": 3.2},
    ]
    header = {"stage": "only", "tokens": 640, "stage_tokens": 640}
    with (run.folder / "metrics.jsonl").open("wb") as file:
        for step, line in enumerate(lines, 1):
            file.write(json_line({**header, "step": step, **line}))
    task = {
        **{"event": "task", "stage": "only", "step": 4, "tokens": 640, "checkpoint": "a.pt"},
        **{"suite": "glue", "task": "mnli", "mode": "frozen", "fingerprint": "0", "seeds": [1]},
        **{"metrics": {"accuracy": 0.5}, "seconds": 1.0},
    }
    (run.folder / "tasks.jsonl").write_bytes(json_line(task))


def test_a_run_comes_to_its_last_numbers_its_median_speed_and_its_largest_memory(
    runs: list[SweepRun],
) -> None:
    with pytest.raises(UserError, match=r"no metrics\.jsonl"):
        read_outcome(runs[0], ["eval_loss"])
    recorded(runs[0])
    wanted = ["eval_loss", "loss", "tokens_per_second", "peak_memory", "mnli.accuracy"]
    found = read_outcome(runs[0], wanted)
    assert list(found.values.values()) == [3.2, 3.5, 50.0, 9, 0.5]
    assert (found.tokens, found.updates) == (640, 4)
    with pytest.raises(UserError, match=r"measure eval_lss: .* did you mean 'eval_loss'"):
        read_outcome(runs[0], ["eval_lss"])


def test_which_number_is_the_better_one() -> None:
    better = {"eval_loss": False, "eval_accuracy": True, "tokens_per_second": True}
    better |= {"peak_memory": False, "sts.mse": False, "mnli.accuracy": True}
    assert {name: more_is_better(name) for name in better} == better
