"""``flexbert publish``: the checkpoints of a run as revisions of a repository on the Hub."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from flexbert.commands.command import Command, add_plugins
from flexbert.config.duration import Duration
from flexbert.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, help="for instance runs/quickstart")
    parser.add_argument(
        "repository", metavar="OWNER/NAME", help="on the Hugging Face Hub; made where it is missing"
    )
    parser.add_argument(
        "--every",
        type=_interval,
        metavar="INTERVAL",
        help="the first checkpoint at or after each multiple, as 1000ba or 10_000_000_000tok "
        "(default: all checkpoints)",
    )
    parser.add_argument(
        "--stage",
        dest="stages",
        action="append",
        default=[],
        metavar="NAME",
        help="checkpoints of this stage alone; may be repeated",
    )
    parser.add_argument(
        "--main",
        type=Path,
        metavar="CHECKPOINT",
        help="what main is made from, for instance an average (default: the run's last checkpoint)",
    )
    parser.add_argument("--private", action="store_true", help="make a private repository")
    parser.add_argument(
        "--license", metavar="ID", help="for the model cards, as the Hub writes it: apache-2.0"
    )
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help="Markdown of yours, put first in each model card"
    )
    parser.add_argument(
        "--card-alone", action="store_true", help="the file of --card is the whole model card"
    )
    parser.add_argument(
        "--replace", action="store_true", help="write over revisions that hold something else"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="upload nothing; print what would be, and the card"
    )
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    from flexbert.publish.model_card import OwnText, check_own_text
    from flexbert.publish.publishing import PublishRequest, publish

    if arguments.card_alone and (arguments.card is None or arguments.license):
        raise UserError("--card-alone goes with --card, and without --license")
    own = OwnText(
        license=arguments.license,
        text="" if arguments.card is None else _text(arguments.card),
        is_alone=arguments.card_alone,
    )
    check_own_text(own, str(arguments.card))
    request = PublishRequest(
        run_folder=arguments.run_folder,
        repository=arguments.repository,
        every=arguments.every,
        stages=arguments.stages,
        main=arguments.main,
        private=arguments.private,
        replace=arguments.replace,
        dry_run=arguments.dry_run,
        own=own,
    )
    publish(request, partial(print, flush=True))
    return 0


def _interval(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _text(path: Path) -> str:
    from flexbert.files.regular import read_regular

    try:
        return read_regular(path).decode()
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "no text in UTF-8"
        raise UserError(f"--card {path}: cannot be read ({problem})") from None


COMMAND = Command(
    name="publish",
    help="upload a run's checkpoints as revisions of a repository on the Hugging Face Hub",
    add_arguments=add_arguments,
    run=run,
)
