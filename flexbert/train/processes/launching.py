"""Composer's launcher, made to leave signals to the processes that it starts.

Composer's own ends at SIGTERM and Ctrl-C with the traceback of a SystemExit, and then tells its
processes. They know better when to stop: this one passes signals on and waits for them to end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import psutil

from flexbert.train.processes.run_errors import PREEMPTED
from flexbert.train.processes.stop_request import SIGNALS


def launch(arguments: Sequence[str]) -> int:
    """Start the processes that ``composer`` with these arguments would, and wait for them.

    Returns:
        The exit code of the first process that did not end with 0.
    """
    begun = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not begun:
            print("stopped on request, before anything was started", flush=True)
            os._exit(PREEMPTED)
        for process in psutil.Process().children():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def await_signals() -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, pass_on)

    await_signals()
    from composer.cli import launcher

    # Composer has set handlers of its own when it was imported.
    await_signals()
    begun = True
    # What a process says of itself is enough, where it has ended as it should.
    launcher.log.disabled = True
    launcher._print_process_exit_status = _print_output
    sys.argv = ["flexbert launch", *arguments]
    code: int = launcher.main()
    # Where a signal ended a process, as a shell tells it.
    return 128 - code if code < 0 else code


def _print_output(global_rank: int, process: subprocess.Popen[str]) -> None:
    """What a process has printed to a file of the launcher's; the first one's is seen already."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.seek(0)
            if text := stream.read().strip():
                print(f"rank {global_rank}: {text}", file=sys.stderr, flush=True)
    if process.returncode not in (0, PREEMPTED):
        print(
            f"rank {global_rank} ended with exit code {process.returncode}",
            file=sys.stderr,
            flush=True,
        )
