"""Composer's trainer, asking before every step whether the update's numbers are finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from composer import Event, Trainer
from torch import Tensor

from flexbert.train.health.update_guard import UpdateGuard


class StageTrainer(Trainer):
    """Composer's trainer for one stage.

    Attributes:
        update_guard: says whether an update is skipped; given once the trainer is made.
    """

    update_guard: UpdateGuard

    def guard_updates(self, guard: UpdateGuard) -> None:
        """From now on the optimizer steps only where ``guard`` finds the numbers finite."""
        self.update_guard = guard
        for optimizer in self.state.optimizers:
            guard.guard(optimizer)

    def evaluate_now(self) -> None:
        """Evaluate on every source, as after an update that completes an interval."""
        self.engine.run_event(Event.EVAL_BEFORE_ALL)
        for evaluator in self.state.evaluators:
            self._eval_loop(evaluator, self.state.eval_metrics[evaluator.label], -1)
        self.engine.run_event(Event.EVAL_AFTER_ALL)

    def _train_microbatches(
        self,
        microbatches: Sequence[Any],
        total_loss_dict: dict[str, Tensor],
        ddp_sync: bool = True,
    ) -> Tensor:
        """Composer reads a number off what this returns, once every update: it reads the verdict.

        In place of the loss, which goes into ``total_loss_dict`` all the same.
        """
        batch = self.state.batch
        try:
            loss = super()._train_microbatches(microbatches, total_loss_dict, ddp_sync)
        except ZeroDivisionError:
            # Composer divides by the number of tokens that all processes have to predict, after the
            # first forward pass and before anything is summed: every process comes here, or none.
            if any(microbatch["num_masked"] for microbatch in microbatches):
                raise
            self.state.batch = batch  # as where nothing is raised
            return self.update_guard.nothing_to_predict()
        return self.update_guard.verdict(loss)
