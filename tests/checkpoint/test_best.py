"""The best checkpoints by a task's metric are those that a reader of the files takes by hand."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from flexbert.checkpoint.best import best_and_last
from flexbert.checkpoint.checkpoint_names import checkpoint_name, checkpoint_step
from flexbert.commands import main
from flexbert.errors import UserError
from flexbert.task_metrics_file import TaskMetrics, append

PRETRAIN, DECAY = range(100, 500, 100), range(500, 1100, 100)


def make_run(folder: Path) -> Path:
    """Two stages, of which every hundredth step is saved and only the ends are evaluated."""
    (folder / "checkpoints").mkdir(parents=True)
    for step in (*PRETRAIN, *DECAY):
        (folder / "checkpoints" / checkpoint_name(step)).touch()
    lines = []
    for step in range(50, 1050, 50):
        stage = "pretrain" if step <= PRETRAIN[-1] else "decay"
        header = {"stage": stage, "step": step, "tokens": step, "stage_tokens": step}
        lines.append({"event": "train", **header, "loss": 2.0})
        if step in (PRETRAIN[-1], DECAY[-1]):
            lines.append({"event": "eval", **header, "eval_loss": 1.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def measure(
    run: Path,
    values: Mapping[int, float],
    metric: str = "accuracy",
    *,
    suite: str = "glue",
    task: str = "mnli",
    mode: str = "frozen",
) -> None:
    for step, value in values.items():
        append(
            run,
            TaskMetrics(
                stage="pretrain" if step <= PRETRAIN[-1] else "decay",
                step=step,
                tokens=step,
                checkpoint=checkpoint_name(step),
                suite=suite,
                task=task,
                mode=mode,
                fingerprint="0123456789abcdef",
                seeds=(1,),
                metrics={metric: value},
                seconds=1.0,
            ),
        )


def steps(run: Path, count: int, metric: str, stage: str | None = None) -> list[int]:
    return [checkpoint_step(path) for path in best_and_last(run, count, metric, stage).values]


# As anybody would fill a notebook: one value a step.
SCORES = {500: 0.61, 600: 0.72, 700: 0.70, 800: 0.64, 900: 0.71, 1000: 0.60}


def test_the_three_best_of_the_decay_and_its_last(run: Path) -> None:
    # Of another stage, and better than all.
    measure(run, dict.fromkeys(PRETRAIN, 0.9))
    measure(run, SCORES)
    assert steps(run, 3, "mnli.accuracy") == [600, 700, 900, 1000]
    assert steps(run, 2, "mnli.accuracy", "pretrain") == [100, 200, 400]


@pytest.mark.parametrize("metric", ["mse", "loss", "eval_loss", "mean_squared_error", "RMSE"])
def test_less_is_better_of_an_error(run: Path, metric: str) -> None:
    measure(run, SCORES, metric)
    assert steps(run, 3, f"mnli.{metric}") == [500, 700, 800, 1000]


@pytest.mark.parametrize("metric", ["accuracy", "f1", "mcc", "pearson", "lossless"])
def test_more_is_better_of_anything_else(run: Path, metric: str) -> None:
    measure(run, SCORES, metric)
    assert steps(run, 3, f"mnli.{metric}") == [600, 700, 900, 1000]


def test_of_equal_ones_the_earlier_is_taken(run: Path) -> None:
    measure(run, {500: 0.5, 600: 0.7, 700: 0.7, 800: 0.7, 900: 0.6, 1000: 0.7})
    assert steps(run, 2, "mnli.accuracy") == [600, 700, 1000]


def test_a_correction_counts_and_not_what_it_corrects(run: Path) -> None:
    measure(run, SCORES)
    measure(run, {600: 0.1, 500: 0.9})
    assert steps(run, 2, "mnli.accuracy") == [500, 900, 1000]


def test_what_is_no_number_or_missing_is_never_among_the_best_and_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(run, {500: math.nan, 600: 0.2, 800: 0.1, 900: math.inf, 1000: 0.0})
    chosen = best_and_last(run, 2, "mnli.accuracy", None)
    assert [checkpoint_step(path) for path in chosen.values] == [600, 800, 1000]
    assert [checkpoint_step(path) for path in chosen.passed_over] == [500, 700, 900]
    out = run.parent / "mean.pt"
    assert main(["average", str(run), "--best", "3", "--metric=mnli.accuracy", f"--out={out}"]) == 2
    assert (
        "mnli.accuracy was measured at the step of 2 of stage decay's checkpoints before its last "
        "(not of step-00000500.pt, step-00000700.pt, step-00000900.pt); --best 3 needs 3"
    ) in capsys.readouterr().err
    assert not out.exists()


def test_the_last_is_taken_even_if_nothing_is_known_of_it(run: Path) -> None:
    measure(run, {step: value for step, value in SCORES.items() if step < 900})
    chosen = best_and_last(run, 3, "mnli.accuracy", None)
    assert [checkpoint_step(path) for path in chosen.values] == [600, 700, 800, 1000]
    assert math.isnan(list(chosen.values.values())[-1])
    assert [checkpoint_step(path) for path in chosen.passed_over] == [900]


def test_a_deleted_checkpoint_is_no_candidate(run: Path) -> None:
    measure(run, SCORES)
    (run / "checkpoints" / checkpoint_name(600)).unlink()
    assert steps(run, 2, "mnli.accuracy") == [700, 900, 1000]


def test_an_unknown_metric_names_those_there_are(run: Path) -> None:
    measure(run, SCORES)
    measure(run, SCORES, "f1", task="qqp")
    with pytest.raises(UserError) as error:
        steps(run, 1, "mnli.acuracy")
    assert str(error.value) == (
        f"{run}: unknown metric 'mnli.acuracy'; did you mean 'mnli.accuracy'? "
        "(known: eval_loss, mnli.accuracy, qqp.f1)"
    )


def test_a_task_of_two_suites_or_modes_is_told_apart(run: Path) -> None:
    measure(run, SCORES)
    flipped = {step: -value for step, value in SCORES.items()}
    measure(run, flipped, suite="mine")
    with pytest.raises(UserError) as error:
        steps(run, 3, "mnli.accuracy")
    assert str(error.value) == (
        f"{run}: 'mnli.accuracy' is the metric of several; give one of: "
        "glue/mnli.accuracy, mine/mnli.accuracy"
    )
    assert steps(run, 3, "glue/mnli.accuracy") == [600, 700, 900, 1000]
    assert steps(run, 3, "mine/mnli.accuracy") == [500, 700, 800, 1000]
    measure(run, SCORES, mode="fine_tune")
    with pytest.raises(UserError, match=r"glue/mnli\.accuracy@frozen, mine/mnli\.accuracy$"):
        steps(run, 3, "mnli.accuracy@frozen")
    with pytest.raises(UserError, match=r"glue/mnli\.accuracy@frozen, mnli\.accuracy@fine_tune$"):
        steps(run, 3, "glue/mnli.accuracy")
    assert steps(run, 3, "mnli.accuracy@fine_tune") == [600, 700, 900, 1000]


def test_a_run_without_one_evaluation_is_chosen_from_by_its_tasks(run: Path) -> None:
    records = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in records if "eval" not in line))
    measure(run, SCORES)
    assert steps(run, 1, "mnli.accuracy") == [600, 1000]


def test_any_run_is_chosen_from_as_by_hand(tmp_path: Path) -> None:
    generator = random.Random(17)
    for number in range(20):
        run = make_run(tmp_path / str(number))
        measured = {
            step: generator.choice([0.1, 0.2, 0.3, 0.4, 0.5, math.nan])
            for step in DECAY
            if generator.random() < 0.8
        }
        measured |= {500: 0.25, 600: 0.35}
        measure(run, measured)
        count = generator.randint(1, 2)
        # By hand: strike out what is no number, then cross off the highest, from the left.
        left = {s: v for s, v in measured.items() if s != DECAY[-1] and not math.isnan(v)}
        taken = []
        for _ in range(count):
            highest = max(left.values())
            first = min(step for step, value in left.items() if value == highest)
            taken.append(first)
            del left[first]
        assert steps(run, count, "mnli.accuracy") == [*sorted(taken), DECAY[-1]]
