"""A stage ends where a reader of its evaluations would end it, whatever is killed meanwhile."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from composer import Callback, Event, Logger, State

from flexbert.checkpoint.best import best_and_last
from flexbert.checkpoint.checkpoint import Checkpoint, EarlyStoppingState
from flexbert.checkpoint.checkpoint_file import read_checkpoint, training_of, write_checkpoint
from flexbert.checkpoint.checkpoint_names import checkpoint_name, checkpoint_step, list_checkpoints
from flexbert.checkpoint.run_metric import RunMetric
from flexbert.config.by_metric import EarlyStoppingConfig
from flexbert.errors import ConfigError, UserError
from flexbert.provenance.step_rows import step_rows
from flexbert.recipes import load_recipe
from flexbert.train import checkpointing
from flexbert.train.early_stopping import counted
from flexbert.train.run import train
from tests.checkpoint.states import training_state
from tests.conftest import TINY_RECIPE, Overrides, read_records
from tests.integration.killed_run import COMPUTED, assert_same_weights

NAN = math.nan


def count_all(
    values: Sequence[float], config: EarlyStoppingConfig, lower: bool = True
) -> list[EarlyStoppingState]:
    """What is remembered after each of these evaluations, at steps 1, 2, ..."""
    by_step = dict(enumerate(values, start=1))
    metric = RunMetric(name="m", lower_is_better=lower, by_step=by_step)
    states = [EarlyStoppingState()]
    for step in by_step:
        states.append(counted(states[-1], config, metric, step))
    return states[1:]


def end_by_hand(values: Sequence[float], patience: int, min_delta: float) -> int | None:
    """The number of the evaluation after which training ends, looked up in the whole list."""
    improvements = []
    for index, value in enumerate(values):
        if math.isnan(value):
            continue
        if not improvements or value < values[improvements[-1]] - min_delta:
            improvements.append(index)
    for index in range(len(values)):
        last = max((i for i in improvements if i <= index), default=-1)
        if index - last >= patience:
            return index + 1
    return None


def test_the_end_and_the_best_are_those_found_by_hand() -> None:
    generator = random.Random(3)
    for _ in range(300):
        values = [
            generator.choice([*[n / 8 for n in range(20)], NAN])
            for _ in range(generator.randint(1, 12))
        ]
        patience = generator.randint(1, 4)
        min_delta = generator.choice([0.0, 0.25])
        config = EarlyStoppingConfig(patience=patience, min_delta=min_delta)
        states = count_all(values, config)
        ends = [n for n, s in enumerate(states, start=1) if s.without_improvement >= patience]
        assert (ends[0] if ends else None) == end_by_hand(values, patience, min_delta)
        for number, state in enumerate(states, start=1):
            seen = [value for value in values[:number] if not math.isnan(value)]
            if seen:
                assert state.best == min(seen)
                assert values[state.best_step - 1] == min(seen)
                assert state.best_step == values.index(min(seen)) + 1
            else:
                assert (state.best, state.best_step) == (None, 0)
        # More is better of the same with another sign.
        mirrored = count_all([-value for value in values], config, lower=False)
        assert [s.best_step for s in mirrored] == [s.best_step for s in states]
        assert [s.without_improvement for s in mirrored] == [s.without_improvement for s in states]


def test_a_best_that_is_no_improvement_is_still_the_best() -> None:
    states = count_all([2.0, 1.95, 1.9], EarlyStoppingConfig(min_delta=0.5))
    assert states[-1] == EarlyStoppingState(
        seen_step=3, without_improvement=2, bar=2.0, best=1.9, best_step=3
    )


def test_a_checkpoint_remembers_and_an_older_one_remembers_nothing(tmp_path: Path) -> None:
    state = EarlyStoppingState(
        seen_step=7, without_improvement=2, bar=1.5, best=1.25, best_step=4, has_ended=True
    )
    training = training_state()
    training = type(training)(**{**vars(training), "early_stopping": state})
    path = tmp_path / "a.pt"
    write_checkpoint(path, Checkpoint(recipe={}, tokenizer={}, model={}, training=training))
    assert training_of(read_checkpoint(path)).early_stopping == state


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("{metric: eval_los}", "early_stopping.metric: unknown metric 'eval_los'"),
        ("{patience: 0}", "early_stopping.patience: must be positive"),
        ("{min_delta: -1}", "early_stopping.min_delta: must not be negative"),
        ("{restore: last}", "early_stopping.restore"),
        ("{metric: mnli.accuracy}", "flexbert watch at any time; give evaluation.suite"),
        ("{metric: eval_losses.web}", "is of a mixture, and the recipe has one corpus: eval_loss"),
    ],
)
def test_a_mistake_is_one_line(node: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(TINY_RECIPE, ["data.path=none", f"evaluation.early_stopping={node}"])
    assert words in str(error.value)


LOSSES = {2: 3.0, 4: 2.0, 6: 2.5, 8: 2.4, 10: 2.3, 12: 1.0, 14: 0.5}
STAGES = "stages={one: {duration: 20ba}, two: {duration: 3ba}}"
SETTINGS = (
    STAGES,
    "schedule={name: constant}",
    "evaluation.interval=2ba",
    "stages.two.evaluation.early_stopping=null",
    "checkpoints={interval: 3ba}",
    "compile=never",
)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of evaluations are those of ``LOSSES``."""
    from flexbert.train import run_log

    real = run_log.RunLog._write

    def write(self: run_log.RunLog, logger: Logger, record: dict[str, object]) -> None:
        if record["event"] == "eval":
            record["eval_loss"] = LOSSES.get(int(str(record["step"])), 9.0)
        real(self, logger, record)

    monkeypatch.setattr(run_log.RunLog, "_write", write)


