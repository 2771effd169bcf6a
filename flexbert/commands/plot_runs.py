"""``flexbert plot``: a picture of one run or of several."""

from __future__ import annotations

import argparse

from flexbert.commands.command import Command, add_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, "report.png in the run's folder, comparison.png here for several")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.report.reports import draw_runs

    print(draw_runs(arguments.run_folders, axis=arguments.axis, path=arguments.out))
    return 0


COMMAND = Command(
    name="plot",
    help="draw report.png of a run, or several runs in one picture",
    add_arguments=add_arguments,
    run=run,
)
