"""Options for what a plan's hours are for."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from flexbert.devices.gpus import DEFAULT, GPUS
from flexbert.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from flexbert.config.recipe import Precision
    from flexbert.plan.stage_cost import Hardware

_OF_HARDWARE = ("mfu", "peak_tflops", "gpu_memory", "tokens_per_second")
_LIMITS = {"processes": math.inf, **dict.fromkeys(_OF_HARDWARE, math.inf), "mfu": 1}


def add_hardware(parser: argparse.ArgumentParser, *, of_here: bool = False) -> None:
    """Options for the device and its rate.

    Args:
        of_here: whether a machine without a GPU plans for its CPU where nothing is said.
    """
    on_a_cpu = "cpu where there is no GPU, else " if of_here else ""
    parser.add_argument(
        "--device",
        default=None if of_here else DEFAULT,
        metavar="NAME",
        help=f"whose peak and memory count: {', '.join(GPUS)}, or cpu, which is measured here "
        f"(default {on_a_cpu}{DEFAULT})",
    )
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--mfu", type=float, default=0.4, help="model FLOPs utilisation to expect (default 0.4)"
    )
    rate.add_argument(
        "--tokens-per-second",
        type=float,
        metavar="N",
        help="that one GPU was measured to train on, in place of an MFU",
    )
    parser.add_argument(
        "--peak-tflops", type=float, metavar="N", help="of one GPU, in place of the device's"
    )


def check_hardware(arguments: argparse.Namespace) -> None:
    """Raises: UserError naming the first option whose number cannot be."""
    for option, most in _LIMITS.items():
        given = getattr(arguments, option, None)
        if given is not None and not (0 < given <= most and math.isfinite(given)):
            wanted = "positive and finite" if most == math.inf else f"above 0 and at most {most}"
            raise UserError(f"--{option.replace('_', '-')}: must be {wanted}, got {given:g}")


def chosen_hardware(arguments: argparse.Namespace, precision: Precision) -> Hardware:
    """What the options say; a CPU's rate is measured with this precision.

    Raises:
        UserError: if there is no such device.
    """
    from flexbert.plan.stage_cost import CPU, Hardware, cpu_hardware

    device = arguments.device
    if device is None:
        # It takes a second to import.
        import torch

        device = DEFAULT if torch.cuda.is_available() else CPU
    if device == CPU:
        hardware = cpu_hardware(precision)
    elif device in GPUS:
        hardware = Hardware(
            device=device, peak_tflops=GPUS[device].peak_tflops, gpu_memory=GPUS[device].memory
        )
    else:
        raise UserError(f"--device {device!r}: {did_you_mean(device, (*GPUS, CPU))}")
    given = {option: getattr(arguments, option, None) for option in _OF_HARDWARE}
    return replace(hardware, **{key: value for key, value in given.items() if value is not None})
