"""One machine shared by processes that work side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from flexbert.errors import UserError

_VISIBLE, _THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"


def cpu_share(processes: int) -> Mapping[str, str]:
    """What is set in the environment of each of so many processes that share this machine's cores.

    Each with all cores would have threads wait for each other most of the time. A number of threads
    that the environment has already stays.
    """
    if processes <= 1 or _THREADS in os.environ:
        return {}
    return {_THREADS: str(max(1, len(os.sched_getaffinity(0)) // processes))}


def machine_shares(groups: int, processes: int) -> tuple[Mapping[str, str], ...]:
    """What is set in the environment of each of so many groups of processes.

    On GPUs each group has its own, one a process, of those that this process sees; without any, a
    share of the cores. One group alone has the machine as it is.

    Raises:
        UserError: if there are too few GPUs.
    """
    if groups == 1:
        return ({},)
    if not torch.cuda.is_available():
        return (cpu_share(groups * processes),) * groups
    visible = _visible_gpus()
    if groups * processes > len(visible):
        each = f" with {processes} GPUs each" if processes > 1 else ", each on a GPU of its own,"
        raise UserError(
            f"{groups} at once{each} need {groups * processes} GPUs, and there are {len(visible)}; "
            f'at most {len(visible) // processes} at once, or CUDA_VISIBLE_DEVICES="" for the CPU'
        )
    shares = (visible[index * processes : (index + 1) * processes] for index in range(groups))
    return tuple({_VISIBLE: ",".join(share)} for share in shares)


def _visible_gpus() -> list[str]:
    """By the names that CUDA takes: some of a machine's may have been given to this process."""
    given = os.environ.get(_VISIBLE)
    count = torch.cuda.device_count()
    names = [name.strip() for name in given.split(",")] if given else map(str, range(count))
    return list(names)[:count]
