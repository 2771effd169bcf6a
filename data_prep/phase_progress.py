"""How far a long phase is: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

from flexbert.files.progress_bar import ProgressBar

LINE_SECONDS = 60.0


class PhaseProgress:
    """The progress of a phase, on stderr; a context.

    Args:
        title: of the phase.
        total, done: of all there is to do, in ``unit``; ``done`` before this run.
        unit: what is counted; with a blank in front where it is a word.
        there: what an earlier run left, said at the beginning.
        quiet: show nothing at all.
    """

    def __init__(
        self,
        title: str,
        *,
        total: int,
        unit: str,
        done: int = 0,
        there: str = "",
        quiet: bool = False,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.begun = self.done = done
        self.there = there
        self.quiet = quiet
        self.start = time.monotonic()
        self.bar: ProgressBar | None = None
        self.ended = threading.Event()
        self.lines = threading.Thread(target=self._write_lines, daemon=True)

    def __enter__(self) -> Self:
        self.start = time.monotonic()
        if self.quiet:
            return self
        if self.there:
            self._write(f"{self.there} are there already and are kept")
        if sys.stderr.isatty():
            self.bar = ProgressBar(
                desc=self.title,
                total=self.total,
                initial=self.done,
                unit=self.unit,
                unit_scale=True,
                file=sys.stderr,
            )
        else:
            self.lines.start()
        return self

    def update(self, more: int) -> None:
        self.done += more
        if self.bar is not None:
            self.bar.update(more)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        if self.bar is not None:
            self.bar.close()

    def line(self, seconds: float) -> str:
        """What there is to say after so many seconds."""
        size, clock = ProgressBar.format_sizeof, ProgressBar.format_interval
        share = self.done / self.total if self.total else 1.0
        text = f"{size(self.done)} of {size(self.total)}{self.unit} ({share:.0%})"
        made = self.done - self.begun
        if made > 0 and seconds > 0:
            left = seconds * (self.total - self.done) / made
            text += f", {size(made / seconds)}{self.unit} a second, {clock(left)} to go"
        return f"{text}, {clock(seconds)} so far"

    def _write_lines(self) -> None:
        # From a thread: a part of the input may take hours.
        while not self.ended.wait(LINE_SECONDS):
            self._write(self.line(time.monotonic() - self.start))

    def _write(self, text: str) -> None:
        print(f"{self.title}: {text}", file=sys.stderr, flush=True)
