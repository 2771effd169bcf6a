"""Training state of a run that never was, for checkpoints of tests."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from flexbert.checkpoint.checkpoint import OptimizerState, RunClock, TrainingState
from flexbert.data.packing.position import DataState, PackingWindowStart, Position


def training_state(moving_average: Mapping[str, Tensor] | None = None) -> TrainingState:
    start = PackingWindowStart(2, 30, (11, 4), (900, 77))
    return TrainingState(
        run={"run_name": "r", "stages": {"pretrain": {}}},
        clock=RunClock(updates=7, rows=31, tokens=977, seconds=1.5),
        data=DataState(
            stage="pretrain",
            generation=1,
            position=Position(packing_window=start, row=1, update=7, tokens=977),
            order={"seed": 3, "data.max_length": 64},
        ),
        optimizer=OptimizerState(name="adamw", parameters={}, updates=7),
        moving_average=moving_average,
    )
