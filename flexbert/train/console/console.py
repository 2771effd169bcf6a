"""How a run speaks to whoever started it."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping

from flexbert.train.console.lines import WIDTH
from flexbert.train.console.live_bar import LiveBar

_ABOUT_WIDTH = len("torch.compile")


class Console:
    """Prints for the first process, and nothing for the others.

    Attributes:
        quiet: whether it prints warnings and the end alone.
        bar: at the bottom of the terminal, where there is one.
    """

    def __init__(self, *, is_first: bool, quiet: bool = False) -> None:
        self.is_first = is_first
        self.quiet = quiet
        self.bar: LiveBar | None = None
        self._entries: dict[str, str] = {}
        self._after_header: list[str] = []

    @property
    def speaks(self) -> bool:
        """Whether what is no warning is printed here at all."""
        return self.is_first and not self.quiet

    @property
    def width(self) -> int:
        """Columns that a line may have."""
        # The bar stands in for sys.stdout.
        if sys.__stdout__ is None or not sys.__stdout__.isatty():
            return WIDTH
        return min(WIDTH, shutil.get_terminal_size().columns)

    def say(self, text: str) -> None:
        """Print what is good to know; where quiet is asked for, a warning alone."""
        if self.speaks or (self.is_first and text.startswith("warning:")):
            print(text, flush=True)

    def say_after_header(self, text: str) -> None:
        """Print it once the header is complete."""
        self._after_header.append(text)

    def complete_header(self) -> None:
        """Print what was to come after the header."""
        for text in self._after_header:
            self.say(text)
        self._after_header.clear()

    def end(self, text: str) -> None:
        """Print what a launch ends with."""
        if self.is_first:
            print(text, flush=True)

    def header(self, title: str, entries: Mapping[str, str]) -> None:
        """Print what a launch trains, a part at a time; later on what is not as it was.

        Args:
            entries: by what they are about.
        """
        new = {name: text for name, text in entries.items() if self._entries.get(name) != text}
        is_begun = bool(self._entries)
        self._entries |= entries
        lines = [] if is_begun else [title]
        lines += [
            f"  {about:<{_ABOUT_WIDTH}}  {line}"
            for name, text in new.items()
            for about, line in zip([name, *[""] * text.count("\n")], text.split("\n"), strict=True)
        ]
        if lines:
            self.say("\n".join(lines))

    @contextlib.contextmanager
    def live_bar(self) -> Iterator[None]:
        """Have a bar inside the block, where standard error is a terminal."""
        if not self.speaks or not LiveBar.is_possible():
            yield
            return
        bar = self.bar = LiveBar()
        bar.start()
        try:
            yield
        finally:
            self.bar = None
            bar.stop()
