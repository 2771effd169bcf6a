"""``flexbert seen``: the updates that used a document."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command, add_json, add_plugins, print_found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", type=Path, help="folder of a corpus")
    parser.add_argument("document", type=int, help="number of a document of its training split")
    parser.add_argument(
        "--run", dest="run_folder", type=Path, required=True, metavar="RUN_FOLDER", help="runs/NAME"
    )
    add_json(parser, "it")
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    from flexbert.provenance.seen import seen, seen_text

    found = seen(arguments.run_folder, arguments.corpus, arguments.document)
    return print_found(arguments, found, seen_text)


COMMAND = Command(
    name="seen",
    help="where a run has used a document, or that it has not",
    add_arguments=add_arguments,
    run=run,
)
