"""``flexbert sweep`` over a suite of tasks: the same models with the suite's keys changed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.commands.command import print_found
from flexbert.commands.fit_processes import fit_devices, share_fits, tell_fit
from flexbert.errors import UserError

if TYPE_CHECKING:
    from flexbert.sweeps.points import SweepPoint
    from flexbert.sweeps.sweep_file import Sweep
    from flexbert.tasks.results import FitRecord
    from flexbert.tasks.search import SearchProgress

_START_AGAIN = "start the same command on each machine that sees the folder: they share the fits"
_HERE = "fits are made on every GPU of this machine, and their hours are measured on it"
# Options for runs that train, and how it is with fits.
_OF_RUNS = {
    "shard": _START_AGAIN,
    "slurm": _START_AGAIN,
    "device": _HERE,
    "tokens_per_second": _HERE,
    "peak_tflops": _HERE,
}


def run_suite_sweep(arguments: argparse.Namespace, sweep: Sweep, folder: Path) -> int:
    """Make the fits of every point, and compare them."""
    from flexbert.devices.chosen import chosen_device
    from flexbert.sweeps.suite_plan import plan_points, suite_plan_text
    from flexbert.sweeps.suite_points import fit_points, same_fits, suite_points
    from flexbert.sweeps.suite_report import report_suite, suite_tables_text
    from flexbert.tasks.results import Mode

    _check(arguments)
    mode: Mode = "frozen" if arguments.frozen else "fine_tune"
    points = suite_points(
        sweep,
        folder,
        mode,
        tasks=None if arguments.tasks is None else arguments.tasks.split(","),
        untrained=arguments.untrained,
    )
    for own, task, first in () if arguments.share else same_fits(points):
        print(
            f"note: {own.point.label}: has the fits of {first} for {task}, which are made once",
            file=sys.stderr,
            flush=True,
        )
    device = chosen_device(arguments.share)
    if arguments.plan:
        return print_found(arguments, plan_points(points, device), suite_plan_text)
    if not arguments.table:
        if not arguments.share:
            several = arguments.at_once if arguments.at_once > 1 else None
            share_fits(fit_devices(None, several))
        fit_points(points, device, _tell)
        if arguments.share:
            return 0
    tables = tuple(report_suite(points, sweep.reference, folder))
    print(f"table and pictures: {folder}", file=sys.stderr)
    return print_found(arguments, tables, suite_tables_text)


def refuse_for_recipes(arguments: argparse.Namespace) -> None:
    """Raises: UserError for an option that means something for suites alone."""
    for option in ("tasks", "frozen", "untrained"):
        if getattr(arguments, option):
            raise UserError(f"--{option} is for suites of tasks, and the base is a recipe")


def _check(arguments: argparse.Namespace) -> None:
    for option, instead in _OF_RUNS.items():
        if getattr(arguments, option):
            raise UserError(
                f"--{option.replace('_', '-')} is for runs that train, and the base is a suite; "
                f"{instead}"
            )
    if arguments.nproc > 1:
        raise UserError(
            "-n is of runs that train, and the base is a suite; --at-once N shares its fits among "
            "N processes"
        )


def _tell(point: SweepPoint, record: FitRecord, progress: SearchProgress) -> None:
    print(f"{point.label}:", file=sys.stderr, end=" ")
    tell_fit(record, progress)
