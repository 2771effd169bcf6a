"""Values of the command line: sizes, shares, tasks and counts."""

from __future__ import annotations

import argparse
import os
import re

UNITS = {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


def size(text: str) -> int:
    """Bytes of a size such as 64mb; these and the functions below raise ArgumentTypeError."""
    match = re.fullmatch(r"(\d+)(kb|mb|gb|)", text.lower())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 64mb")
    return int(match[1]) * UNITS[match[2]]


def task(text: str) -> str:
    """One of several machines: "i/n", i from 0 to n - 1."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a task such as 0/4; of four, they are 0/4, 1/4, 2/4 and 3/4"
        )
    return f"{int(match[1])}/{int(match[2])}"


def share(text: str) -> float:
    """A number above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def unescaped(text: str) -> str:
    r"""A text in which ``\n`` and ``\t`` stand for a new line and a tab, as no shell makes them."""
    return text.replace(r"\n", "\n").replace(r"\t", "\t")


def whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def num_cores() -> int:
    """The cores that this process may use; where the system does not tell, all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
