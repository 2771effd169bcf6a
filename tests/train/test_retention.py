"""The best checkpoints stay besides the newest ones, and no more than is said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from flexbert.checkpoint.checkpoint_names import checkpoint_name, checkpoint_step, list_checkpoints
from flexbert.errors import ConfigError
from flexbert.recipes import load_recipe
from flexbert.schedule.stages import all_stages
from flexbert.task_metrics_file import TASKS, TaskMetrics, append
from flexbert.train.retention import Retention
from flexbert.train.run import train
from flexbert.train.run_folder import RunFolder
from tests.conftest import TINY_RECIPE, Overrides, read_records


class Training:
    """A run of two stages that saves, evaluates and deletes, and trains nothing."""

    def __init__(self, folder: Path, checkpoints: str, *more: str) -> None:
        stages = "stages={one: {duration: 100ba}, two: {duration: 100ba}}"
        constant = "schedule={name: constant}"
        overrides = ["data.path=none", stages, constant, f"checkpoints={checkpoints}", *more]
        self.stages = all_stages(load_recipe(TINY_RECIPE, overrides).stages)
        self.folder = RunFolder(folder)
        self.folder.begin({}, after_step=0)
        self.folder.checkpoints.mkdir()
        self.stage = 0
        self.most = 0

    def save(self, step: int, loss: float | None = None, needed: tuple[int, ...] = ()) -> None:
        if loss is not None:
            self.folder.append_metrics(
                {
                    "event": "eval",
                    "stage": self.stages[self.stage].name,
                    "step": step,
                    "tokens": step,
                    "stage_tokens": step,
                    "eval_loss": loss,
                }
            )
        (self.folder.checkpoints / checkpoint_name(step)).touch()
        self.most = max(self.most, len(self.steps))
        retention = Retention(self.folder, self.stages, self.stages[self.stage])
        retention.delete_old(needed)

    def measure(self, step: int, accuracy: float, suite: str = "glue") -> None:
        append(
            self.folder.path,
            TaskMetrics(
                stage=self.stages[self.stage].name,
                step=step,
                tokens=step,
                checkpoint=checkpoint_name(step),
                suite=suite,
                task="mnli",
                mode="frozen",
                fingerprint="0123456789abcdef",
                seeds=(1,),
                metrics={"accuracy": accuracy},
                seconds=1.0,
            ),
        )

    def relaunch(self, after_step: int) -> None:
        self.folder = RunFolder(self.folder.path)
        self.folder.begin({}, after_step=after_step)

    @property
    def steps(self) -> list[int]:
        return [checkpoint_step(path) for path in list_checkpoints(self.folder.checkpoints)]


LOSSES = {1: 5.0, 2: 3.0, 3: 4.0, 4: 3.0, 5: 3.5, 6: 6.0, 7: float("nan"), 8: 9.0}


def test_the_best_by_loss_stay_besides_the_newest(tmp_path: Path) -> None:
    training = Training(tmp_path, "{interval: 1ba, keep: 1, keep_best: {count: 2}}")
    for step, loss in LOSSES.items():
        training.save(step, loss)
    assert training.steps == [2, 4, 8]


def test_of_equal_ones_the_earlier_stay(tmp_path: Path) -> None:
    training = Training(tmp_path, "{interval: 1ba, keep: 1, keep_best: {count: 1}}")
    for step, loss in LOSSES.items():
        training.save(step, loss)
    assert training.steps == [2, 8]


def test_what_was_not_evaluated_does_not_stay_for_it(tmp_path: Path) -> None:
    training = Training(tmp_path, "{interval: 1ba, keep: 2, keep_best: {count: 2}}")
    for step in range(1, 13):
        training.save(step, float(step) if step % 3 == 0 else None)
    assert training.steps == [3, 6, 11, 12]


def test_each_stage_has_its_own_best(tmp_path: Path) -> None:
    training = Training(
        tmp_path,
        "{interval: 1ba, keep: 1, keep_best: {count: 2}}",
        "stages.two.checkpoints.keep_best.count=1",
    )
    for step, loss in LOSSES.items():
        training.save(step, loss)
    training.stage = 1
    for step, loss in LOSSES.items():
        training.save(step + 8, loss + 10)
    assert training.steps == [2, 4, 10, 16]


def test_what_training_may_go_back_to_stays(tmp_path: Path) -> None:
    training = Training(tmp_path, "{interval: 1ba, keep: 1, keep_best: {count: 1}}")
    for step in range(1, 7):
        training.save(step, float(step), needed=(3,))
    assert training.steps == [1, 3, 6]


def test_the_first_measured_late_waits_and_then_stays(tmp_path: Path) -> None:
    by_task = "{metric: mnli.accuracy, count: 1, patience: 2}"
    training = Training(tmp_path, f"{{interval: 1ba, keep: 1, keep_best: {by_task}}}")
    for step in (1, 2, 3):
        training.save(step, 1.0)
    assert training.steps == [1, 2, 3]
    training.measure(1, 0.9)
    training.save(4, 1.0)
    assert training.steps == [1, 2, 3, 4]
    # Nothing came of 2 for as long as two others waited.
    training.save(5, 1.0)
    assert training.steps == [1, 3, 4, 5]
    training.measure(3, 0.5)
    training.measure(4, 0.95)
    training.save(6, 1.0)
    assert training.steps == [4, 5, 6]
    # One that is known to be no number waits no longer.
    training.measure(5, float("nan"))
    training.save(7, 1.0)
    assert training.steps == [4, 6, 7]


def test_a_metric_of_two_suites_is_warned_of_once_and_deletes_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_task = "{metric: mnli.accuracy, count: 1, patience: 1}"
    training = Training(tmp_path, f"{{interval: 1ba, keep: 1, keep_best: {by_task}}}")
    training.save(1, 1.0)
    training.measure(1, 0.5)
    training.measure(1, 0.5, suite="mine")
    retention = Retention(training.folder, training.stages, training.stages[0])
    for step in (2, 3):
        (training.folder.checkpoints / checkpoint_name(step)).touch()
        retention.delete_old([])
    assert training.steps == [2, 3]
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "give one of: glue/mnli.accuracy, mine/mnli.accuracy" in warnings[0]


def test_a_relaunch_deletes_what_the_uninterrupted_run_does(tmp_path: Path) -> None:
    generator = random.Random(1)
    losses = {step: generator.random() for step in range(1, 61)}
    settings = "{interval: 1ba, keep: 2, keep_best: {count: 3}}"
    whole, killed = (Training(tmp_path / name, settings) for name in ("whole", "killed"))
    for step, loss in losses.items():
        whole.save(step, loss)
        killed.save(step, loss)
        if step % 7 == 0:
            # Killed once more is recorded than is saved.
            killed.folder.append_metrics({"event": "train", "step": step + 1})
            killed.relaunch(after_step=step)
    best = sorted(losses, key=lambda step: losses[step])[:3]
    assert whole.steps == killed.steps == sorted({*best, 59, 60})


@pytest.mark.parametrize("seed", range(5))
def test_never_more_stay_than_the_docstring_says(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    by_task = "{metric: mnli.accuracy, count: 2, patience: 3}"
    training = Training(tmp_path, f"{{interval: 1ba, keep: 2, keep_best: {by_task}}}")
    for step in range(1, 80):
        training.save(step, 1.0)
        if (training.folder.path / TASKS).exists() or generator.random() < 0.2:
            training.measure(generator.choice(training.steps), generator.random())
    assert len(training.steps) <= 2 + 2 + 3
    assert training.most <= 2 + 2 + 3 + 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{interval: 1ba, keep_best: {}}", "checkpoints.keep_best: changes nothing, because keep"),
        (
            "{interval: 1ba, keep: 1, keep_best: {metric: eval_los}}",
            "checkpoints.keep_best.metric: unknown metric 'eval_los'; did you mean 'eval_loss'?",
        ),
        (
            "{interval: 1ba, keep: 1, keep_best: {metric: mnli}}",
            "unknown metric 'mnli'; known: TASK.METRIC, eval_accuracies.SOURCE",
        ),
        (
            "{interval: 1ba, keep: 1, keep_best: {metric: eval_losses.web}}",
            "checkpoints.keep_best.metric: 'eval_losses.web' is of a mixture, and the recipe has "
            "one corpus: eval_loss",
        ),
        ("{interval: 1ba, keep: 1, keep_best: {count: 0}}", "count: must be positive, got 0"),
    ],
)
def test_a_mistake_is_one_line(settings: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(TINY_RECIPE, ["data.path=none", f"checkpoints={settings}"])
    assert words in str(error.value)


def test_a_source_that_is_none_is_named() -> None:
    sources = "data={path: null, sources: {web: {path: a}, books: {path: b}}}"
    best = "checkpoints={interval: 1ba, keep: 1, keep_best: {metric: eval_losses.%s}}"
    load_recipe(TINY_RECIPE, [sources, best % "web"])
    with pytest.raises(ConfigError, match=r"no source 'wed'; did you mean 'web'\?"):
        load_recipe(TINY_RECIPE, [sources, best % "wed"])


@pytest.mark.slow
def test_a_run_ends_with_its_best_and_its_newest(tiny: Overrides) -> None:
    settings = ("evaluation.interval=1ba", "optimizer.lr=0.3", "compile=never")
    checkpoints = "checkpoints={interval: 1ba, keep: 1, keep_best: {count: 2}}"
    loaded = load_recipe(TINY_RECIPE, tiny(*settings, checkpoints))
    assert train(loaded, command=["test"], quiet=True) == 0
    folder = loaded.first.run_folder
    losses = {r["step"]: r["eval_loss"] for r in read_records(folder, "eval")}
    best = sorted(losses, key=lambda step: losses[step])[:2]
    found = [checkpoint_step(path) for path in list_checkpoints(folder / "checkpoints")]
    assert found == sorted({*best, 12})
