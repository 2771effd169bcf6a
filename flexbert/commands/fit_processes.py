"""The processes of one command that share the fits of a suite on this machine."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flexbert.errors import UserError

if TYPE_CHECKING:
    from flexbert.tasks.results import FitRecord
    from flexbert.tasks.search import SearchProgress

_SHARE = "--share"


def add_share(parser: argparse.ArgumentParser) -> None:
    """The option that such a process is started with: its device."""
    parser.add_argument(_SHARE, help=argparse.SUPPRESS)


def fit_devices(name: str | None, processes: int | None) -> list[str]:
    """The device of each process.

    Args:
        name: that was given; None takes every GPU there is.
        processes: None is one for every GPU, or one.
    """
    import torch

    if name is not None or not torch.cuda.is_available():
        return [name or "cpu"] * (processes or 1)
    count = processes or torch.cuda.device_count()
    return [f"cuda:{index % torch.cuda.device_count()}" for index in range(count)]


def share_fits(devices: Sequence[str]) -> None:
    """Start this command once more for each of several devices, and wait for them all.

    Raises:
        UserError: if one of them ended with an error.
    """
    from flexbert.devices.machine_shares import cpu_share

    if len(devices) < 2:
        return
    given = [text for text in sys.argv[1:] if text != "--json"]
    command = [sys.executable, "-m", "flexbert.commands", *given]
    share = cpu_share(len(devices)) if devices[0] == "cpu" else {}
    environment = {**os.environ, **share}
    started = [subprocess.Popen([*command, _SHARE, name], env=environment) for name in devices]
    try:
        while any(process.poll() is None for process in started):
            time.sleep(0.1)
    finally:
        for process in started:
            process.terminate()
    codes = [process.wait() for process in started]
    if failed := [code for code in codes if code]:
        raise UserError(f"{len(failed)} of {len(codes)} processes ended with an error, told above")


def tell_fit(record: FitRecord, progress: SearchProgress) -> None:
    """Say what a finished fit came to, and where its search stands."""
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in record.metrics.items())
    point = " ".join(f"{axis}={value}" for axis, value in record.point.items())
    share = "" if record.budget == 1 else f" {record.budget:.0%} of its updates"
    title = f"{record.model} {record.task} {point} seed={record.seed}{share}"
    if cut := sum(record.cut.values()):
        metrics += f"; {cut:,} texts are cut at max_length"
    count = f"{progress.finished}/{progress.known}"
    made = f"{record.updates:,} updates, " if record.updates else ""
    print(
        f"{count:>9}  {title}: {metrics} ({made}{record.seconds:.0f}s)",
        file=sys.stderr,
        flush=True,
    )
