"""The command line that goes on with a run."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from flexbert.config.remote_address import redacted
from flexbert.train.processes.rank import has_launcher


def same_command() -> str:
    """What this process was started with, or the launcher that started it, to be typed again.

    A secret in an address is left out.
    """
    own = sys.orig_argv
    words = _launchers(own) if has_launcher() else None
    return shlex.join(map(redacted, _as_typed(words or own)))


def _launchers(own: Sequence[str]) -> list[str] | None:
    """The parent's command line, if it ends with what this process was given."""
    given = sys.argv
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent is not None else []
        if len(words) > len(given) and words[-len(given) :] == list(given):
            return words
    return None


def _as_typed(words: Sequence[str]) -> list[str]:
    """Programs by the names that the shell finds them by; an interpreter of a script is left out
    where the script is a program.
    """
    first, *rest = words
    if rest and "python" in Path(first).name and (name := _program(rest[0])) is not None:
        return [name, *rest[1:]]
    return [_program(first) or first, *rest]


def _program(path: str) -> str | None:
    name = Path(path).name
    found = shutil.which(name)
    is_same = found is not None and Path(path).is_absolute() and Path(found) == Path(path)
    return name if is_same else None
