"""What a sweep over a suite will do and cost, before any fit is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from flexbert.plan.remarks import clock_text
from flexbert.sweeps.suite_points import SuitePoint
from flexbert.tasks.evaluation import plan
from flexbert.tasks.search_plan import SearchPlan
from flexbert.text_tables import TextTable, plain_table


@dataclass(frozen=True, kw_only=True)
class SuiteSweepPlan:
    """
    Attributes:
        points: by label; fits that two points have in common are counted with each.
    """

    points: Mapping[str, SearchPlan]


def plan_points(points: Sequence[SuitePoint], device: torch.device) -> SuiteSweepPlan:
    """The plan of every point. Raises: UserError if a model does not go with a task."""
    return SuiteSweepPlan(
        points={each.point.label: plan(each.search, "full", device) for each in points}
    )


def suite_plan_text(found: SuiteSweepPlan) -> str:
    """The plan as a table and its sums, for people."""
    plans = found.points.values()
    hardware = next(iter(plans)).hardware
    rows = tuple(
        (label, f"{one.fits:,}", f"{one.finished:,}", f"{one.tokens:,}", clock_text(one.hours))
        for label, one in found.points.items()
    )
    sums = (
        "all",
        f"{sum(one.fits for one in plans):,}",
        f"{sum(one.finished for one in plans):,}",
        f"{sum(one.tokens for one in plans):,}",
        clock_text(sum(one.hours for one in plans)),
    )
    header = ("point", "fits", "finished", "tokens", "left")
    table = TextTable(header=(header,), groups=(rows, (sums,)), wraps_labels=True)
    rate = f"on one {hardware.unit}, at {hardware.rate_text}, if no fit stops early"
    return f"{plain_table(table)}\n\n{rate}"
