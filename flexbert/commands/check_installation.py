"""``flexbert doctor``: what is installed."""

from __future__ import annotations

import argparse

from flexbert.commands.command import Command, add_json, print_found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser, "the findings")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.doctor import diagnose, diagnosis_text

    return print_found(arguments, diagnose(), diagnosis_text)


COMMAND = Command(
    name="doctor",
    help="what is installed, and what will be used",
    add_arguments=add_arguments,
    run=run,
)
