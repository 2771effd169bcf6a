"""One line at the bottom of a terminal that shows how far a run is."""

from __future__ import annotations

import sys
import time

from rich.console import Console as Terminal
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

_SECONDS = 0.2


class LiveBar:
    """Drawn by whoever trains and by no thread: the loader's processes are forked, and a thread
    that holds a lock then would hold it in them for ever.

    What is printed meanwhile stands above it. It leaves nothing behind.
    """

    def __init__(self) -> None:
        self._terminal = Terminal(stderr=True)
        self._live = Live(
            console=self._terminal,
            auto_refresh=False,
            transient=True,
            # A file that the output goes to gets it as it is.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
        )
        self._shown = float("-inf")

    @staticmethod
    def is_possible() -> bool:
        """Whether somebody looks at this process's standard error, on a terminal that can."""
        return sys.stderr.isatty() and not Terminal(stderr=True).is_dumb_terminal

    def start(self) -> None:
        self._live.start()
        # It would stay hidden where the process is killed.
        self._terminal.show_cursor(True)

    def stop(self) -> None:
        self._live.stop()

    @property
    def is_due(self) -> bool:
        """Whether the last picture is old enough for another."""
        return time.monotonic() - self._shown >= _SECONDS

    def show(self, fraction: float, text: str) -> None:
        """Draw it.

        Args:
            fraction: of the run that is done.
            text: after the bar, cut where the terminal ends.
        """
        self._shown = time.monotonic()
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_row(Bar(total=1.0, completed=fraction), Text(text))
        self._live.update(grid, refresh=True)
