"""Rows that were made, kept under the user's cache folder: making them takes 20 s, reading 0.1 s.

One file a task and split: a line with the hash of what follows, then one row a line. A file that
is not what was written is made again, and so are all of them where a package changes: the folder's
name is the fingerprint of what the rows were made of.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from flexbert.errors import UserError
from flexbert.files.durable import WriteError, make_folder, write_durably
from flexbert.files.file_lock import file_lock
from flexbert.files.regular import read_regular
from flexbert.files.set_aside import make_way

Rows = list[dict[str, Any]]
# By task and split.
MadeRows = Mapping[str, Mapping[str, Rows]]


def user_cache() -> Path:
    """FlexBERT's folder in the user's cache folder, as the XDG base directory specification has it.

    Raises:
        UserError: if there is no home folder.
    """
    # A relative path is to be ignored, says the specification.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (named if named.is_absolute() else Path.home() / ".cache") / "flexbert"
    except RuntimeError:
        raise UserError("no home folder is known; set XDG_CACHE_HOME to a folder") from None


def cached_rows(folder: Path, task: str, split: str, make: Callable[[], MadeRows]) -> Rows:
    """The rows of a task's split; those of all tasks are made first where they are not all there.

    One process makes them while others wait for it. One that is killed leaves whole files alone.

    Args:
        folder: of the rows of one fingerprint.
        make: makes the rows of all tasks and splits.

    Raises:
        UserError: if the folder cannot be written.
    """
    rows = _read(_file(folder, task, split))
    if rows is not None:
        return rows
    try:
        make_folder(folder)
        with file_lock(folder / ".lock"):
            rows = _read(_file(folder, task, split))
            return rows if rows is not None else _make(folder, make)[task][split]
    except (OSError, WriteError) as error:
        problem = str(error)
        if isinstance(error, OSError):
            problem = f"{folder}: cannot be written or read ({error.strerror or error})"
        raise UserError(f"{problem}; set XDG_CACHE_HOME to a folder that can be written") from error


def _make(folder: Path, make: Callable[[], MadeRows]) -> MadeRows:
    made = make()
    for task, splits in made.items():
        for split, rows in splits.items():
            file = _file(folder, task, split)
            if _read(file) is None:
                _write(file, rows)
    return made


def _file(folder: Path, task: str, split: str) -> Path:
    return folder / f"{task}-{split}.jsonl"


def _write(file: Path, rows: Rows) -> None:
    if os.path.lexists(file):
        print(f"warning: {file}: damaged; it is made again", file=sys.stderr, flush=True)
        make_way(file)
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    # Machines may share the folder, and a lock need not reach from one to another.
    with write_durably(file, writer=platform.node()) as out:
        out.write(json.dumps({"xxh3": xxhash.xxh3_128_hexdigest(body)}).encode() + b"\n" + body)


def _read(file: Path) -> Rows | None:
    """The rows in a file; None if it is not there, or is not what was written."""
    try:
        header, _, body = read_regular(file).partition(b"\n")
        if json.loads(header) != {"xxh3": xxhash.xxh3_128_hexdigest(body)}:
            return None
    except (OSError, ValueError):
        return None
    return [json.loads(line) for line in body.splitlines()]
