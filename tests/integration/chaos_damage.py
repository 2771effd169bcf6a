"""Damage between two launches: to checkpoints, and to what stands beside them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, random.Random], None]


def flip(file: Path, generator: random.Random) -> None:
    """One bit, anywhere."""
    content = bytearray(file.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    file.write_bytes(content)


def cut(file: Path, generator: random.Random) -> None:
    """Everything after some byte."""
    content = file.read_bytes()
    file.write_bytes(content[: generator.randrange(len(content))])


def zeros(file: Path, generator: random.Random) -> None:
    """A page of zeros, as a disk leaves them that lost power."""
    content = bytearray(file.read_bytes())
    begin = generator.randrange(max(1, len(content) - 4096))
    # There are zeros already: behind the end, and in moments of the optimizer.
    if not any(content[begin : begin + 4096]):
        begin = 0
    content[begin : begin + 4096] = bytes(len(content[begin : begin + 4096]))
    file.write_bytes(content)


CHECKPOINT: dict[str, Damage] = {"a bit flipped": flip, "cut": cut, "zeros": zeros}


def spoil_a_line(metrics: Path, generator: random.Random) -> int | None:
    """Overwrite a line of ``metrics.jsonl``.

    Returns:
        Its step; None if there is no line.
    """
    lines = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() else []
    if not lines:
        return None
    number = generator.randrange(len(lines))
    step = int(json.loads(lines[number])["step"])
    lines[number] = b"\0" * (len(lines[number]) - 1) + b"\n"
    metrics.write_bytes(b"".join(lines))
    return step
