"""Makes things go wrong inside a run's process, at moments that none outside could meet."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from composer import Callback, Event, Logger, State

from flexbert.errors import UserError
from tests.integration.faults import INJECTED, Fault

MARK = "moment"
# So that whoever looks for the mark acts in that moment.
_PAUSE_SECONDS = 0.03
# Far above any threshold, far below overflow.
_JUMP = 1e4
# No checkpoint of the tiny model fits; a line of metrics.jsonl does.
_DISK_FULL_BYTES = 100_000


class Injected(Callback):
    """Does what each fault asks for."""

    def __init__(self, faults: Sequence[Fault], folder: Path) -> None:
        """
        Args:
            faults: of this rank.
            folder: for the mark.
        """
        self.faults = faults
        self.mark = folder / MARK
        self._microbatch = 0
        self._end_row = -1

    def run_event(self, event: Event, state: State, logger: Logger) -> None:
        if event is Event.BATCH_START:
            position = state.batch["position"]
            self._end_row = position.packing_window.row + position.row
        finished = int(state.timestamp.batch.value)
        for fault in self.faults:
            at = self._end_row if fault.kind == "jump" else finished
            if (
                fault.event == event.value
                and fault.first <= at < fault.end
                and fault.microbatch in (None, self._microbatch)
            ):
                self._do(fault, state)
        if event is Event.BATCH_START:
            self._microbatch = 0
        elif event is Event.AFTER_BACKWARD:
            self._microbatch += 1

    def _do(self, fault: Fault, state: State) -> None:
        match fault.kind:
            case "mark":
                if not self.mark.exists():
                    self.mark.touch()
                    time.sleep(_PAUSE_SECONDS)
            case "nan":
                gradient = next(p.grad for p in state.model.parameters() if p.grad is not None)
                gradient.view(-1)[0] = torch.nan
            case "jump":
                for parameter in state.model.parameters():
                    if parameter.grad is not None:
                        parameter.grad.mul_(_JUMP)
            case "infinite":
                state.loss = state.loss * torch.inf  # type: ignore[operator]
            case "exception":
                raise RuntimeError(INJECTED)
            case "user_error":
                raise UserError(INJECTED)
            case "disk_full":
                _limit(_DISK_FULL_BYTES)
            case "disk_free":
                _limit(resource.RLIM_INFINITY)


def _limit(size: int) -> None:
    """No file grows beyond so many bytes; Python ignores the signal, and writing fails."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
