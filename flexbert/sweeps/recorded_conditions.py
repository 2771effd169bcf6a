"""What was held equal between a run that is finished and its reference, from what they recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexbert.errors import UserError
from flexbert.manifest_file import Launch, Manifest
from flexbert.metrics_file import read_metrics
from flexbert.provenance.order_log import OrderLog
from flexbert.sweeps.conditions import (
    EVALUATION,
    ORDER,
    Finding,
    RunLength,
)
from flexbert.sweeps.evaluated_tokens import EvaluatedTokens, other_corpus, other_count
from flexbert.train.run_folder import RunFolder

PROCESSES, DEVICE, SOFTWARE = "processes", "device", "software"

# What runs have recorded of a CPU before its threads were.
_CPU = "cpu"


@dataclass(frozen=True, kw_only=True)
class RecordedConditions:
    """What a run has recorded of its conditions.

    Attributes:
        order: of each of its run segments, in order, with how many rows were passed over; None
            where that cannot be read.
        evaluated: what the last evaluation was over.
    """

    tokens: int
    updates: int
    order: tuple[Any, ...] | None
    evaluated: EvaluatedTokens
    launches: tuple[Launch, ...]

    def length(self, flops_per_token: float) -> RunLength:
        """How long the run was."""
        return RunLength(tokens=self.tokens, updates=self.updates, flops_per_token=flops_per_token)


def read_conditions(folder: Path) -> RecordedConditions:
    """Read them from a run's folder.

    Raises:
        UserError: if it has recorded nothing.
    """
    records = read_metrics(folder)
    manifest = Manifest.read(folder)
    return RecordedConditions(
        tokens=records[-1].tokens,
        updates=records[-1].step,
        order=_order(folder),
        evaluated=EvaluatedTokens.of(records, manifest),
        launches=manifest.launches,
    )


def compare_recorded(own: RecordedConditions, reference: RecordedConditions) -> Iterator[Finding]:
    """Every condition but their lengths that both have recorded, held or not."""
    if own.order is None or reference.order is None:
        yield Finding(condition=ORDER, problem="which rows were read cannot be looked up")
    else:
        same = own.order == reference.order
        yield Finding(condition=ORDER, problem=None if same else "other rows were read")
    evaluated = other_corpus(own.evaluated, reference.evaluated) or other_count(
        own.evaluated, reference.evaluated
    )
    yield Finding(condition=EVALUATION, problem=evaluated and f"evaluated {evaluated}")
    processes = [{str(each.processes) for each in r.launches} for r in (own, reference)]
    devices = _devices(own, reference)
    for condition, unit, values in (
        (PROCESSES, " processes", processes),
        (DEVICE, "", devices),
    ):
        ours, theirs = (", ".join(sorted(each)) or "unknown" for each in values)
        problem = None if ours == theirs else f"ran on {ours}{unit}, not {theirs}"
        yield Finding(condition=condition, problem=problem)
    yield Finding(condition=SOFTWARE, problem=_software(own.launches, reference.launches))


def _devices(*both: RecordedConditions) -> list[set[str]]:
    """Of each run; without a CPU's threads where one of them has not recorded any."""
    devices = [{launch.device for launch in each.launches} for each in both]
    if any(_CPU in each for each in devices):
        return [{name.partition(",")[0] for name in each} for each in devices]
    return devices


def _order(folder: Path) -> tuple[Any, ...] | None:
    try:
        read = OrderLog(RunFolder(folder).orders).segments()
    except UserError:
        return None
    return tuple((each.stage, each.generation, each.order, each.skipped_rows) for each in read)


def _software(own: tuple[Launch, ...], reference: tuple[Launch, ...]) -> str | None:
    """The packages that runs had in other versions."""
    ours, theirs = (_versions(launches) for launches in (own, reference))
    changed = [name for name in {**theirs, **ours} if ours.get(name) != theirs.get(name)]
    if not changed:
        return None
    return "other versions of " + ", ".join(changed)


def _versions(launches: tuple[Launch, ...]) -> dict[str, set[str | None]]:
    versions: dict[str, set[str | None]] = {}
    for launch in launches:
        named = {"flexbert": launch.flexbert, "python": launch.python, **launch.packages}
        for name, version in named.items():
            versions.setdefault(name, set()).add(version)
    return versions
