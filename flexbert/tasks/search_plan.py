"""What a search will do and cost, before any fit is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from flexbert.nn.encoder import Encoder
from flexbert.nn.flops import encoder_cost
from flexbert.plan.remarks import clock_text
from flexbert.plan.stage_cost import Hardware
from flexbert.tasks.designs import DESIGNS, Design, Space
from flexbert.tasks.encoded_split import EncodedSplit
from flexbert.tasks.fine_tuning import course_of
from flexbert.tasks.models import TaskModel
from flexbert.tasks.results import VALIDATION, Mode
from flexbert.tasks.suite import Suite, Task
from flexbert.tasks.task_data import TRAIN, EncodedTask, TaskExamples, encode_task

# A new head and an encoder that has to change learn little in fewer.
FEW_UPDATES = 100


@dataclass(frozen=True, kw_only=True)
class TaskCost:
    """What a task's search costs for one model, if no fit stops early.

    Attributes:
        fits: of any share of the updates.
        updates: of the shortest and of the longest fit with all of its updates; none of a probe.
        tokens: that are trained on in all of them.
        flops: of training and of predicting the validation rows.
        rows: of each split.
        mean_tokens: of a training example.
        cut: training examples that are longer than ``max_length``.
    """

    fits: int
    updates: tuple[int, int] | None
    tokens: int
    flops: float
    rows: Mapping[str, int]
    mean_tokens: float
    cut: int


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """
    Attributes:
        costs: of each task, for one model.
        models: how many there are.
        finished: fits that the folder has already.
        hours: of one device for all fits that are left, on ``hardware``.
        others: what other designs would come to, by name: fits, and their share of the updates.
    """

    suite: str
    design: str
    costs: Mapping[str, TaskCost]
    models: int
    finished: int
    hardware: Hardware
    hours: float
    others: Mapping[str, tuple[int, float]]

    @property
    def fits(self) -> int:
        """Of all models."""
        return self.models * sum(cost.fits for cost in self.costs.values())

    @property
    def tokens(self) -> int:
        """That all models train on."""
        return self.models * sum(cost.tokens for cost in self.costs.values())


def plan_search(
    suite: Suite,
    models: Sequence[TaskModel],
    design: str,
    examples: Mapping[str, TaskExamples],
    hardware: Hardware,
    finished: int,
    mode: Mode = "fine_tune",
) -> SearchPlan:
    """Count a search's fits, tokens and hours; the first model's tokens stand for all.

    Args:
        finished: fits that need not be made again.

    Raises:
        UserError: if a model does not go with a task.
    """
    read = models[0].read()
    with torch.device("meta"):
        cost = encoder_cost(Encoder(read.config), read.config)
    costs = {}
    for name, task in suite.tasks.items():
        encoded = encode_task(
            examples[name],
            read.config,
            read.tokenizer,
            max(point.settings.max_length for point in task.points),
            models[0].label,
        )

        def flops(split: EncodedSplit) -> float:
            return cost.flops(np.diff(split.borders), 0.0)

        each = flops(encoded.train), flops(encoded.validation)
        if mode == "frozen":
            costs[name] = _probe_cost(task, encoded, *each)
        else:
            costs[name] = _task_cost(task, DESIGNS[design], encoded, *each)
    total = len(models) * sum(each.flops for each in costs.values())
    fits = len(models) * sum(each.fits for each in costs.values())
    share = 1 - min(finished, fits) / fits
    return SearchPlan(
        suite=suite.name,
        design=design,
        costs=costs,
        models=len(models),
        finished=finished,
        hardware=hardware,
        hours=hardware.hours(1, total) * share,
        others={
            name: _extent(suite, other, len(models))
            for name, other in DESIGNS.items()
            if name != design and mode != "frozen"
        },
    )


def search_plan_text(plan: SearchPlan) -> str:
    """A plan as lines for people."""
    lines = [
        f"{'task':<16}{'train':>10}{'validation':>12}{'tokens each':>13}{'fits':>7}"
        f"{'updates each':>16}{'tokens':>18}"
    ]
    for name, cost in plan.costs.items():
        lines.append(
            f"{name:<16}{cost.rows[TRAIN]:>10,}{cost.rows[VALIDATION]:>12,}"
            f"{cost.mean_tokens:>13.1f}{cost.fits:>7,}{_updates_text(cost):>16}{cost.tokens:>18,}"
        )
        if cost.updates is not None and cost.updates[0] < FEW_UPDATES:
            lines.append(
                f"  note: {cost.updates[0]:,} updates are few to learn {name} from; more epochs or "
                "a smaller batch_size make more"
            )
        if cost.cut:
            lines.append(f"  note: {cost.cut:,} of {name}'s training texts are cut at max_length")
    done = f", {plan.finished:,} of them finished" if plan.finished else ""
    each = "" if plan.models == 1 else f" for {plan.models} models"
    lines += [
        "",
        f"{plan.fits:,} fits{each}{done}, {plan.tokens:,} tokens if none stops early",
        f"{clock_text(plan.hours)} on one {plan.hardware.unit}, at {plan.hardware.rate_text}",
    ]
    whole = sum(plan.models * cost.fits for cost in plan.costs.values())
    for name, (fits, updates) in plan.others.items():
        if updates >= whole:
            continue
        lines.append(
            f"--design {name}: {fits:,} fits, {updates / max(whole, 1):.0%} of these updates "
            f"({DESIGNS[name].summary})"
        )
    return "\n".join(lines)


def _updates_text(cost: TaskCost) -> str:
    if cost.updates is None:
        return "none"
    least, most = cost.updates
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _space(task: Task) -> Space:
    return Space(len(task.points), task.settings.seeds, task.settings.metric)


def _extent(suite: Suite, design: Design, models: int) -> tuple[int, float]:
    """Fits, and fits times their shares of the updates."""
    rungs = [rung for task in suite.tasks.values() for rung in design.rungs(_space(task))]
    fits = sum(rung.fits for rung in rungs)
    return models * fits, models * sum(rung.fits * rung.budget for rung in rungs)


def _task_cost(
    task: Task, design: Design, encoded: EncodedTask, train_flops: float, validation_flops: float
) -> TaskCost:
    """
    Args:
        train_flops, validation_flops: of both passes over the rows once.
    """
    train = encoded.train
    epoch_tokens = len(train.tokens)
    updates, epochs, evaluations = [], [], []
    for point in task.points:
        course = course_of(point.settings, len(train), 0)
        updates.append(course.updates)
        epochs.append(course.updates / course.per_epoch)
        evaluations.append(len(course.evaluated))
    rungs = design.rungs(_space(task))
    share = sum(rung.fits * rung.budget for rung in rungs)
    mean_epochs = float(np.mean(epochs))
    forward = validation_flops / 3 * float(np.mean(evaluations))
    return TaskCost(
        fits=sum(rung.fits for rung in rungs),
        updates=(min(updates), max(updates)),
        tokens=round(share * mean_epochs * epoch_tokens),
        flops=share * (mean_epochs * train_flops + forward),
        rows={name: len(split) for name, split in encoded.splits.items()},
        mean_tokens=epoch_tokens / len(train),
        cut=train.cut,
    )


def _probe_cost(
    task: Task, encoded: EncodedTask, train_flops: float, validation_flops: float
) -> TaskCost:
    """As :func:`_task_cost`: a probe of each seed, which reads every text once."""
    train, seeds = encoded.train, len(task.settings.seeds)
    most = task.settings.probe.examples or len(train)
    share = min(1.0, most / len(train))
    return TaskCost(
        fits=seeds,
        updates=None,
        tokens=round(seeds * share * len(train.tokens)),
        flops=seeds * (share * train_flops + validation_flops) / 3,
        rows={name: len(split) for name, split in encoded.splits.items()},
        mean_tokens=len(train.tokens) / len(train),
        cut=train.cut,
    )
