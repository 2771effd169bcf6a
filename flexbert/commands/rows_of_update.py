"""``flexbert rows``: what an update read."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command, add_json, add_plugins, print_found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, help="for instance runs/quickstart")
    parser.add_argument("step", type=int, help="number of the update, from 1 on")
    parser.add_argument(
        "--characters",
        type=int,
        default=80,
        metavar="N",
        help="to show of each text (default: %(default)s); JSON has it whole",
    )
    add_json(parser, "it")
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    from flexbert.provenance.step_rows import step_rows, step_rows_text

    result = step_rows(arguments.run_folder, arguments.step)
    return print_found(arguments, result, lambda found: step_rows_text(found, arguments.characters))


COMMAND = Command(
    name="rows",
    help="documents and text that a step was trained on",
    add_arguments=add_arguments,
    run=run,
)
