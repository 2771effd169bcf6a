"""``flexbert plan``: what a recipe does and costs."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import math
from collections.abc import Iterator
from pathlib import Path

from flexbert.commands.command import Command, add_json, add_recipe, print_found
from flexbert.errors import UserError
from flexbert.recipes import load_recipe


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
        "--processes", type=int, default=1, help="processes to plan for (default 1)"
    )
    parser.add_argument(
        "--mfu", type=float, default=0.4, help="model FLOPs utilisation to expect (default 0.4)"
    )
    parser.add_argument(
        "--peak-tflops",
        type=float,
        default=989.0,
        metavar="N",
        help="of one GPU (default 989, an H100's in bfloat16)",
    )
    parser.add_argument(
        "--gpu-memory",
        type=float,
        default=80.0,
        metavar="GIB",
        help="of one GPU, for micro-batches that the recipe leaves open (default 80, an H100's)",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the recipe's curves")
    add_json(parser, "the plan")


@without_collecting()
def run(arguments: argparse.Namespace) -> int:
    from flexbert.plan.make_plan import make_plan
    from flexbert.plan.plan_picture import draw_plan
    from flexbert.plan.plan_text import plan_text
    from flexbert.plan.stage_cost import Hardware

    limits = {"processes": math.inf, "mfu": 1, "peak_tflops": math.inf, "gpu_memory": math.inf}
    for option, most in limits.items():
        given = getattr(arguments, option)
        if not (0 < given <= most and math.isfinite(given)):
            wanted = "positive and finite" if most == math.inf else f"above 0 and at most {most}"
            raise UserError(f"--{option.replace('_', '-')}: must be {wanted}, got {given:g}")
    loaded = load_recipe(arguments.recipe, arguments.overrides, planning=True)
    hardware = Hardware(
        mfu=arguments.mfu,
        peak_tflops=arguments.peak_tflops,
        gpu_memory=arguments.gpu_memory,
    )
    planned = make_plan(loaded, arguments.processes, hardware)
    if arguments.picture is not None:
        draw_plan(loaded, arguments.picture)
    return print_found(arguments, planned, plan_text)


COMMAND = Command(
    name="plan",
    help="check and describe a recipe without training",
    add_arguments=add_arguments,
    run=run,
)
