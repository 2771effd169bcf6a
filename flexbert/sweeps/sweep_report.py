"""What a sweep leaves in its folder: its table as Markdown and JSON, and two pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flexbert.config.encode import encode
from flexbert.errors import UserError
from flexbert.files.durable import make_folder, write_text
from flexbert.files.file_lock import file_lock
from flexbert.report.recorded_run import read_run
from flexbert.sweeps.condition_notes import held_conditions
from flexbert.sweeps.curve_picture import draw_sweep_curves
from flexbert.sweeps.evaluated_tokens import incomparable_cells
from flexbert.sweeps.outcomes import RunOutcome, TrainedRun, read_outcome, unfinished_state
from flexbert.sweeps.pareto_picture import draw_pareto
from flexbert.sweeps.run_groups import RunGroups
from flexbert.sweeps.running import is_finished
from flexbert.sweeps.runs import SweepRun
from flexbert.sweeps.sweep_curves import DrawnRun
from flexbert.sweeps.sweep_file import Sweep
from flexbert.sweeps.sweep_table import SweepTable, sweep_table
from flexbert.sweeps.sweep_text import sweep_markdown

MARKDOWN, JSON, CURVES, PARETO = "table.md", "table.json", "curves.png", "pareto.png"
_LOCK = ".table.lock"


def report_sweep(sweep: Sweep, runs: Sequence[SweepRun], folder: Path) -> SweepTable:
    """Write the table and the pictures of what is there so far.

    Processes that share a sweep write one after another, each from what is finished by then: so the
    last one leaves the table of all.

    Raises:
        UserError: if a finished run lacks a measure, or a file cannot be written.
    """
    make_folder(folder)
    with file_lock(folder / _LOCK):
        finished = [run for run in runs if is_finished(run)]
        outcomes = [read_outcome(run, sweep.measures) for run in finished]
        unfinished = {
            (run.point.label, run.seed): unfinished_state(run)
            for run in runs
            if run not in finished
        }
        conditions = held_conditions(sweep, runs, finished)
        incomparable = incomparable_cells(sweep, outcomes)
        table = sweep_table(sweep, outcomes, unfinished, conditions, incomparable)
        write_table(table, runs, outcomes, folder)
    return table


def groups_table(groups: RunGroups) -> tuple[SweepTable, list[RunOutcome]]:
    """The table of any runs, by what they have recorded last, finished or not.

    Raises:
        UserError: if a run lacks a measure.
    """
    outcomes = [read_outcome(run, groups.measures) for run in groups.runs]
    table = sweep_table(groups, outcomes, incomparable=incomparable_cells(groups, outcomes))
    return replace(table, total=None, notes=(*table.notes, *groups.notes)), outcomes


def write_table(
    table: SweepTable, runs: Sequence[TrainedRun], outcomes: Sequence[RunOutcome], folder: Path
) -> None:
    """Write all four files, the pictures of those runs that have recorded something.

    Raises:
        UserError: if a file cannot be written.
    """
    make_folder(folder)
    write_text(folder / MARKDOWN, sweep_markdown(table))
    write_text(folder / JSON, json.dumps(encode(table), indent=2) + "\n")
    drawn = _drawn(table, runs, outcomes)
    if drawn:
        draw_sweep_curves(table, drawn, folder / CURVES)
        draw_pareto(table, drawn, folder / PARETO)


def _drawn(
    table: SweepTable, runs: Sequence[TrainedRun], outcomes: Sequence[RunOutcome]
) -> list[DrawnRun]:
    first = table.measures[0]
    in_mean = {
        (each.run.point.label, each.run.seed)
        for each in outcomes
        if math.isfinite(each.values[first])
    }
    found = []
    for run in runs:
        try:
            recorded = read_run(run.folder)
        except UserError:
            # Not begun; the table says so.
            continue
        label = run.point.label
        found.append(
            DrawnRun(
                label=label, seed=run.seed, counts=(label, run.seed) in in_mean, recorded=recorded
            )
        )
    return found