class Weights(Callback):
    """The weights after each update, and before the first of a stage."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, torch.Tensor]] = {}
        self.before: dict[int, dict[str, torch.Tensor]] = {}

    def batch_start(self, state: State, logger: Logger) -> None:
        self.before[int(state.timestamp.batch.value)] = _copied(state)

    def batch_end(self, state: State, logger: Logger) -> None:
        self.after[int(state.timestamp.batch.value)] = _copied(state)


def _copied(state: State) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.model.state_dict().items()}


class Killed(BaseException):
    """As if the process had been killed: nothing catches it."""


def run(overrides: list[str], *callbacks: Callback) -> Path:
    loaded = load_recipe(TINY_RECIPE, overrides)
    assert train(loaded, command=["test"], callbacks=callbacks, quiet=True) == 0
    return loaded.first.run_folder


def computed(folder: Path) -> list[tuple[object, ...]]:
    keys = (*COMPUTED, "best", "best_step", "restored_step", "is_early")
    return [tuple(record.get(key) for key in keys) for record in read_records(folder)]


def last_of(folder: Path) -> Checkpoint:
    return read_checkpoint(list_checkpoints(folder / "checkpoints")[-1])


def stopping(restore: str = "null") -> str:
    return f"evaluation.early_stopping={{patience: 3, restore: {restore}}}"


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_a_stage_ends_early_and_the_next_goes_on_from_it(
    tiny: Overrides, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = Weights()
    loaded = load_recipe(TINY_RECIPE, tiny(*SETTINGS, stopping()))
    assert train(loaded, command=["test"], callbacks=[weights]) == 0
    folder = loaded.first.run_folder
    # 4 was the best; 6, 8 and 10 were not.
    assert [r["step"] for r in read_records(folder, "train")] == list(range(1, 14))
    assert [r["stage"] for r in read_records(folder, "train")] == ["one"] * 10 + ["two"] * 3
    (end,) = read_records(folder, "stage_end")
    assert (end["step"], end["best_step"], end["best"], end["restored_step"]) == (10, 4, 2.0, None)
    assert end["is_early"] is True
    assert_same_weights(weights.before[10], weights.after[10])
    saved = read_checkpoint(folder / "checkpoints" / "one.pt")
    assert training_of(saved).clock.updates == 10
    # Looking back finds the stage that an update was of.
    assert [step_rows(folder, step).stage for step in (10, 11)] == ["one", "two"]
    said = capsys.readouterr().out
    assert (
        "stage one ends early, after update 10: eval_loss has not improved in 3 evaluations; it "
        "ends with its last weights; its best (2.0000, of update 4)"
    ) in said
    # Started again, it is finished.
    assert train(loaded, command=["test"]) == 0
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_the_next_stage_goes_on_from_the_best_weights_and_optimizer(tiny: Overrides) -> None:
    weights = Weights()
    folder = run(tiny(*SETTINGS, stopping("best")), weights)
    assert_same_weights(weights.before[10], weights.after[4])
    (end,) = read_records(folder, "stage_end")
    assert (end["step"], end["restored_step"]) == (10, 4)
    checkpoints = folder / "checkpoints"
    ended, best = (read_checkpoint(checkpoints / name) for name in ("one.pt", checkpoint_name(4)))
    assert_same_weights(dict(ended.model), dict(best.model))
    of_end, of_best = training_of(ended), training_of(best)
    for name, kept in of_best.optimizer.parameters.items():
        for key, value in kept.items():
            other = of_end.optimizer.parameters[name][key]
            same = torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value
            assert same, (name, key)
    assert of_end.optimizer.updates == of_best.optimizer.updates
    # The clock and the data are the end's: nothing is read twice.
    assert of_end.clock.updates == 10
    assert of_end.data.position.update == 10
    # The best was saved for it, off the interval; and is not averaged twice.
    steps = [checkpoint_step(path) for path in list_checkpoints(checkpoints)]
    assert 4 in steps
    chosen = best_and_last(folder, 1, "eval_loss", "one")
    assert [checkpoint_step(path) for path in chosen.values] == [4, 9]


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_a_run_that_ends_at_its_duration_has_its_best_weights_too(tiny: Overrides) -> None:
    weights = Weights()
    settings = ("duration=6ba", "evaluation.interval=2ba", "checkpoints={interval: 6ba, keep: 1}")
    settings += ("schedule={name: constant}", "compile=never")
    folder = run(tiny(*settings, stopping("best")), weights)
    assert_same_weights(dict(last_of(folder).model), weights.after[4])
    assert training_of(last_of(folder)).clock.updates == 6
    (end,) = read_records(folder, "stage_end")
    assert (end["is_early"], end["restored_step"]) == (False, 4)
    assert computed(folder) == computed(run(tiny(*settings, stopping("best"))))


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("restore", [pytest.param("null", marks=pytest.mark.long), "best"])
def test_killed_anywhere_around_the_decision_it_ends_as_the_uninterrupted(
    tiny: Overrides, monkeypatch: pytest.MonkeyPatch, restore: str
) -> None:
    whole = run(tiny(*SETTINGS, stopping(restore), "run_name=whole"))
    overrides = tiny(*SETTINGS, stopping(restore), "run_name=killed")
    folder = load_recipe(TINY_RECIPE, overrides).first.run_folder

    class Kill(Callback):
        def __init__(self, event: Event, step: int) -> None:
            self.moment = event, step

        def run_event(self, event: Event, state: State, logger: Logger) -> None:
            if (event, int(state.timestamp.batch.value)) == self.moment:
                raise Killed

    def launch(*callbacks: Callback) -> None:
        with pytest.raises(Killed):
            train(load_recipe(TINY_RECIPE, overrides), ["test"], callbacks, quiet=True)

    # After the best evaluation and before its checkpoint; after that; before the last evaluation.
    launch(Kill(Event.EVAL_AFTER_ALL, 4))
    launch(Kill(Event.BATCH_CHECKPOINT, 4))
    launch(Kill(Event.BATCH_START, 8))
    # After the evaluation that decides, before any checkpoint of it.
    launch(Kill(Event.EVAL_AFTER_ALL, 10))
    launch(Kill(Event.BATCH_CHECKPOINT, 10))
    # In the middle of carrying it out: recorded, not saved; then saved, and the name not given.
    real = checkpointing.write_checkpoint

    def killed(path: Path, checkpoint: Checkpoint) -> None:
        raise Killed

    def killed_after(path: Path, checkpoint: Checkpoint) -> None:
        real(path, checkpoint)
        if training_of(checkpoint).early_stopping.has_ended:
            raise Killed

    def killed_before(path: Path, checkpoint: Checkpoint) -> None:
        if training_of(checkpoint).early_stopping.has_ended:
            raise Killed
        real(path, checkpoint)

    for killing in (killed_before, killed_before, killed_after):
        monkeypatch.setattr(checkpointing, "write_checkpoint", killing)
        launch()
    monkeypatch.setattr(checkpointing, "write_checkpoint", real)
    launch(Kill(Event.BATCH_END, 12))
    assert run(overrides) == folder
    assert computed(folder) == computed(whole)
    assert_same_weights(dict(last_of(folder).model), dict(last_of(whole).model))
    one, other = (training_of(last_of(f)) for f in (folder, whole))
    assert one.data == other.data
    assert one.due_step == other.due_step
    names = [sorted(p.name for p in (f / "checkpoints").iterdir()) for f in (folder, whole)]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_a_best_checkpoint_that_is_gone_is_told_and_the_last_weights_stay(
    tiny: Overrides, capsys: pytest.CaptureFixture[str]
) -> None:
    class Removes(Callback):
        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def batch_start(self, state: State, logger: Logger) -> None:
            if int(state.timestamp.batch.value) == 8:
                os.unlink(self.folder / "checkpoints" / checkpoint_name(4))

    weights = Weights()
    overrides = tiny(*SETTINGS, stopping("best"))
    folder = load_recipe(TINY_RECIPE, overrides).first.run_folder
    run(overrides, weights, Removes(folder))
    assert "ends with the weights of its last update" in capsys.readouterr().out
    assert_same_weights(weights.before[10], weights.after[10])
    (end,) = read_records(folder, "stage_end")
    assert end["restored_step"] is None


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_the_best_stays_while_old_checkpoints_are_deleted(tiny: Overrides) -> None:
    settings = [s for s in SETTINGS if not s.startswith("checkpoints")]
    folder = run(tiny(*settings, "checkpoints={interval: 1ba, keep: 1}", stopping("best")))
    (end,) = read_records(folder, "stage_end")
    assert end["restored_step"] == 4
    assert [p.name for p in list_checkpoints(folder / "checkpoints")] == [checkpoint_name(13)]


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_what_decides_may_not_change_in_a_resume(tiny: Overrides) -> None:
    loaded = load_recipe(TINY_RECIPE, tiny(*SETTINGS, stopping()))

    class Kill(Callback):
        def batch_start(self, state: State, logger: Logger) -> None:
            if int(state.timestamp.batch.value) == 4:
                raise Killed

    with pytest.raises(Killed):
        train(loaded, ["test"], [Kill()], quiet=True)
    changed = load_recipe(TINY_RECIPE, tiny(*SETTINGS, stopping(), "evaluation.rows=3"))
    with pytest.raises(UserError, match=r"evaluation\.rows \(5 -> 3\)"):
        train(changed, ["test"], quiet=True)
    shutil.rmtree(loaded.first.run_folder)


@pytest.mark.slow
def test_a_task_measured_while_training_waits_decides(
    tiny: Overrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With lines as ``evaluation.suite`` adds them: at a checkpoint, before the next update."""
    from flexbert.task_metrics_file import append
    from tests.test_task_metrics_file import at

    monkeypatch.setattr(EarlyStoppingConfig, "check", lambda self, has_suite: None)
    scores = {3: 0.5, 6: 0.8, 9: 0.7, 12: 0.8, 15: 0.9}

    class Suite(Callback):
        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def batch_checkpoint(self, state: State, logger: Logger) -> None:
            step = int(state.timestamp.batch.value)
            if step in scores:
                append(self.folder, at(step, stage="one", metrics={"accuracy": scores[step]}))
                # What a watcher measures of an earlier one meanwhile decides nothing.
                append(self.folder, at(2, stage="one", metrics={"accuracy": 0.99}))

    by_task = "evaluation.early_stopping={metric: mnli.accuracy, patience: 2, restore: best}"
    weights = Weights()
    overrides = tiny(*SETTINGS, by_task)
    folder = load_recipe(TINY_RECIPE, overrides).first.run_folder
    run(overrides, Suite(folder), weights)
    (end,) = read_records(folder, "stage_end")
    assert (end["step"], end["best"], end["restored_step"]) == (12, 0.8, 6)
    assert_same_weights(weights.before[12], weights.after[6])
    assert json.loads((folder / "tasks.jsonl").read_text().splitlines()[0])["task"] == "mnli"
