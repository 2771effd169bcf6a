"""Numbers that go bad in the middle of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Callback, Logger, State

from flexbert.checkpoint.checkpoint_file import read_checkpoint, training_of
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.provenance.step_rows import step_rows
from flexbert.recipes import load_recipe
from flexbert.train.processes.run_errors import NumbersError
from flexbert.train.run import train
from tests.conftest import TINY_RECIPE, Overrides, read_records
from tests.integration.killed_run import assert_same_weights

pytestmark = pytest.mark.slow

BAD = (float("nan"), float("inf"), float("-inf"))


class BreaksGradients(Callback):
    """Puts a number into one element of one gradient, at some updates (numbers from 1 on)."""

    def __init__(self, steps: range | list[int], value: float) -> None:
        self.steps = steps
        self.value = value

    def after_backward(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch.value) + 1 in self.steps:
            gradient = next(p.grad for p in state.model.parameters() if p.grad is not None)
            gradient.view(-1)[3] = self.value


class BreaksLoss(Callback):
    """Makes the loss of an update's second micro-batch infinite, and leaves its gradients."""

    def __init__(self, step: int) -> None:
        self.step = step
        self._number = 0

    def batch_start(self, state: State, logger: Logger) -> None:
        self._number = 0

    def before_loss(self, state: State, logger: Logger) -> None:
        self._number += 1

    def after_loss(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch.value) + 1 == self.step and self._number == 2:
            state.loss.data.fill_(float("inf"))


