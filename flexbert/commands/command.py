"""What the commands share: how one is declared, and how it prints what it found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flexbert import __version__
from flexbert.config.encode import encode

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of ``flexbert``.

    Attributes:
        help: what it does, in a line.
        add_arguments: declares its arguments.
        run: does it, and returns the exit code. It imports what it needs when it is called, so that
            no command waits for another's libraries.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """The option to print ``what`` as JSON."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """The option for what components of a run may be from."""
    parser.add_argument(
        "--plugin",
        dest="plugins",
        action="append",
        default=[],
        metavar="NAME",
        help="a file, module or entry point to import for its components; may be repeated",
    )


def add_version(parser: argparse.ArgumentParser) -> None:
    """The option to print which version this is."""
    parser.add_argument("--version", action="version", version=f"FlexBERT {__version__}")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """A recipe and the keys to change in it."""
    parser.add_argument("recipe", type=Path, help="a YAML recipe, for instance yamls/base.yaml")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="recipe keys to change"
    )


def add_runs(parser: argparse.ArgumentParser, default: str) -> None:
    """Runs to show, what over, and where to.

    Args:
        default: where to if nothing is said.
    """
    # Not from the room of reports, which no command waits for that draws nothing.
    axes = ("tokens", "updates", "time")
    parser.add_argument(
        "run_folders",
        nargs="+",
        type=Path,
        metavar="run_folder",
        help="for instance runs/quickstart; several are compared",
    )
    parser.add_argument("--axis", choices=axes, default="tokens", help="what to draw over")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"where to; {default}")


def print_found(arguments: argparse.Namespace, found: T, as_text: Callable[[T], str]) -> int:
    """Print what a command found, as text or as the JSON that was asked for."""
    print(json.dumps(encode(found), indent=2) if arguments.json else as_text(found))
    return 0
