"""Tells those who wait for this process where in its training it is."""

from __future__ import annotations

from composer import Callback, Logger, State

from flexbert.train.processes.place import WHEREABOUTS


class Progress(Callback):
    """Every process comes to the same places, in the same order."""

    def __init__(self) -> None:
        # A model may be compiled in it, and kernels tuned.
        self._is_first_update = True

    def before_dataloader(self, state: State, logger: Logger) -> None:
        self._reach(state, "reading")

    def before_forward(self, state: State, logger: Logger) -> None:
        self._reach(state, "forward and backward")

    def after_train_batch(self, state: State, logger: Logger) -> None:
        self._reach(state, "the optimizer's step")

    def batch_end(self, state: State, logger: Logger) -> None:
        self._is_first_update = False
        WHEREABOUTS.reach(f"after update {int(state.timestamp.batch.value)}")

    def eval_batch_start(self, state: State, logger: Logger) -> None:
        WHEREABOUTS.reach(f"evaluating after update {int(state.timestamp.batch.value)}")

    def eval_end(self, state: State, logger: Logger) -> None:
        WHEREABOUTS.reach(f"after evaluating after update {int(state.timestamp.batch.value)}")

    def _reach(self, state: State, what: str) -> None:
        update = int(state.timestamp.batch.value) + 1
        WHEREABOUTS.reach(f"update {update}, {what}", slow=self._is_first_update)
