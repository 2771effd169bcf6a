"""``flexbert plan``: what a recipe does and costs."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flexbert.commands.command import Command, add_json, add_recipe, print_found
from flexbert.commands.hardware_options import add_hardware, check_hardware, chosen_hardware

if TYPE_CHECKING:
    from flexbert.config.recipe_files import LoadedRecipe
    from flexbert.plan.plan import Plan

_MADE = {"frozen": ("linear probe", "linear probes"), "fine_tune": ("fit", "fits")}


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Inside, Python does not look for garbage, nor when it ends among what is there by then.

    A plan imports far more objects than it makes, none of them garbage: looking was a third of its
    time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        atexit.register(gc.freeze)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument(
        "--processes",
        "--gpus",
        type=int,
        default=1,
        metavar="N",
        help="processes to plan for, each with a GPU (default 1)",
    )
    add_hardware(parser)
    parser.add_argument(
        "--gpu-memory",
        type=float,
        metavar="GIB",
        help="of one GPU, for micro-batches that the recipe leaves open, in place of the device's",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the recipe's curves")
    parser.add_argument(
        "--forecast",
        type=Path,
        metavar="FILE",
        help="also forecast the loss, from what flexbert forecast --out has written",
    )
    add_json(parser, "the plan")


@without_collecting()
def run(arguments: argparse.Namespace) -> int:
    from flexbert.plan.make_plan import make_plan
    from flexbert.plan.plan_picture import draw_plan
    from flexbert.plan.plan_text import plan_text
    from flexbert.recipes import load_recipe

    check_hardware(arguments)
    loaded = load_recipe(arguments.recipe, arguments.overrides, planning=True)
    hardware = chosen_hardware(arguments, loaded.first.precision)
    planned = make_plan(loaded, arguments.processes, hardware)
    planned = replace(planned, notes=(*planned.notes, *_tasks_notes(loaded)))
    if arguments.forecast is not None:
        planned = replace(
            planned, notes=(*planned.notes, _forecast(arguments.forecast, loaded, planned))
        )
    if arguments.picture is not None:
        draw_plan(loaded, arguments.picture)
    return print_found(arguments, planned, plan_text)


def _forecast(file: Path, loaded: LoadedRecipe, planned: Plan) -> str:
    """The loss that a ladder of small runs lets expect, in words."""
    from flexbert.forecast.forecast_file import read_forecast
    from flexbert.forecast.forecast_text import forecast_text
    from flexbert.forecast.target import forecast, target_of_plan

    return forecast_text(forecast(read_forecast(file), target_of_plan(loaded, planned)))


def _tasks_notes(loaded: LoadedRecipe) -> Iterator[str]:
    """What checkpoints will be tried on, once the suite and all of its rows are read."""
    recipe = loaded.first
    config = recipe.evaluation.suite
    if config is None:
        return
    # Both take a second to import.
    import torch

    from flexbert.schedule.stages import all_stages
    from flexbert.tasks.checkpoint_tasks import CheckpointTasks

    tasks = CheckpointTasks(recipe.run_folder, config, torch.device("cpu"))
    for stage in all_stages(loaded.stages):
        tasks.check_stopping(stage.recipe)
    each = f"every {config.interval}" if config.interval is not None else "each checkpoint"
    names, count = ", ".join(tasks.suite.tasks), tasks.fits_each
    fits = f"{count} {_MADE[config.mode][count != 1]}"
    yield (
        f"tasks       {names} of {config.file}: {fits} at {each} and the end of a stage, while "
        "training waits"
    )


COMMAND = Command(
    name="plan",
    help="check and describe a recipe without training",
    add_arguments=add_arguments,
    run=run,
)