class Weights(Callback):
    """The weights after each update."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, torch.Tensor]] = {}

    def batch_end(self, state: State, logger: Logger) -> None:
        copied = {name: value.clone() for name, value in state.model.state_dict().items()}
        self.after[int(state.timestamp.batch.value)] = copied


def run(overrides: list[str], *callbacks: Callback) -> Path:
    loaded = load_recipe(TINY_RECIPE, overrides)
    folder = loaded.first.run_folder
    assert train(loaded, command=["test"], callbacks=callbacks) == 0
    return folder


def health(folder: Path) -> list[dict[str, Any]]:
    file = folder / "health.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def no_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def assert_valid_metrics(folder: Path) -> None:
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=no_constant)


@pytest.mark.parametrize("value", BAD, ids=str)
def test_an_update_with_one_bad_gradient_element_is_skipped(tiny: Overrides, value: float) -> None:
    weights = Weights()
    folder = run(tiny(), BreaksGradients([5, 9], value), weights)
    for step in (5, 9):
        assert_same_weights(weights.after[step], weights.after[step - 1])
    assert any(
        not torch.equal(weight, weights.after[5][name]) for name, weight in weights.after[6].items()
    )
    (first, second) = health(folder)
    assert [first["step"], second["step"]] == [5, 9]
    assert first["event"] == "skipped"
    # The gradients were bad and no loss was: every row of the update is named.
    assert first["rows"] == [0, 1, 2]
    name, norm = next(iter(first["gradient_norms"].items()))
    assert (name, norm) == ("encoder.embedding", str(abs(value)))
    train_records = read_records(folder, "train")
    assert train_records[4]["loss"] is None
    assert train_records[-1]["skipped_updates"] == 2
    assert train_records[4]["tokens"] > train_records[3]["tokens"]
    assert_valid_metrics(folder)


def test_rows_of_an_infinite_loss_are_named(tiny: Overrides) -> None:
    # Three rows an update, one each micro-batch: the second one's is row 1.
    folder = run(tiny("batch.microbatch_rows=1"), BreaksLoss(6))
    (noted,) = health(folder)
    assert noted["step"] == 6
    assert noted["rows"] == [1]
    assert len(step_rows(folder, 6).rows) == 3
    assert noted["first_row"] == 15


def test_too_many_skipped_updates_stop_the_run_with_its_last_good_checkpoint(
    tiny: Overrides,
) -> None:
    overrides = tiny(
        "health.max_skipped=2", "checkpoints={interval: 1ba, keep: 1}", "evaluation.interval=12ba"
    )
    with pytest.raises(
        NumbersError, match=r"3 updates in a row were not finite \(steps 6 to 8"
    ) as error:
        run(overrides, BreaksGradients(range(6, 100), float("nan")))
    folder = load_recipe(TINY_RECIPE, overrides).first.run_folder
    saved = list_checkpoints(folder / "checkpoints")
    # Nothing was saved of the updates that were skipped; the weights of step 5 were used by none
    # that was good, so that those of step 4 stay too.
    assert [path.name for path in saved] == ["step-00000004.pt", "step-00000005.pt"]
    assert str(saved[-1]) in str(error.value)
    assert "flexbert rows" in str(error.value)
    assert all(torch.isfinite(value).all() for value in read_checkpoint(saved[-1]).model.values())
    assert_valid_metrics(folder)

    # Once its cause is gone it goes on, and to the same weights as if it had never been stopped.
    assert train(load_recipe(TINY_RECIPE, overrides), command=["test"]) == 0
    healthy = run(tiny("run_name=healthy", *overrides[2:]))
    one, other = (
        read_checkpoint(list_checkpoints(f / "checkpoints")[-1]) for f in (folder, healthy)
    )
    assert_same_weights(dict(one.model), dict(other.model))
    assert len(list_checkpoints(folder / "checkpoints")) == 1


def test_a_learning_rate_that_is_far_too_high_leaves_nothing_that_is_not_finite(
    tiny: Overrides,
) -> None:
    overrides = tiny("optimizer.lr=1e30", "checkpoints={interval: 1ba, keep: 2}", "duration=40ba")
    with pytest.raises(NumbersError):
        run(overrides)
    folder = load_recipe(TINY_RECIPE, overrides).first.run_folder
    for path in list_checkpoints(folder / "checkpoints"):
        for value in read_checkpoint(path).model.values():
            assert torch.isfinite(value).all()
    assert_valid_metrics(folder)


SPIKES = "health.spikes={window: 8, threshold: 20, action: %s}"


class Jumps(Callback):
    """Makes gradients large where a row of the stream is read, whatever update that is in."""

    def __init__(self, row: int) -> None:
        self.row = row
        self._jumps = False

    def batch_start(self, state: State, logger: Logger) -> None:
        after = state.batch["position"]
        end = after.packing_window.row + after.row
        self._jumps = end - 3 <= self.row < end

    def after_backward(self, state: State, logger: Logger) -> None:
        if self._jumps:
            for parameter in state.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(1e6)


def test_a_spike_is_reported(tiny: Overrides) -> None:
    folder = run(tiny("duration=20ba", SPIKES % "report"), Jumps(row=3 * 14 + 1))
    spikes = health(folder)
    assert (spikes[0]["event"], spikes[0]["step"]) == ("spike", 15)
    assert spikes[0]["name"] == "grad_norm"
    assert spikes[0]["deviations"] > 20
    assert read_records(folder, "train")[-1]["step"] == 20


def test_a_spike_is_rolled_back_and_its_rows_are_skipped_for_good(tiny: Overrides) -> None:
    settings = ("duration=20ba", SPIKES % "roll_back", "checkpoints={interval: 4ba}")
    folder = run(tiny(*settings), Jumps(row=3 * 14 + 1))
    events = health(folder)
    assert [(e["event"], e["step"]) for e in events] == [("spike", 15), ("rolled_back", 15)]
    assert events[1]["to_step"] == 12
    assert (events[1]["first_row"], events[1]["rows"]) == (36, 9)
    # The updates are all there, and once.
    assert [r["step"] for r in read_records(folder, "train")] == list(range(1, 21))
    last = training_of(read_checkpoint(list_checkpoints(folder / "checkpoints")[-1]))
    assert last.data.skipped_rows == 9
    assert last.data.position.packing_window.row + last.data.position.row == 3 * 20 + 9
    # Step 13 was trained on the rows behind those that were skipped; so says the run's order.
    other = run(tiny("run_name=other", "duration=20ba"))
    assert step_rows(folder, 13).rows == step_rows(other, 16).rows
    assert step_rows(folder, 12).rows == step_rows(other, 12).rows


def test_a_spike_in_the_last_update_is_rolled_back_too(tiny: Overrides) -> None:
    settings = ("duration=20ba", SPIKES % "roll_back", "checkpoints={interval: 4ba}")
    folder = run(tiny(*settings), Jumps(row=3 * 19 + 1))
    assert [(e["event"], e["step"]) for e in health(folder)] == [("spike", 20), ("rolled_back", 20)]
    assert [r["step"] for r in read_records(folder, "train")] == list(range(1, 21))
    assert [r["step"] for r in read_records(folder, "eval")] == [6, 12, 18, 20]


def test_a_spike_before_the_stages_first_checkpoint_is_only_reported(tiny: Overrides) -> None:
    stages = "stages={one: {duration: 4ba}, two: {duration: 16ba}}"
    settings = ("schedule={name: constant}", "checkpoints={interval: 16ba}", stages)
    folder = run(tiny(*settings, SPIKES % "roll_back"), Jumps(row=3 * 10 + 1))
    spikes = health(folder)
    assert {spike["event"] for spike in spikes} == {"spike"}
    assert read_records(folder, "train")[-1]["step"] == 20


def test_a_run_that_jumps_again_and_again_stops(tiny: Overrides) -> None:
    class Always(Callback):
        def after_backward(self, state: State, logger: Logger) -> None:
            if int(state.timestamp.batch.value) + 1 == 15:
                for parameter in state.model.parameters():
                    if parameter.grad is not None:
                        parameter.grad.mul_(1e6)

    settings = ("duration=20ba", SPIKES % "roll_back", "checkpoints={interval: 4ba}")
    overrides = tiny(*settings, "health.spikes.max_roll_backs=2")
    with pytest.raises(NumbersError, match="jumps again after 2 roll-backs"):
        run(overrides, Always())
