"""``flexbert launch``: a process for each device, as ``composer`` starts them."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexbert.commands.command import Command

# As composer calls them, so that a command line can be moved from one to the other.
_OPTIONS = {
    "--world_size": "processes of all nodes together",
    "--node_rank": "this node's number, from 0",
    "--base_rank": "the first rank on this node",
    "--master_addr": "the first node's address",
    "--master_port": "a port of the first node that is free",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n", "--nproc", metavar="N", help="processes on this node; one for each GPU unless given"
    )
    for option, meaning in _OPTIONS.items():
        parser.add_argument(option, metavar=option.rpartition("_")[2].upper(), help=meaning)
    parser.add_argument("script", type=Path, help="main.py")
    parser.add_argument("arguments", nargs="*", default=[], help="what main.py takes")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.train.processes.launching import launch

    options = []
    for name in ("nproc", *(option.removeprefix("--") for option in _OPTIONS)):
        value = getattr(arguments, name)
        options += [] if value is None else [f"--{name}", value]
    return launch([*options, str(arguments.script), *arguments.arguments])


COMMAND = Command(
    name="launch",
    help="start main.py on each device, as composer does, and pass signals on to it",
    add_arguments=add_arguments,
    run=run,
)
