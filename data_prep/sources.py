"""Input files: found in a fixed order, and cut into pieces that are read independently."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flexbert.errors import UserError

TEXT, JSONL, PARQUET, CSV = "text", "jsonl", "parquet", "csv"
FORMATS = (TEXT, JSONL, PARQUET, CSV)
# One document a file. fmt: off
TEXT_SUFFIXES = (
    ".txt",
    ".text",
    ".md",
    ".rst",
    ".org",
    ".tex",
    ".html",
    ".xml",
    ".yaml",
    ".yml",
    ".toml",
    ".py",
    ".pyi",
    ".c",
    ".h",
    ".cc",
    ".cpp",
    ".hpp",
    ".cu",
    ".go",
    ".java",
    ".js",
    ".ts",
    ".rs",
    ".rb",
    ".jl",
    ".r",
    ".sql",
    ".sh",
    ".css",
)
# fmt: on
FORMAT_OF_SUFFIX = {
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".json": JSONL,
    ".parquet": PARQUET,
    ".csv": CSV,
    **dict.fromkeys(TEXT_SUFFIXES, TEXT),
}


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file to read.

    Attributes:
        name: the input argument's last component and the path below it; independent of where the
            inputs lie on this machine.
        modified: modification time in nanoseconds; with ``size``, what tells a changed file.
    """

    path: str
    name: str
    format: str
    size: int
    modified: int

    def fingerprint(self) -> dict[str, Any]:
        """What must stay the same for a corpus to be continued."""
        return {key: value for key, value in asdict(self).items() if key != "path"}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is read at one go: a whole file, or a range of it.

    ``start`` and ``stop`` count bytes of a JSON-lines file (the lines that begin there) and row
    groups of a Parquet file; text and CSV files are whole, from 0 to their size.
    """

    file: InputFile
    start: int
    stop: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files to read, in order, and how many others lay beside them, by suffix."""

    files: list[InputFile]
    skipped: Counter[str]


def find_inputs(arguments: Iterable[Path], *, format_override: str | None = None) -> Inputs:
    """All input files: arguments in the given order, each folder in sorted order.

    Raises:
        UserError: for a missing or repeated file, a named file of unknown format, or no file.
    """
    files: dict[str, InputFile] = {}
    skipped: Counter[str] = Counter()
    for argument in arguments:
        for path, name in _walk(argument):
            format_ = format_override or FORMAT_OF_SUFFIX.get(path.suffix.lower())
            if format_ is None and path == argument:
                raise UserError(
                    f"{path}: unknown file type {path.suffix or '(no suffix)'}; "
                    f"say what it is with --format {{{','.join(FORMATS)}}}"
                )
            if format_ is None:
                skipped[path.suffix or "(no suffix)"] += 1
                continue
            key = os.path.abspath(path)
            if key in files:
                raise UserError(f"{path} is among the inputs twice; name each file once")
            stat = path.stat()
            files[key] = InputFile(
                path=key, name=name, format=format_, size=stat.st_size, modified=stat.st_mtime_ns
            )
    if not files:
        raise UserError(
            "the inputs hold no file that can be read "
            f"(known suffixes: {' '.join(FORMAT_OF_SUFFIX)}; any other with --format)"
        )
    return Inputs(files=list(files.values()), skipped=skipped)


def _walk(argument: Path) -> Iterator[tuple[Path, str]]:
    """(path, name) of the files that an input argument stands for."""
    if argument.is_file():
        yield argument, argument.name
    elif argument.is_dir():
        root = Path(os.path.abspath(argument)).name
        inside = (path for path in argument.rglob("*") if path.is_file())
        for path in sorted(inside, key=lambda path: path.relative_to(argument).as_posix()):
            yield path, f"{root}/{path.relative_to(argument).as_posix()}"
    else:
        raise UserError(f"{argument}: no such file or folder")


def cut_pieces(file: InputFile, piece_bytes: int) -> Iterator[Piece]:
    """Cut one file into pieces of about ``piece_bytes``, where its format allows.

    Raises:
        UserError: if a Parquet file cannot be opened.
    """
    if file.format == JSONL:
        for start in range(0, file.size, piece_bytes):
            stop = min(start + piece_bytes, file.size)
            yield Piece(file=file, start=start, stop=stop, size=stop - start)
    elif file.format == PARQUET:
        yield from _cut_row_groups(file, piece_bytes)
    else:
        yield Piece(file=file, start=0, stop=file.size, size=file.size)


def _cut_row_groups(file: InputFile, piece_bytes: int) -> Iterator[Piece]:
    from data_prep.readers import open_parquet

    metadata = open_parquet(file).metadata
    start = size = 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= piece_bytes or group == metadata.num_row_groups - 1:
            yield Piece(file=file, start=start, stop=group + 1, size=size)
            start, size = group + 1, 0


def group_parts(pieces: Iterable[Piece], part_bytes: int) -> Iterator[list[Piece]]:
    """Group consecutive pieces into parts of at least ``part_bytes``; the last may be smaller."""
    part: list[Piece] = []
    size = 0
    for piece in pieces:
        part.append(piece)
        size += piece.size
        if size >= part_bytes:
            yield part
            part, size = [], 0
    if part:
        yield part
