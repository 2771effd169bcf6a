"""What is drawn of runs: every point where it was recorded, in few points where there are many."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flexbert.errors import UserError
from flexbert.metrics_file import read_metrics
from flexbert.report.compared_panels import compared_panels
from flexbert.report.curves import Curve, Mark, Panel, grouped, smoothed, thinned
from flexbert.report.recorded_run import read_run
from flexbert.report.run_panels import run_panels
from flexbert.report.task_records import task_names, task_records
from flexbert.task_metrics_file import append, read_task_metrics
from tests.report.situations import SITUATIONS, Situation, write_situations


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    long = replace(SITUATIONS["very-long"], stages={"pretrain": 20_000, "decay": 2_000})
    return write_situations(tmp_path_factory.mktemp("runs"), {**SITUATIONS, "very-long": long})


def curve(panel: Panel, label: str) -> Curve:
    return next(c for c in panel.curves if (c.label or "").startswith(label))


def test_a_curve_has_every_record_and_breaks_between_stages(runs: Mapping[str, Path]) -> None:
    panels = run_panels(read_run(runs["three-stages"]))
    drawn = curve(panels.panels[0], "validation")
    recorded = read_metrics(runs["three-stages"], "eval")
    whole = np.isfinite(drawn.y)
    assert drawn.x[whole].tolist() == [record.tokens for record in recorded]
    assert drawn.y[whole].tolist() == [record.numbers["eval_loss"] for record in recorded]
    assert int((~whole).sum()) == 2
    assert [mark.label for mark in panels.stages] == ["pretrain", "extend", "decay"]
    assert [mark.x for mark in panels.stages] == [0, 3000 * 4.7e6, 3700 * 4.7e6]


def test_losses_name_the_share_of_tokens_that_was_masked(runs: Mapping[str, Path]) -> None:
    labels = [
        [c.label for c in run_panels(read_run(runs[name])).panels[0].curves]
        for name in ("one-stage", "three-stages")
    ]
    assert labels[0][0] == "training, 30% masked"
    assert str(labels[0][1]).startswith("validation, 15% masked\nlast 2.4")
    assert str(labels[1][1]).startswith("validation, 15% to 10% masked")


def test_gradients_updates_and_sources_are_drawn(runs: Mapping[str, Path]) -> None:
    panels = run_panels(read_run(runs["mixture"])).panels
    by_title = {panel.title: panel for panel in panels}
    sources = [c.label for c in by_title["validation loss by source"].curves]
    assert sources == ["web", "books", "code", "wiki-de"]
    assert by_title["gradient norm, before clipping"].curves[0].y.min() > 0
    assert "size of an update, RMS over all weights" in by_title


def test_what_tasks_are_chosen_by_is_drawn_where_checkpoints_were_tried(
    runs: Mapping[str, Path],
) -> None:
    run = read_run(runs["tasks"])
    (panel,) = [panel for panel in run_panels(run).panels if panel.title == "tasks"]
    names = [*SITUATIONS["tasks"].tasks]
    assert [c.label for c in panel.curves] == names
    drawn = curve(panel, "cola.mcc")
    whole = np.isfinite(drawn.y)
    measured = [each for each in read_task_metrics(runs["tasks"]) if each.task == "cola"]
    assert drawn.x[whole].tolist() == [each.tokens for each in measured]
    assert drawn.y[whole].tolist() == [each.metrics["mcc"] for each in measured]
    assert not panel.is_log
    for other in ("one-stage", "mixture"):
        titles = [panel.title for panel in run_panels(read_run(runs[other])).panels]
        assert "tasks" not in titles
    both = compared_panels([read_run(runs["one-stage"]), run]).panels
    compared = {panel.title: panel.curves for panel in both if panel.title.startswith("task: ")}
    assert [*compared] == [f"task: {name}" for name in names]
    assert [[c.label for c in curves] for curves in compared.values()] == [["tasks"]] * len(names)


def test_a_task_that_is_known_of_two_modes_is_two_curves(
    runs: Mapping[str, Path], tmp_path: Path
) -> None:
    folder = Situation(stages={"one": 20}, tasks={"rte.accuracy": 0.7}).write(tmp_path / "run")
    measured = read_task_metrics(folder)
    for each in measured:
        append(folder, replace(each, mode="fine_tune"))
    names = task_names(task_records(read_run(folder)))
    assert sorted(names) == ["rte.accuracy (fine-tuned)", "rte.accuracy (frozen)"]


def test_the_run_before_is_drawn_up_to_where_this_one_begins(runs: Mapping[str, Path]) -> None:
    panels = run_panels(read_run(runs["decay"]))
    before = curve(panels.panels[0], "one-stage, validation")
    begin = 1000 * 4_700_000
    assert before.x[-1] == begin
    own = curve(panels.panels[0], "training")
    assert own.x[0] > begin
    # No more of it than of the run itself, until somebody zooms out.
    assert panels.begin == begin - (panels.end - begin)
    assert before.x[0] < panels.begin


def test_a_run_with_a_new_clock_begins_where_the_one_before_ends(runs: Mapping[str, Path]) -> None:
    panels = run_panels(read_run(runs["domain"]))
    assert curve(panels.panels[0], "one-stage, training").x[-1] == 0
    assert curve(panels.panels[0], "training").x[0] > 0


def test_a_run_before_that_is_gone_is_left_out(tmp_path: Path) -> None:
    recipe = {"start_from": [str(tmp_path / "nowhere" / "checkpoints" / "step-00000007.pt")]}
    folder = Situation(stages={"decay": 20}, recipe=recipe).write(tmp_path / "child")
    assert read_run(folder).parent is None


def test_updates_that_were_skipped_are_marked_where_they_were(runs: Mapping[str, Path]) -> None:
    panels = run_panels(read_run(runs["skipped"]))
    (marks,) = panels.troubles.values()
    assert [mark.x for mark in marks] == pytest.approx([s * 4.7e6 for s in range(300, 341)])
    assert np.isnan(curve(panels.panels[0], "training").y).sum() == 5


def test_time_goes_on_where_a_clock_began_again(tmp_path: Path) -> None:
    folder = Situation(stages={"pretrain": 40}, interval=10, evaluations=1).write(tmp_path / "run")
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line, seconds in zip(lines, (3600, 7200, 1800, 3600, 3600), strict=True):
        line["seconds"] = seconds
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    panels = run_panels(read_run(folder), "time")
    assert curve(panels.panels[0], "training").x.tolist() == [1, 2, 2.5, 3]
    for line in lines:
        del line["seconds"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="its records have no time"):
        run_panels(read_run(folder), "time")


def test_over_updates_stages_begin_after_the_last_update_before(runs: Mapping[str, Path]) -> None:
    panels = run_panels(read_run(runs["three-stages"]), "updates")
    assert [mark.x for mark in panels.stages] == [0, 3000, 3700]
    assert panels.end == 3850


def test_several_runs_share_panels_and_say_where_they_do_not_compare(
    runs: Mapping[str, Path],
) -> None:
    chosen = [read_run(runs[name]) for name in ("one-stage", "mixture")]
    panels = compared_panels(chosen)
    assert [c.label for c in panels.panels[0].curves] == ["one-stage", "mixture"]
    assert not panels.needs_legend(panels.panels[1])
    chosen.append(read_run(runs["three-stages"]))
    labels = [c.label for c in compared_panels(chosen).panels[0].curves]
    assert labels[0] == "one-stage, 15% masked"
    assert labels[2] == "three-stages, 15% to 10% masked"
    # Two of one name are told apart by their folders.
    twice = compared_panels([chosen[0], chosen[0]])
    assert [c.label for c in twice.panels[0].curves] == [str(chosen[0].folder)] * 2


def test_a_long_curve_keeps_every_spike_and_every_gap() -> None:
    random = np.random.default_rng(1)
    y = random.normal(size=200_000)
    spikes = np.arange(500, len(y), 2000)
    y[spikes] = 50 + np.arange(len(spikes))
    gap = 123_456
    y[gap : gap + 40] = math.nan
    x = np.arange(len(y), dtype=float)
    few_x, few_y = thinned(x, y)
    assert len(few_x) <= 1502
    assert np.all(np.diff(few_x) > 0)
    assert np.array_equal(y[few_x.astype(int)], few_y, equal_nan=True)
    assert np.isnan(few_y).any()
    assert (few_x[0], few_x[-1]) == (0, len(y) - 1)
    assert set(spikes) <= set(few_x)


def test_a_mean_is_that_of_neighbors_and_is_broken_where_the_curve_is() -> None:
    y = np.concatenate([np.random.default_rng(2).normal(size=300), [math.nan], np.arange(50.0)])
    mean = smoothed(y, 8)
    assert math.isnan(mean[300])
    assert mean[100] == pytest.approx(y[92:109].mean())
    # A straight line is its own mean, near its ends too but for the reach that is left.
    assert mean[310:342] == pytest.approx(y[310:342])
    assert mean[301] == pytest.approx(y[301:303].mean())
    assert np.isfinite(np.delete(mean, 300)).all()


def test_names_of_stages_that_are_close_are_written_together() -> None:
    marks = [Mark(x=0, label="a"), Mark(x=95, label="b"), Mark(x=97, label="c")]
    assert grouped(marks, 5) == [Mark(x=0, label="a"), Mark(x=95, label="b, c")]


def test_values_that_span_much_are_drawn_on_a_logarithmic_axis() -> None:
    def panel(*values: float) -> Panel:
        y = np.array(values)
        return Panel(title="", curves=[Curve(x=np.arange(len(y)), y=y, color="red")])

    assert panel(1, math.nan, 1000).is_log
    assert not panel(1, 10).is_log
    assert not panel(0, 1000).is_log
    assert not panel(math.nan).is_log
