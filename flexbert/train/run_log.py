"""One record per interval: to ``metrics.jsonl``, the console, and Composer's loggers."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch
from composer import Callback, Logger, State
from composer.utils import dist
from torch import Tensor

from flexbert.config.tree import flatten
from flexbert.data.sampling.mixture import Mixture
from flexbert.train.callbacks import Gradients
from flexbert.train.console.lines import Interval, Score
from flexbert.train.console.stage_display import StageDisplay
from flexbert.train.health.update_guard import UpdateGuard
from flexbert.train.masked_metrics import MaskedMean
from flexbert.train.run_folder import RunFolder
from flexbert.train.speed_monitor import SpeedMonitor, TrainingCost
from flexbert.train.stage_run import StageRun

# A share of the training time: what a loader that keeps up stays well below.
TOO_LONG_WAITING = 0.05


class RunLog(Callback):
    """Records loss, learning rate, batch size and speed while training, and every evaluation.

    ``loss`` is the mean over the updates since the last record, each a mean over the masked tokens
    of its global batch; those that were skipped do not count, and of nothing else it is null.
    ``skipped_updates`` counts them over the run. ``lr`` and ``weight_decay`` are those of the
    optimizer's group with most parameters in the last update; ``groups`` has every group's.
    ``grad_norm`` (before clipping) and ``update_rms``, the root mean square of what was added to
    the weights, are the last update's. ``time`` is when a record was made, in UTC; ``seconds`` is
    how long the run had trained by then, earlier launches included and evaluations left out.
    What training cost comes from :class:`SpeedMonitor`.
    """

    def __init__(
        self,
        run: StageRun,
        folder: RunFolder,
        mixture: Mixture,
        gradients: Gradients,
        speed_monitor: SpeedMonitor,
        guard: UpdateGuard,
        display: StageDisplay,
    ) -> None:
        self.run = run
        self.folder = folder
        self.mixture = mixture
        self.gradients = gradients
        self.speed_monitor = speed_monitor
        self.guard = guard
        self.display = display
        self._losses: list[float] = []
        self._told_of_peak = False

    def batch_end(self, state: State, logger: Logger) -> None:
        if not self.guard.is_skipping:
            self._losses.append(state.total_loss_dict["loss/train/total"])
        if self.run.completed(self.run.recipe.logging.interval, state):
            self._record_training(state, logger)

    def eval_after_all(self, state: State, logger: Logger) -> None:
        sums = {
            source: {name: _summed(cast(MaskedMean, m)) for name, m in metrics.items()}
            for source, metrics in state.eval_metrics.items()
        }
        whole, scores = _score(*sums.values()), {name: _score(s) for name, s in sums.items()}
        record = {
            **self._header("eval", state),
            "eval_loss": whole.loss,
            "eval_accuracy": whole.accuracy,
            "eval_masked_tokens": sum(source["loss"][1] for source in sums.values()),
        }
        if len(scores) > 1:
            record["eval_losses"] = {source: score.loss for source, score in scores.items()}
            record["eval_accuracies"] = {source: score.accuracy for source, score in scores.items()}
        self._write(logger, record)
        self.display.show_evaluation(state, whole, scores)

    def _record_training(self, state: State, logger: Logger) -> None:
        before, now = self.run.clock_before(state), self.run.clock(state.timestamp)
        stage = self.run.stage
        cost = self.speed_monitor.take(state)
        loss = sum(self._losses) / len(self._losses) if self._losses else None
        hyperparameters = self._hyperparameters(state)
        self._write(
            logger,
            {
                **self._header("train", state),
                "loss": loss,
                "skipped_updates": self.guard.skipped,
                **hyperparameters,
                "mask_rate": stage.mask_rate(before.tokens, before.updates),
                "batch_size": stage.batches.size(before.updates),
                **_numbers(self.gradients.measured),
                **asdict(cost),
                "epochs": self._epochs(now.tokens),
            },
        )
        interval = Interval(
            loss=loss,
            lr=hyperparameters["lr"],
            tokens_per_second=cost.tokens_per_second,
            mfu=cost.mfu,
        )
        self.display.show_training(state, interval)
        self._warn(cost)
        self._losses.clear()

    def _hyperparameters(self, state: State) -> dict[str, Any]:
        """Read off the optimizer: of the group with most parameters, and of every group."""
        (optimizer,) = state.optimizers
        config = self.run.recipe.optimizer
        groups = [
            {
                "parameters": sum(parameter.numel() for parameter in group["params"]),
                "lr": float(group["lr"]),
                "weight_decay": config.group_weight_decay(group),
            }
            for group in optimizer.param_groups
        ]
        main = max(groups, key=lambda group: group["parameters"])
        return {
            "lr": main["lr"],
            "weight_decay": main["weight_decay"],
            "groups": {str(number): group for number, group in enumerate(groups)},
        }

    def _warn(self, cost: TrainingCost) -> None:
        if dist.get_global_rank() != 0:
            return
        if (waited := cost.time_shares["data"]) > TOO_LONG_WAITING:
            print(
                f"warning: {waited:.0%} of the time went by waiting for data; it may need more "
                f"data.num_workers than {self.run.recipe.data.num_workers}, or a faster disk",
                flush=True,
            )
        if cost.mfu > 1 and not self._told_of_peak:
            self._told_of_peak = True
            print(
                "warning: an MFU above 100% is held against too low a peak; if it was measured, "
                "the device was busy then: state logging.peak_tflops",
                flush=True,
            )

    def _epochs(self, tokens: int) -> dict[str, float]:
        """How often each bucket of the mixture was seen, its share of the tokens being kept."""
        shares = self.mixture.describe(tokens)
        return {name: float(f"{share.epochs:.6g}") for name, share in shares.items()}

    def _header(self, event: str, state: State) -> dict[str, Any]:
        return {
            "event": event,
            "stage": self.run.stage.name,
            "step": int(state.timestamp.batch.value),
            "tokens": int(state.timestamp.token.value),
            "stage_tokens": self.run.clock(state.timestamp).tokens,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "seconds": round(state.timestamp.total_wct.total_seconds(), 3),
        }

    def _write(self, logger: Logger, record: dict[str, Any]) -> None:
        logger.log_metrics(_curves(record))
        if dist.get_global_rank() == 0:
            self.folder.append_metrics(record)


def _curves(record: Mapping[str, Any]) -> dict[str, float]:
    """What loggers draw: every number once; of a group what is not as in the largest one."""
    groups = {
        name: {key: v for key, v in group.items() if key in record and v != record[key]}
        for name, group in record.get("groups", {}).items()
    }
    return {
        key: value
        for key, value in flatten({**record, "groups": groups}, separator="/").items()
        if isinstance(value, int | float)
    }


def _numbers(measured: dict[str, Tensor]) -> dict[str, float]:
    """Read off the device at once."""
    values = torch.stack(list(measured.values())).tolist() if measured else []
    return dict(zip(measured, values, strict=True))


def _score(*sums: Mapping[str, tuple[float, int]]) -> Score:
    """Of sums and counts, of one source or of several together."""

    def mean(name: str) -> float | None:
        count = sum(s[name][1] for s in sums)
        return sum(s[name][0] for s in sums) / count if count else None

    return Score(loss=mean("loss"), accuracy=mean("accuracy"))


def _summed(metric: MaskedMean) -> tuple[float, int]:
    """Sum and count of a mean over masked tokens, over all processes."""
    total, count = metric.total.clone(), metric.count.clone()
    dist.all_reduce(total)
    dist.all_reduce(count)
    return total.item(), int(count.item())
