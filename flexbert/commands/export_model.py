"""``flexbert export``: a checkpoint to a Hugging Face folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command, add_plugins


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or a run's folder")
    parser.add_argument("folder", type=Path, help="to be made")
    parser.add_argument(
        "--sentence-transformers",
        choices=["cls", "mean", "max"],
        metavar="POOLING",
        help="also for sentence-transformers, pooling by cls, mean or max",
    )
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    from flexbert.huggingface.export import export_checkpoint

    pooling = arguments.sentence_transformers
    print(*export_checkpoint(arguments.checkpoint, arguments.folder, pooling), sep="\n")
    return 0


COMMAND = Command(
    name="export",
    help="write a checkpoint as a Hugging Face folder",
    add_arguments=add_arguments,
    run=run,
)
