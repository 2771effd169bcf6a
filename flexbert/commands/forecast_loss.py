"""``flexbert forecast``: a larger run's loss, from a ladder of small ones."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.commands.command import Command, add_json, add_plugins, print_found
from flexbert.errors import UserError

if TYPE_CHECKING:
    from flexbert.forecast.fitting import Noise
    from flexbert.forecast.rungs import Ladder
    from flexbert.forecast.target import Forecast, Target


@dataclass(frozen=True, kw_only=True)
class LawFound:
    """What ``flexbert forecast --json`` prints.

    Attributes:
        forecast: None where no target was given.
    """

    law: str
    formula: str
    why: str
    constants: dict[str, float]
    noise: Noise
    left_out: tuple[str, ...]
    forecast: Forecast | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ladder",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="finished runs, or the folders of sweeps: the rungs",
    )
    parser.add_argument(
        "--target",
        type=Path,
        metavar="PATH",
        help="what to forecast: a recipe, or a finished run, whose loss is compared",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the fit, for flexbert plan --forecast"
    )
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="draw rungs, law and forecast; or losses over rates",
    )
    parser.add_argument(
        "--rates",
        action="store_true",
        help="in place of a forecast the best learning rate by width, and the rule it follows",
    )
    add_plugins(parser)
    add_json(parser, "law and forecast, or the rules")


def run(arguments: argparse.Namespace) -> int:
    from flexbert.forecast.forecast_file import fit_ladder, write_forecast
    from flexbert.forecast.forecast_picture import draw_forecast
    from flexbert.forecast.forecast_text import forecast_text, ladder_text
    from flexbert.forecast.rungs import read_ladder
    from flexbert.forecast.target import forecast

    _check_options(arguments)
    if arguments.rates:
        return _rates(arguments, read_ladder(arguments.ladder))
    target = None if arguments.target is None else _target(arguments.target)
    found = fit_ladder(read_ladder(arguments.ladder))
    expected = None if target is None else forecast(found, target)
    if arguments.out is not None:
        write_forecast(found, arguments.out)
    if arguments.picture is not None:
        draw_forecast(found, arguments.picture, target, expected)
    fitted = found.fitted
    printed = LawFound(
        law=fitted.law.name,
        formula=fitted.law.formula,
        why=found.why,
        constants=fitted.constants,
        noise=fitted.noise,
        left_out=found.ladder.left_out,
        forecast=expected,
    )

    def as_text(_: LawFound) -> str:
        parts = [ladder_text(found), *([forecast_text(expected)] if expected else [])]
        return "\n\n".join(parts)

    return print_found(arguments, printed, as_text)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises UserError for what would be refused after the rungs are read and fitted."""
    from flexbert.files.durable import check_writable
    from flexbert.pictures import check_picture

    for option in ("target", "out") if arguments.rates else ():
        if getattr(arguments, option) is not None:
            raise UserError(f"--{option}: goes with a forecast, and not with --rates")
    if arguments.out is not None:
        check_writable(arguments.out)
    if arguments.picture is not None:
        check_picture(arguments.picture)


def _rates(arguments: argparse.Namespace, ladder: Ladder) -> int:
    from flexbert.forecast.learning_rates import RatesFound, rules_text, transfer_rules
    from flexbert.forecast.rates_picture import draw_rates

    found = RatesFound(rules=tuple(transfer_rules(ladder.rungs)), left_out=ladder.left_out)
    if arguments.picture is not None:
        draw_rates(found.rules, arguments.picture)
    return print_found(arguments, found, rules_text)


def _target(path: Path) -> Target:
    from flexbert.forecast.target import target_of_plan, target_of_run
    from flexbert.plan.make_plan import make_plan
    from flexbert.recipes import load_recipe

    if path.is_dir():
        return target_of_run(path)
    loaded = load_recipe(path, [], planning=True)
    return target_of_plan(loaded, make_plan(loaded))


COMMAND = Command(
    name="forecast",
    help="a larger run's loss from a ladder of small ones, with an interval",
    add_arguments=add_arguments,
    run=run,
)
