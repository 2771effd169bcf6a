"""``flexbert report``: a page of one run or of several, for a browser."""

from __future__ import annotations

import argparse

from flexbert.commands.command import Command, add_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, "report.html in the run's folder, comparison.html here for several")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.report.reports import write_page

    print(write_page(arguments.run_folders, axis=arguments.axis, path=arguments.out))
    return 0


COMMAND = Command(
    name="report",
    help="write report.html of a run, or several runs on one page",
    add_arguments=add_arguments,
    run=run,
)
