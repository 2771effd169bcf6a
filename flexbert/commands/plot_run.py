"""``flexbert plot``: a picture of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, help="for instance runs/quickstart")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.report.reports import plot

    print(plot(arguments.run_folder))
    return 0


COMMAND = Command(name="plot", help="draw a run's report.png", add_arguments=add_arguments, run=run)
