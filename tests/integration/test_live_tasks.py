"""Runs whose checkpoints are tried on tasks: nothing of training changes, whatever stops them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flexbert.checkpoint.checkpoint_file import read_checkpoint, training_of
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.config.decode import decode
from flexbert.config.training import SuiteEvaluationConfig
from flexbert.task_metrics_file import TaskMetrics, read_task_metrics
from flexbert.tasks.checkpoint_tasks import CheckpointTasks
from flexbert.tasks.watching import watch_run
from flexbert.train.processes.run_errors import DONE, PREEMPTED
from tests.conftest import TINY_RECIPE, Overrides, read_records
from tests.integration.killed_run import KilledRun, assert_same_weights
from tests.integration.launcher import PATIENCE_SECONDS, Launcher
from tests.integration.test_stopped_within import SignalsItself, folder_of, last_weights
from tests.integration.test_stopped_within import run as train_once
from tests.tasks.cases import PLAIN, task_node

pytestmark = pytest.mark.slow

DUE = (4, 8, 12)
# Of both tasks, with two seeds each.
FITS = 4
ATTEMPTS = 4
SETTINGS = ("checkpoints.interval=4ba", "evaluation.interval=4ba")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of which one starts from the other's weights."""
    folder = tmp_path_factory.mktemp("suite")
    tasks = {
        "toy": task_node(folder, "classification"),
        "pairs": {**task_node(folder, "pair"), "from": "toy"},
    }
    settings = {**PLAIN, "seeds": [17, 18], "head_dropout": 0.1}
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"suite": "test", "defaults": settings, "tasks": tasks}))
    return path


RunMaker = Callable[..., KilledRun]


