"""Composer's launcher, made to leave signals to the processes that it starts.

Composer's own ends at SIGTERM and Ctrl-C with the traceback of a SystemExit, and then tells its
processes. They know better when to stop: this one passes signals on and waits for them to end.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

import psutil

from flexbert.train.processes.stop_request import SIGNALS


def launch(arguments: Sequence[str]) -> int:
    """Start the processes that ``composer`` with these arguments would, and wait for them.

    Returns:
        The exit code of the first process that did not end with 0.
    """
    # Composer sets handlers of its own when it is imported.
    from composer.cli import launcher

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in psutil.Process().children():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    sys.argv = ["flexbert launch", *arguments]
    code: int = launcher.main()
    # Where a signal ended a process, as a shell tells it.
    return 128 - code if code < 0 else code
