"""What the trainer does around each update beside the update itself."""

from __future__ import annotations

import hashlib
import signal
from types import FrameType
from typing import Any

import torch
from composer import Callback, Logger, State, Timestamp
from composer.utils import dist

from flexbert.config.duration import Duration
from flexbert.data.stream import WindowStart
from flexbert.data.window_index import WindowIndex
from flexbert.recipe.clock import StageClock, crossed
from flexbert.recipe.stages import Stage
from flexbert.train.stage_data import StageData


def stage_clock(stage: Stage, timestamp: Timestamp) -> StageClock:
    """The stage's clock when Composer's showed ``timestamp``."""
    return StageClock(
        tokens=int(timestamp.token.value),
        updates=int(timestamp.batch.value),
        duration=stage.duration,
    )


def interval_ended(stage: Stage, state: State, interval: Duration) -> bool:
    """Whether the update that just ended completed an ``interval``, or the stage."""
    assert state.previous_timestamp is not None, "an update has just ended"
    now = stage_clock(stage, state.timestamp)
    return now.finished or crossed(interval, stage_clock(stage, state.previous_timestamp), now)


class Hyperparameters(Callback):
    """Sets every hyperparameter on every parameter group from the recipe and the stage's clock.

    Composer steps its schedulers before its clock moves, and a loaded checkpoint brings its own
    values back; neither is ever used.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def batch_start(self, state: State, logger: Logger) -> None:
        recipe = self.stage.recipe
        multiplier = recipe.schedule.multiplier(stage_clock(self.stage, state.timestamp))
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group.update(recipe.optimizer.hyperparameters(group, multiplier))


class UpdateSeed(Callback):
    """Seeds torch anew for each update from (seed, stage, update, rank).

    Dropout is then the same after a resume as without one; Composer does not restore the random
    state in the middle of an epoch.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def batch_start(self, state: State, logger: Logger) -> None:
        update = int(state.timestamp.batch.value)
        key = f"{self.stage.recipe.seed}/{self.stage.name}/{update}/{dist.get_global_rank()}"
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest, "little") >> 1)


class DataPosition(Callback):
    """Keeps the position in the data that belongs to the batch last trained on.

    The position comes with the batch, so that a loader that reads ahead cannot run ahead of it. It
    is the same on every process, which makes Composer's saving of rank 0's callbacks right.
    """

    def __init__(self, data: StageData, index: WindowIndex) -> None:
        """
        Args:
            index: receives the beginnings of windows, from the first process.
        """
        self.data = data
        self.index = index
        self.position = data.start

    def batch_end(self, state: State, logger: Logger) -> None:
        self.position = state.batch["position"]
        if dist.get_global_rank() == 0:
            self.index.write(WindowStart.read(window) for window in state.batch["windows"])

    def state_dict(self) -> dict[str, Any]:
        return self.data.state(self.position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: what was saved was read before there was a stream; see :class:`StageData`."""


class Preemption(Callback):
    """On SIGTERM, in whichever process, all processes stop together after the current update."""

    def __init__(self) -> None:
        self.preempted = False
        self._signalled = False
        self._previous_handler: Any = signal.SIG_DFL

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self._signalled = True

    def fit_start(self, state: State, logger: Logger) -> None:
        self._previous_handler = signal.signal(signal.SIGTERM, self._receive)

    def fit_end(self, state: State, logger: Logger) -> None:
        signal.signal(signal.SIGTERM, self._previous_handler)

    def batch_end(self, state: State, logger: Logger) -> None:
        flag = state.device.tensor_to_device(torch.tensor([int(self._signalled)]))
        dist.all_reduce(flag, reduce_operation="MAX")
        if flag.item():
            self.preempted = True
            state.stop_training()
