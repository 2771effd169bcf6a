"""One record per interval: to ``metrics.jsonl``, the console, and Composer's loggers."""

from __future__ import annotations

import json
import time
from typing import Any

from composer import Callback, Logger, State
from composer.utils import dist

from flexbert.recipe.clock import StageClock
from flexbert.recipe.stages import Stage
from flexbert.train.callbacks import interval_ended, stage_clock
from flexbert.train.run_folder import RunFolder


class RunLog(Callback):
    """Records loss, learning rate, batch size and speed while training, and every evaluation.

    ``loss`` is the mean over the updates since the last record, each a mean over the masked tokens
    of its global batch. Time spent evaluating or saving is no part of the speed. ``data_wait`` is
    the share of the training time in which the device waited for the loader.
    """

    def __init__(self, stage: Stage, folder: RunFolder) -> None:
        self.stage = stage
        self.folder = folder
        self._losses: list[float] = []
        self._recorded_tokens = 0
        self._training_seconds = 0.0
        self._waiting_seconds = 0.0
        self._asked_at = 0.0

    def fit_start(self, state: State, logger: Logger) -> None:
        self._recorded_tokens = int(state.timestamp.token.value)

    def before_dataloader(self, state: State, logger: Logger) -> None:
        self._asked_at = time.perf_counter()

    def after_dataloader(self, state: State, logger: Logger) -> None:
        self._waiting_seconds += time.perf_counter() - self._asked_at

    def batch_end(self, state: State, logger: Logger) -> None:
        self._training_seconds += time.perf_counter() - self._asked_at
        self._losses.append(state.total_loss_dict["loss/train/total"])
        if interval_ended(self.stage, state, self.stage.recipe.logging.interval):
            self._record_training(state, logger)

    def eval_end(self, state: State, logger: Logger) -> None:
        metrics = {
            name: metric.compute().item() for name, metric in state.eval_metrics["eval"].items()
        }
        self._write(
            logger,
            {
                **self._header("eval", stage_clock(self.stage, state.timestamp)),
                "eval_loss": metrics["loss"],
                "eval_accuracy": metrics["accuracy"],
            },
        )

    def _record_training(self, state: State, logger: Logger) -> None:
        now = stage_clock(self.stage, state.timestamp)
        recipe = self.stage.recipe
        speed = (now.tokens - self._recorded_tokens) / self._training_seconds
        self._write(
            logger,
            {
                **self._header("train", now),
                "loss": sum(self._losses) / len(self._losses),
                "lr": state.optimizers[0].param_groups[0]["lr"],
                "batch_size": recipe.batch.size,
                "tokens_per_second": round(speed, 1),
                "data_wait": round(self._waiting_seconds / self._training_seconds, 4),
            },
        )
        self._recorded_tokens = now.tokens
        self._losses.clear()
        self._training_seconds = self._waiting_seconds = 0.0

    def _header(self, event: str, clock: StageClock) -> dict[str, Any]:
        return {
            "event": event,
            "stage": self.stage.name,
            "step": clock.updates,
            "tokens": clock.tokens,
            "stage_tokens": clock.tokens,
        }

    def _write(self, logger: Logger, record: dict[str, Any]) -> None:
        numbers = {key: value for key, value in record.items() if isinstance(value, int | float)}
        logger.log_metrics(numbers)
        if dist.get_global_rank() == 0:
            with self.folder.metrics.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(self._console_line(record), flush=True)

    def _console_line(self, record: dict[str, Any]) -> str:
        done = f"{record['stage']} {record['step']:>6}/~{self.stage.nominal_updates}"
        tokens = f"{record['tokens']:>12,} tok"
        if record["event"] == "eval":
            result = f"eval loss {record['eval_loss']:.4f}  accuracy {record['eval_accuracy']:.1%}"
            return f"{done} {tokens}  {result}"
        return (
            f"{done} {tokens}  loss {record['loss']:.4f}  lr {record['lr']:.2e}  "
            f"{record['tokens_per_second']:,.0f} tok/s  waiting {record['data_wait']:.1%}"
        )
