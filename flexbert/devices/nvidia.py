"""NVIDIA GPUs that are there and cannot be used.

torch only warns of them, or says nothing: ``torch.cuda.is_available()`` is False as on a machine
without any, and what was meant for eight GPUs would train on a CPU for weeks.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import torch

from flexbert.errors import first_line

# The files of the driver: each GPU's, and what the kernel's module says of itself.
DEVICES = Path("/dev")
DRIVER = Path("/proc/driver/nvidia/version")

ON_THE_CPU = 'CUDA_VISIBLE_DEVICES="" trains on the CPU'


def nvidia_problem() -> str | None:
    """Why torch cannot use a GPU that this machine has; None if it can, or if there is none.

    A GPU that CUDA_VISIBLE_DEVICES hides by naming none is not missed.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    is_hidden = visible is not None and visible.strip() in ("", "-1")
    if is_hidden or not (DRIVER.exists() or any(DEVICES.glob("nvidia[0-9]*"))):
        return None
    with warnings.catch_warnings():
        # torch's warning is the reason that is told.
        warnings.simplefilter("ignore")
        if torch.cuda.is_available():
            return None
        try:
            torch.cuda.init()
        except Exception as error:  # a RuntimeError, an AssertionError, or the driver's own
            reason = first_line(error)
        else:
            reason = "it sees none"
    where = f"the NVIDIA driver here is {driver_version() or 'of unknown version'}"
    if torch.version.cuda is None:
        return f"{where}, and torch {torch.__version__} is built without CUDA: install one with it"
    if visible is not None:
        where += f", CUDA_VISIBLE_DEVICES is {visible}"
    if any(DEVICES.glob("nvidia[0-9]*")):
        mend = f"update the driver, or install a torch for an older CUDA than {torch.version.cuda}"
    else:
        mend = "give the container or the job its GPUs"
    return f"{where}, and torch {torch.__version__} cannot use a GPU ({reason}): {mend}"


def driver_version() -> str | None:
    """Of the NVIDIA kernel module that is loaded, such as ``535.104.05``; None without one."""
    try:
        text = DRIVER.read_text()
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    return found[1] if found else None
