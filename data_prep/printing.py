"""What a command prints, to a terminal, a file or a pipe that may be closed before its end."""

from __future__ import annotations

import os
import sys


def print_text(text: str) -> None:
    """Print a text; whoever reads it may stop early, as ``head`` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What Python flushes at its end would raise again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
