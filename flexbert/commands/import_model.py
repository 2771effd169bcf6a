"""``flexbert import``: a Hugging Face folder to a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a folder, or a name on the Hugging Face Hub")
    parser.add_argument("checkpoint", type=Path, help="to be written")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.huggingface.importing import import_folder

    print(*import_folder(arguments.folder, arguments.checkpoint), sep="\n")
    return 0


COMMAND = Command(
    name="import",
    help="read a Hugging Face folder into a checkpoint",
    add_arguments=add_arguments,
    run=run,
)
