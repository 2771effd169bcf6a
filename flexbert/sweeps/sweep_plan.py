"""What a sweep will do and cost, run by run, before the first begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flexbert.errors import UserError
from flexbert.files.free_space import bytes_text, free_bytes
from flexbert.metrics_file import read_metrics
from flexbert.plan.remarks import clock_text
from flexbert.plan.run_price import RunPrice, RunPricing
from flexbert.plan.stage_cost import Hardware
from flexbert.sweeps.running import is_finished
from flexbert.sweeps.runs import SweepRun
from flexbert.sweeps.study import Trial
from flexbert.text_tables import TextTable, plain_table

# Seen on two cores, without torch.compile. A run does not record what comes before its manifest,
# most of which is imports.
_START = "some 10 to 20"


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """
    Attributes:
        trained: tokens that it has recorded, of those of its price.
        finished: whether nothing of it is left.
    """

    name: str
    price: RunPrice
    trained: int
    finished: bool

    @property
    def left(self) -> float:
        """The share that is still to be trained."""
        return 0.0 if self.finished else max(0.0, 1 - self.trained / self.price.tokens)


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """
    Attributes:
        runs: those of this machine's part, in their order.
        total: runs of the whole sweep.
        tokens, updates, gpu_hours, checkpoint_bytes: of these runs together.
        gpu_hours_left: of what is not trained yet.
        clock_hours: that this takes by the clock, at least, on the GPUs of the runs at once.
        free_bytes: what the disk has room for; None where nobody knows.
        conditions: what is held equal between points and what is not, a line each.
    """

    name: str
    folder: Path
    hardware: Hardware
    runs: tuple[PlannedRun, ...]
    total: int
    tokens: int
    updates: int
    gpu_hours: float
    gpu_hours_left: float
    clock_hours: float
    checkpoint_bytes: int
    free_bytes: int | None
    conditions: tuple[str, ...] = ()


def plan_sweep(
    name: str,
    folder: Path,
    runs: Sequence[SweepRun],
    hardware: Hardware,
    *,
    total: int | None = None,
    num_processes: int = 1,
    at_once: int = 1,
) -> SweepPlan:
    """Price the runs of a sweep, each of which is so checked against its corpora too.

    Args:
        folder: of the sweep.
        total: runs of the sweep, where ``runs`` are a part of them.

    Raises:
        UserError: naming the first run that cannot be.
    """
    pricing = RunPricing(hardware)
    planned = []
    for number, run in enumerate(runs, 1):
        try:
            price = pricing.price(run.recipe)
        except UserError as error:
            raise UserError(f"run {number} of {len(runs)} ({run.name}): {error}") from None
        finished = is_finished(run)
        trained = price.tokens if finished else _trained(run)
        planned.append(PlannedRun(name=run.name, price=price, trained=trained, finished=finished))
    prices = [each.price for each in planned]
    left = [each.left * each.price.gpu_hours for each in planned]
    # No run is trained by two machines' worth of GPUs.
    shared = sum(left) / at_once
    return SweepPlan(
        name=name,
        folder=folder,
        hardware=hardware,
        runs=tuple(planned),
        total=total or len(runs),
        tokens=sum(price.tokens for price in prices),
        updates=sum(price.updates for price in prices),
        gpu_hours=sum(price.gpu_hours for price in prices),
        gpu_hours_left=sum(left),
        clock_hours=max(shared, *left, 0.0) / num_processes,
        checkpoint_bytes=sum(price.checkpoint_bytes for price in prices),
        free_bytes=free_bytes(folder),
    )


def of_search(plan: SweepPlan, trials: int, drawn: Sequence[Trial]) -> SweepPlan:
    """The plan of what a search draws from, with what it says of the search.

    Args:
        plan: of the edges of what is drawn from.
        trials: that it draws in all.
        drawn: those that are drawn.
    """
    over = sum(trial.state != "open" for trial in drawn)
    note = (
        f"a search of {trials} trials, {over} of them over; the rows above are the edges of what "
        "they are drawn from, which are not trained: they show what a trial costs"
    )
    return replace(plan, conditions=(*plan.conditions, note))


def sweep_plan_text(plan: SweepPlan) -> str:
    """The plan as a table and its sums, for people."""
    unit = plan.hardware.unit
    header = ("run", "tokens", "updates", "parameters", f"{unit}-hours", "disk", "")
    table = TextTable(
        header=(header,),
        groups=(tuple(map(_row, plan.runs)), (_sums(plan),)),
        num_words=1,
        wraps_labels=True,
    )
    conditions = ("", *plan.conditions) if plan.conditions else ()
    return "\n".join([plain_table(table), "", sweep_sums_text(plan), *conditions])


def sweep_sums_text(plan: SweepPlan) -> str:
    """What is left of the sweep, in a few lines."""
    unit, finished = plan.hardware.unit, sum(run.finished for run in plan.runs)
    part = f" of {plan.total}" if len(plan.runs) < plan.total else ""
    starts = f"; each start takes {_START} seconds more" if finished < len(plan.runs) else ""
    lines = [
        f"{plan.name}: {len(plan.runs)}{part} runs, {finished} of them finished; left: "
        f"{_hours(plan.gpu_hours_left)} {unit}-hours at {plan.hardware.rate_text}, "
        f"{clock_text(plan.clock_hours)} by the clock without evaluations{starts}",
        f"checkpoints take up to {bytes_text(plan.checkpoint_bytes)}",
    ]
    unknown = sum(run.price.steps_are != "exact" for run in plan.runs)
    if unknown:
        how = next(run.price.steps_are for run in plan.runs if run.price.steps_are != "exact")
        lines.append(f"updates of {unknown} runs are {how}")
    if plan.free_bytes is not None and plan.checkpoint_bytes > plan.free_bytes:
        lines.append(
            f"warning: {plan.folder} has room for {bytes_text(plan.free_bytes)}; free some, set "
            "checkpoints.keep or a longer checkpoints.interval"
        )
    return "\n".join(lines)


def _row(run: PlannedRun) -> tuple[str, ...]:
    price = run.price
    state = "finished" if run.finished else f"{1 - run.left:.0%}" if run.trained else ""
    return (
        run.name,
        f"{price.tokens:,}",
        f"{price.updates:,}",
        f"{price.parameters:,}",
        _hours(price.gpu_hours),
        bytes_text(price.checkpoint_bytes),
        state,
    )


def _sums(plan: SweepPlan) -> tuple[str, ...]:
    return (
        "all",
        f"{plan.tokens:,}",
        f"{plan.updates:,}",
        "",
        _hours(plan.gpu_hours),
        bytes_text(plan.checkpoint_bytes),
        "",
    )


def _hours(hours: float) -> str:
    """With two digits or more, since those of a small run are worth comparing too."""
    if hours >= 10 or hours == 0:
        return f"{hours:,.0f}"
    return f"{hours:.{max(1, 1 - math.floor(math.log10(hours)))}f}"


def _trained(run: SweepRun) -> int:
    try:
        return read_metrics(run.folder)[-1].tokens
    except UserError:
        return 0
