"""Which part of an update its time is put down to, by a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from composer import Logger, State
from torch import nn

from flexbert.train import step_times
from flexbert.train.step_times import StepTimes

LOGGER = cast(Logger, None)
STEP, CLIPPING = 5.0, 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def take(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(step_times.time, "perf_counter", lambda: clock.now)
    return clock


class SlowSGD(torch.optim.SGD):
    """Its step takes time, after that of its closure."""

    def __init__(self, clock: Clock) -> None:
        super().__init__([nn.Parameter(torch.zeros(1))], lr=0.1)
        self.clock = clock

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        self.clock.take(STEP)
        return loss


def state_of(optimizer: torch.optim.Optimizer) -> State:
    return cast(State, SimpleNamespace(model=nn.Identity(), optimizers=[optimizer]))


def train_batch(times: StepTimes, state: State, clock: Clock) -> float:
    """What Composer does in an update, but for the optimizer; with the seconds of each part."""
    for begins, seconds, ends in (
        (times.before_forward, 3.0, times.after_loss),
        (times.before_backward, 7.0, times.after_backward),
    ):
        begins(state, LOGGER)
        clock.take(seconds)
        ends(state, LOGGER)
    clock.take(CLIPPING)  # a callback's after_train_batch, before or after that of StepTimes
    return 0.0


def update(times: StepTimes, state: State, clock: Clock, call: str) -> None:
    (optimizer,) = state.optimizers
    times.before_dataloader(state, LOGGER)
    clock.take(2.0)
    times.after_dataloader(state, LOGGER)

    def closure() -> float:
        return train_batch(times, state, clock)

    if call == "by keyword":
        assert optimizer.step(closure=closure) == 0.0
    elif call == "by place":
        assert optimizer.step(closure) == 0.0
    else:
        closure()
        optimizer.step()
    clock.take(11.0)
    times.batch_end(state, LOGGER)


@pytest.mark.parametrize("call", ["by keyword", "by place", "after the closure"])
def test_the_optimizers_time_is_its_step_alone(clock: Clock, call: str) -> None:
    optimizer = SlowSGD(clock)
    times, state = StepTimes(torch.device("cpu")), state_of(optimizer)
    times.fit_start(state, LOGGER)
    for _ in range(2):
        update(times, state, clock, call)
    expected = {"forward": 3.0, "backward": 7.0, "optimizer": STEP, "other": CLIPPING + 11.0}
    assert times.last == {"data": 2.0, "communication": 0.0, **expected}
    # Of the first update its loader's start is left out.
    assert times.seconds["data"] == 2.0
    assert times.seconds["optimizer"] == 2 * STEP
    times.clear()
    assert times.total == 0.0


class FakeEvent:
    """A place in the GPU's queue, and whether anyone waited for it."""

    waited = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        FakeEvent.waited += 1

    def elapsed_time(self, end: FakeEvent) -> float:
        return 1000.0


def test_an_update_is_not_waited_for_at_its_end(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(FakeEvent, "waited", 0)
    times, state = StepTimes(torch.device("cuda")), state_of(SlowSGD(clock))
    times.fit_start(state, LOGGER)
    update(times, state, clock, "by keyword")
    assert FakeEvent.waited == 0
    update(times, state, clock, "by keyword")
    of_one = FakeEvent.waited
    assert of_one > 0
    assert times.last["optimizer"] == 1.0
    assert FakeEvent.waited == 2 * of_one