@pytest.fixture(scope="module")
def make_run(
    launcher: Launcher, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunMaker:
    def make(*settings: str) -> KilledRun:
        folder = tmp_path_factory.mktemp("run")
        return KilledRun(
            launcher, TINY_RECIPE, [*SETTINGS, f"data.path={corpus}", *settings], folder
        )

    return make


@pytest.fixture(scope="module")
def plain(make_run: RunMaker) -> dict[int, KilledRun]:
    """Without tasks, on one process and on two."""
    runs = {}
    for num_processes in (1, 2):
        runs[num_processes] = make_run()
        assert runs[num_processes].launch(num_processes=num_processes) == 0
    return runs


@pytest.fixture(scope="module")
def live(make_run: RunMaker, suite: Path) -> dict[int, KilledRun]:
    """The same, with tasks: fits of whole models on one process, shared ones on two."""
    runs = {}
    for num_processes in (1, 2):
        runs[num_processes] = make_run(*live_settings(suite), "logging.tensorboard=true")
        assert runs[num_processes].launch(num_processes=num_processes) == 0
    return runs


def live_settings(suite: Path, **more: object) -> list[str]:
    chosen = {"file": suite, "mode": "fine_tune", **more}
    return [f"evaluation.suite.{key}={value}" for key, value in chosen.items()]


def metrics(run: KilledRun) -> list[tuple[object, ...]]:
    """What is known of its checkpoints, but for the time it took."""
    return [comparable(each) for each in read_task_metrics(run.run_folder)]


def comparable(each: TaskMetrics) -> tuple[object, ...]:
    where = (each.stage, each.step, each.tokens, each.checkpoint)
    return (*where, each.suite, each.task, each.mode, each.seeds, dict(each.metrics))


def fits(run: Path) -> list[str]:
    """The fits that were made, by their ids; a line that is being written is of none."""
    files = run.glob("tasks/*/results.jsonl")
    lines = (line for file in files for line in file.read_text().splitlines(keepends=True))
    return [json.loads(line)["fit"] for line in lines if line.endswith("\n")]


def tried(run: Path) -> Counter[tuple[int, str]]:
    """How often each step stands in the file for each task."""
    lines = [json.loads(line) for line in (run / "tasks.jsonl").read_text().splitlines()]
    return Counter((line["step"], line["task"]) for line in lines)


def once(steps: Sequence[int]) -> Counter[tuple[int, str]]:
    return Counter((step, task) for step in steps for task in ("toy", "pairs"))


@pytest.mark.parametrize("num_processes", [1, 2])
def test_training_is_bit_for_bit_what_it_is_without(
    plain: dict[int, KilledRun], live: dict[int, KilledRun], num_processes: int
) -> None:
    without, with_tasks = plain[num_processes], live[num_processes]
    outcome, expected = with_tasks.outcome(), without.outcome()
    assert outcome.batches == expected.batches
    assert outcome.records == expected.records
    for path in list_checkpoints(without.run_folder / "checkpoints"):
        own = read_checkpoint(with_tasks.run_folder / "checkpoints" / path.name)
        theirs = read_checkpoint(path)
        assert_same_weights(own.model, theirs.model)
        states = [training_of(each).optimizer.parameters for each in (own, theirs)]
        assert_same_state(*states)


def assert_same_state(own: Any, expected: Any) -> None:
    """Bit for bit, whatever it is nested in."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(own, expected)
    elif isinstance(expected, dict):
        assert own.keys() == expected.keys()
        for name, value in expected.items():
            assert_same_state(own[name], value)
    else:
        assert own == expected


@pytest.mark.parametrize("num_processes", [1, 2])
def test_every_due_checkpoint_is_tried_once(live: dict[int, KilledRun], num_processes: int) -> None:
    run = live[num_processes].run_folder
    assert tried(run) == once(DUE)
    assert len(set(fits(run))) == len(fits(run)) == FITS * len(DUE)
    # What others started from is as large as a checkpoint, and is not left behind.
    assert not list(run.glob("tasks/*/weights/*.pt"))


def test_processes_share_the_fits_and_come_to_the_same(
    live: dict[int, KilledRun], suite: Path
) -> None:
    # Two processes train other weights than one, which a watcher tries as they are.
    run = live[2]
    known = metrics(run)
    (run.run_folder / "tasks.jsonl").rename(run.run_folder / "of-training.jsonl")
    (run.run_folder / "tasks").rename(run.run_folder / "of-training")
    watch(run.run_folder, suite)
    assert metrics(run) == known


def test_tensorboard_has_each_metric_at_its_checkpoints_step(live: dict[int, KilledRun]) -> None:
    run = live[1].run_folder
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    for task in ("toy", "pairs"):
        found = [(each.step, each.value) for each in board.Scalars(f"tasks/{task}/accuracy")]
        expected = [
            (each.step, pytest.approx(each.metrics["accuracy"]))
            for each in read_task_metrics(run)
            if each.task == task
        ]
        assert found == expected


@pytest.mark.parametrize(
    ("num_processes", "step"),
    [
        (1, 8),
        pytest.param(2, 8, marks=pytest.mark.long),
        pytest.param(1, 12, marks=pytest.mark.long),
        (2, 12),
    ],
)
def test_a_stop_in_a_trial_is_made_up_before_training_goes_on(
    make_run: RunMaker,
    live: dict[int, KilledRun],
    suite: Path,
    num_processes: int,
    step: int,
) -> None:
    before = FITS * DUE.index(step)
    # These fits take a moment, so a signal may come when the last of them is made.
    for _ in range(ATTEMPTS):
        run = make_run(*live_settings(suite))
        code = run.launch(
            lambda run=run: len(fits(run.run_folder)) == before + 1,  # type: ignore[misc]
            signal.SIGTERM,
            num_processes=num_processes,
        )
        if len(fits(run.run_folder)) < before + FITS:
            break
    else:
        pytest.skip(f"each of {ATTEMPTS} signals came after the last fit")
    assert code == 75
    assert tried(run.run_folder) == once(DUE[: DUE.index(step)])
    assert not run.step_begun(step + 1)
    launch = run.start(num_processes, 0)
    assert launch.wait() == 0
    tries = [line for line in launch.output.splitlines() if line.startswith("trying")]
    assert [line.split()[1] for line in tries] == [
        f"step-{due:08d}.pt" for due in DUE[DUE.index(step) :]
    ]
    assert metrics(run) == metrics(live[num_processes])
    assert tried(run.run_folder) == once(DUE)
    assert len(set(fits(run.run_folder))) == len(fits(run.run_folder)) == FITS * len(DUE)
    outcome, expected = run.outcome(), live[num_processes].outcome()
    assert outcome.batches == expected.batches
    assert_same_weights(outcome.weights, expected.weights)


def watch(run: Path, suite: Path, **more: object) -> list[TaskMetrics]:
    """What ``flexbert watch`` does with a finished run; what it tells."""
    config = decode(SuiteEvaluationConfig, {"file": str(suite), "mode": "fine_tune", **more})
    told: list[TaskMetrics] = []
    tasks = CheckpointTasks(run, config, torch.device("cpu"))
    watch_run(tasks, follow=True, tell=lambda checkpoint, measured: told.extend(measured))
    return told


def test_watching_a_finished_run_catches_up_with_live_evaluation(
    plain: dict[int, KilledRun], live: dict[int, KilledRun], suite: Path
) -> None:
    torch.set_num_threads(1)
    run = plain[1].run_folder
    told = watch(run, suite)
    assert [comparable(each) for each in told] == metrics(live[1]) == metrics(plain[1])
    assert watch(run, suite) == []
    assert len(fits(run)) == FITS * len(DUE)


def test_two_watchers_share_the_fits_of_a_run(
    plain: dict[int, KilledRun], suite: Path, live: dict[int, KilledRun]
) -> None:
    run = plain[2].run_folder
    command = [sys.executable, "-m", "flexbert.commands", "watch", str(run)]
    command += ["--suite", str(suite), "--fine-tune", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    watchers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    for watcher in watchers:
        assert watcher.wait(PATIENCE_SECONDS) == 0
    assert tried(run) == once(DUE)
    assert len(set(fits(run))) == len(fits(run)) == FITS * len(DUE)
    assert metrics(plain[2]) == metrics(live[2])


WRONG = {
    "no such file": (["file=nowhere.yaml"], "nowhere.yaml"),
    "no such task": (["tasks=[toi]"], "did you mean 'toy'"),
    "no such key": (["overrides=[tasks.toy.batchsize=3]"], "did you mean 'batch_size'"),
    "missing rows": (["overrides=[tasks.toy.data.train=nothing.jsonl]"], "nothing.jsonl"),
    "no such metric": (["overrides=['tasks.toy.metrics=[accurracy]']"], "did you mean 'accuracy'"),
    "no such metric to stop by": ([], "evaluation.early_stopping.metric"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_suite_is_one_line_before_training(
    make_run: RunMaker, suite: Path, name: str
) -> None:
    given, said = WRONG[name]
    settings = [*live_settings(suite), *(f"evaluation.suite.{each}" for each in given)]
    if not given:
        settings.append("evaluation.early_stopping.metric=toy.f1")
    run = make_run(*settings)
    launch = run.start(1, 0)
    assert launch.wait_for_all(PATIENCE_SECONDS) == [2], launch.output
    (line,) = [line for line in launch.output.splitlines() if line.startswith("error")]
    assert said in line
    assert "Traceback" not in launch.output
    assert not (run.run_folder / "checkpoints").exists()


# So high a rate that what is learned comes and goes.
STOPPING = (
    *("duration=80ba", "schedule={name: constant}", "optimizer.lr=3"),
    *("checkpoints.interval=4ba", "evaluation.interval=80ba"),
    "evaluation.early_stopping={metric: toy.accuracy, patience: 2, restore: best}",
)


@pytest.mark.parametrize("num_processes", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_tasks_metric_ends_a_stage_and_its_last_checkpoint_is_tried(
    make_run: RunMaker, suite: Path, num_processes: int
) -> None:
    settings = [*live_settings(suite, mode="frozen", tasks="[toy]"), *STOPPING]
    whole, killed = make_run(*settings), make_run(*settings)
    assert whole.launch(num_processes=num_processes) == 0
    (end,) = read_records(whole.run_folder, "stage_end")
    known = {each.step: each.metrics["accuracy"] for each in read_task_metrics(whole.run_folder)}
    assert end["step"] < 80
    assert sorted(known) == list(range(4, end["step"] + 1, 4))
    by_hand = max(known, key=lambda step: (known[step], -step))
    assert end["best_step"] == by_hand
    assert end["restored_step"] in (by_hand, None)
    # Killed in the trial that decides.
    trials = end["step"] // 4
    code = killed.launch(
        lambda: (
            len(list((killed.run_folder / "tasks").glob("*/locks/*"))) > 0
            and len(fits(killed.run_folder)) == 2 * (trials - 1) + 1
        ),
        num_processes=num_processes,
    )
    assert code == -signal.SIGKILL
    assert killed.launch(num_processes=num_processes) == 0
    assert metrics(killed) == metrics(whole)
    assert read_records(killed.run_folder, "stage_end")[0]["best_step"] == by_hand
    assert_same_weights(killed.outcome().weights, whole.outcome().weights)


def test_a_stage_that_its_loss_ends_between_checkpoints_is_tried_at_its_end(
    make_run: RunMaker, suite: Path
) -> None:
    run = make_run(
        *live_settings(suite, mode="frozen", tasks="[toy]"),
        *("duration=80ba", "schedule={name: constant}", "optimizer.lr=10"),
        *("checkpoints.interval=70ba", "evaluation.interval=3ba"),
        "evaluation.early_stopping={patience: 2}",
        "logging.tensorboard=true",
    )
    assert run.launch() == 0
    (end,) = read_records(run.run_folder, "stage_end")
    assert end["is_early"]
    assert [each.step for each in read_task_metrics(run.run_folder)] == [end["step"]]
    board = EventAccumulator(str(run.run_folder / "tensorboard"))
    board.Reload()
    assert [each.step for each in board.Scalars("tasks/toy/accuracy")] == [end["step"]]


@pytest.mark.parametrize("step", [8, 12])
def test_a_stop_in_the_evaluation_before_a_due_checkpoint_leaves_no_trial_out(
    tiny: Overrides, suite: Path, step: int
) -> None:
    """With the best weights restored, so that the last trial comes before the stage's end."""
    stopping = "evaluation.early_stopping={metric: toy.accuracy, patience: 9, restore: best}"
    settings = [*SETTINGS, *live_settings(suite, mode="frozen", tasks="[toy]"), stopping]
    whole, stopped = tiny("run_name=whole", *settings), tiny(*settings)
    assert train_once(whole) == DONE
    # Composer's clock has moved on when it evaluates.
    assert (
        train_once(stopped, SignalsItself("eval_batch_start", step=step + 1, count=1)) == PREEMPTED
    )
    assert step not in {each.step for each in read_task_metrics(folder_of(stopped))}
    assert train_once(stopped) == DONE
    known = [
        [comparable(each) for each in read_task_metrics(folder_of(each))]
        for each in (whole, stopped)
    ]
    assert known[0] == known[1]
    assert [each[1] for each in known[0]] == [*DUE]
    assert_same_weights(last_weights(folder_of(stopped)), last_weights(folder_of(whole)))
