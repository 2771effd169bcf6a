"""A run that is told to stop within an update or an evaluation goes on as if it had not been."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from composer import Callback, Logger, State

from flexbert.checkpoint.checkpoint_file import read_checkpoint, training_of
from flexbert.checkpoint.checkpoint_names import list_checkpoints
from flexbert.recipes import load_recipe
from flexbert.train.processes.run_errors import DONE, PREEMPTED
from flexbert.train.run import train
from tests.conftest import TINY_RECIPE, Overrides, read_records
from tests.integration.killed_run import assert_same_weights

pytestmark = pytest.mark.slow

COMPUTED = ("event", "step", "tokens", "loss", "lr", "eval_loss", "eval_accuracy")


class SignalsItself(Callback):
    """At the n-th time that an event comes up at an update (numbers from 1 on)."""

    def __init__(self, event: str, step: int, count: int, number: int = signal.SIGTERM) -> None:
        self.step = step
        self.count = count
        self.number = number
        self.times = 0
        self.seen_after = 0
        setattr(self, event, self._seen)

    def _seen(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch.value) + 1 == self.step:
            self.times += 1
            if self.times == self.count:
                os.kill(os.getpid(), self.number)
            self.seen_after += self.times > self.count


def run(overrides: list[str], *callbacks: Callback) -> int:
    return train(load_recipe(TINY_RECIPE, overrides), command=["test"], callbacks=callbacks)


def folder_of(overrides: list[str]) -> Path:
    return load_recipe(TINY_RECIPE, overrides).first.run_folder


def computed(folder: Path) -> list[tuple[object, ...]]:
    return [tuple(record.get(key) for key in COMPUTED) for record in read_records(folder)]


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(list_checkpoints(folder / "checkpoints")[-1]).model)


def assert_equal_runs(one: Path, other: Path) -> None:
    assert computed(one) == computed(other)
    assert_same_weights(last_weights(one), last_weights(other))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_between_micro_batches(tiny: Overrides, number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("ignored here, as under nohup")
    settings = ("batch.microbatch_rows=1",)
    whole, stopped = tiny("run_name=whole", *settings), tiny(*settings)
    assert run(whole) == DONE
    signals = SignalsItself("after_backward", step=6, count=1, number=number)
    assert run(stopped, signals) == PREEMPTED
    folder = folder_of(stopped)
    # The update's two other micro-batches were not computed, and it is not in the checkpoint.
    assert signals.seen_after == 0
    newest = list_checkpoints(folder / "checkpoints")[-1]
    assert newest.name == "step-00000005.pt"
    assert run(stopped) == DONE
    assert_equal_runs(folder, folder_of(whole))


@pytest.mark.parametrize("step", [6, 12])
def test_in_an_evaluation_which_is_then_done_again(tiny: Overrides, step: int) -> None:
    """After update 6, which is in the middle, and after the last one."""
    settings = ("evaluation={interval: 6ba, rows: 9, microbatch_rows: 1, mask_rate: 0.15}",)
    whole, stopped = tiny("run_name=whole", *settings), tiny(*settings)
    assert run(whole) == DONE
    # Composer's clock has moved on when it evaluates.
    signals = SignalsItself("eval_batch_end", step=step + 1, count=4)
    assert run(stopped, signals) == PREEMPTED
    folder = folder_of(stopped)
    assert signals.seen_after == 0
    newest = read_checkpoint(list_checkpoints(folder / "checkpoints")[-1])
    assert training_of(newest).clock.updates == step
    assert training_of(newest).evaluation_due
    assert [r["step"] for r in read_records(folder, "eval")] == list(range(6, step, 6))

    # Stopped in it once more, and killed behind it, which leaves a record of it.
    assert run(stopped, SignalsItself("eval_batch_end", step=step + 1, count=2)) == PREEMPTED
    assert run(stopped) == DONE
    assert_equal_runs(folder, folder_of(whole))


def test_before_the_first_update(tiny: Overrides) -> None:
    stopped = tiny()
    assert run(stopped, SignalsItself("fit_start", step=1, count=1)) == PREEMPTED
    newest = list_checkpoints(folder_of(stopped) / "checkpoints")[-1]
    assert newest.name == "step-00000000.pt"
    whole = tiny("run_name=whole")
    assert run(whole) == DONE
    assert run(stopped) == DONE
    assert_equal_runs(folder_of(stopped), folder_of(whole))
