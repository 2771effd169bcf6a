"""The device that a command works on."""

from __future__ import annotations

import torch

from flexbert.devices.float32 import forbid_tf32
from flexbert.devices.nvidia import ON_THE_CPU, nvidia_problem
from flexbert.errors import UserError, first_line


def chosen_device(name: str | None) -> torch.device:
    """The device of this name; a GPU where there is one and nothing is said.

    Raises:
        UserError: if it is not there, or a GPU is that cannot be used.
    """
    if name is None and (problem := nvidia_problem()):
        raise UserError(f"{problem}; {ON_THE_CPU.replace('trains', 'evaluates')}")
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: cannot be used ({first_line(error)})") from None
    forbid_tf32()
    return device
