"""Input files: found in a fixed order, and cut into pieces that are read independently."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.columns import arrow_batches, open_parquet
from data_prep.compression import SUFFIXES as COMPRESSED_SUFFIXES
from data_prep.compression import is_compressed_text
from data_prep.hub_datasets import (
    PREFIX,
    SAVED_DICT,
    SAVED_FILES,
    cut_dataset,
    resolve_dataset,
)
from flexbert.errors import UserError

TEXT, JSONL, PARQUET, CSV, ARROW = "text", "jsonl", "parquet", "csv", "arrow"
FORMATS = (TEXT, JSONL, PARQUET, CSV, ARROW)
DATASET = "dataset"
IRREGULAR = "(no regular file)"  # a pipe, a socket, a device: reading one may have no end
MIN_PART_BYTES, MAX_PART_BYTES = 1 << 18, 1 << 23
ENOUGH_PARTS = 256
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
    ".arrow": ARROW,
    **dict.fromkeys(TEXT_SUFFIXES, TEXT),
}


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file to read.

    Attributes:
        name: the input argument's last component and the path below it; independent of where the
            inputs lie on this machine.
        size: in bytes, packed if it is compressed; 0 of a dataset.
        modified: modification time in nanoseconds; with ``size``, what tells a changed file.
        revision: what tells a changed dataset.
    """

    path: str
    name: str
    format: str
    size: int
    modified: int
    revision: str | None = None

    def fingerprint(self) -> dict[str, Any]:
        """What must stay the same for a corpus to be continued."""
        left_out = {"path"} if self.revision else {"path", "revision"}
        return {key: value for key, value in asdict(self).items() if key not in left_out}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is read at one go: a whole file, or a range of it.

    ``start`` and ``stop`` count bytes of a JSON-lines file (the lines that begin there), row groups
    of a Parquet file, record batches of an Arrow file and shards of a dataset. Text, CSV and
    compressed files are whole, from 0 to their size.

    Attributes:
        size: how much there is to do, in bytes, as far as it is known.
    """

    file: InputFile
    start: int
    stop: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files to read, in order, and how many others lay next to them, by suffix."""

    files: list[InputFile]
    skipped: Counter[str]


def find_inputs(arguments: Iterable[Path], *, format_override: str | None = None) -> Inputs:
    """All input files: arguments in the given order, each folder in sorted order.

    Raises:
        UserError: for a missing or repeated file, a named file of unknown format, a dataset that
            cannot be had, or no file.
    """
    files: dict[str, InputFile] = {}
    skipped: Counter[str] = Counter()
    for argument in arguments:
        if str(argument).startswith(PREFIX) and not argument.exists():
            dataset = find_dataset(str(argument))
            if dataset.path in files:
                raise UserError(f"{argument} is among the inputs twice; name each dataset once")
            files[dataset.path] = dataset
            continue
        for path, name in _walk(argument):
            if not path.is_file():
                skipped[IRREGULAR] += 1
                continue
            format_ = format_override or _format(path)
            suffix = "".join(path.suffixes[-2:]) if is_compressed_text(path) else path.suffix
            if format_ is None and path == argument:
                raise UserError(
                    f"{path}: unknown file type {suffix or '(no suffix)'}; "
                    f"say what it is with --format {{{','.join(FORMATS)}}}"
                )
            if format_ is None:
                skipped[suffix or "(no suffix)"] += 1
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
            f"(known suffixes: {' '.join(FORMAT_OF_SUFFIX)}, also with "
            f"{' or '.join(COMPRESSED_SUFFIXES)}; any other with --format)"
        )
    return Inputs(files=list(files.values()), skipped=skipped)


def find_dataset(argument: str) -> InputFile:
    """The dataset that an argument names.

    Raises:
        UserError: if there is no such dataset.
    """
    found = resolve_dataset(argument)
    return InputFile(
        path=str(found),
        name=found.title,
        format=DATASET,
        size=0,
        modified=0,
        revision=found.revision,
    )


def _format(path: Path) -> str | None:
    if not is_compressed_text(path):
        return FORMAT_OF_SUFFIX.get(path.suffix.lower())
    format_ = FORMAT_OF_SUFFIX.get(path.with_suffix("").suffix.lower())
    return None if format_ in (PARQUET, ARROW) else format_


def _walk(argument: Path) -> Iterator[tuple[Path, str]]:
    """(path, name) of the files that an input argument stands for, pipes and the like included."""
    if argument.is_file():
        yield argument, argument.name
    elif argument.is_dir():
        root = Path(os.path.abspath(argument)).name
        inside = [path for path in argument.rglob("*") if path.exists() and not path.is_dir()]
        saved = {path.parent for path in inside if path.suffix == ".arrow"}
        for path in sorted(inside, key=lambda path: path.relative_to(argument).as_posix()):
            if path.name == SAVED_DICT:
                _check_one_split(path.parent)
            elif not (path.name in SAVED_FILES and path.parent in saved):
                yield path, f"{root}/{path.relative_to(argument).as_posix()}"
    else:
        what = "neither a file nor a folder" if argument.exists() else "no such file or folder"
        raise UserError(f"{argument}: {what}")


def _check_one_split(folder: Path) -> None:
    """Raises UserError if the saved dataset has several splits: all would become one corpus."""
    splits = [path.name for path in sorted(folder.iterdir()) if (path / "state.json").is_file()]
    if len(splits) > 1:
        raise UserError(
            f"{folder} is a saved dataset of the splits {', '.join(splits)}; name those to read, "
            f"for example {folder / splits[0]}"
        )


def cut_pieces(file: InputFile, piece_bytes: int) -> Iterator[Piece]:
    """Cut one file into pieces of about ``piece_bytes``, where its format allows.

    Raises:
        UserError: if a file whose format must be looked into cannot be opened.
    """
    if file.format == JSONL and not is_compressed_text(file.path):
        for start in range(0, file.size, piece_bytes):
            stop = min(start + piece_bytes, file.size)
            yield Piece(file=file, start=start, stop=stop, size=stop - start)
    elif file.format == PARQUET:
        metadata = open_parquet(file.path).metadata
        groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
        yield from _cut_blocks(file, [group.total_byte_size for group in groups], piece_bytes)
    elif file.format == ARROW:
        yield from _cut_blocks(
            file, [batch.nbytes for batch in arrow_batches(file.path)], piece_bytes
        )
    elif file.format == DATASET:
        shards, size = cut_dataset(file.path)
        # Where sizes are not known, each shard is enough for a part.
        yield from _cut_blocks(file, [size or piece_bytes] * shards, piece_bytes)
    else:
        yield Piece(file=file, start=0, stop=file.size, size=file.size)


def _cut_blocks(file: InputFile, sizes: list[int], piece_bytes: int) -> Iterator[Piece]:
    """Pieces of consecutive blocks, each of at least ``piece_bytes`` but the last."""
    start = size = 0
    for block, block_size in enumerate(sizes):
        size += block_size
        if size >= piece_bytes or block == len(sizes) - 1:
            yield Piece(file=file, start=start, stop=block + 1, size=size)
            start, size = block + 1, 0


def default_part_bytes(inputs: Inputs) -> int:
    """Input bytes a part: some megabytes, and less where workers would not end at the same time."""
    total = sum(file.size for file in inputs.files)
    return min(max(total // ENOUGH_PARTS, MIN_PART_BYTES), MAX_PART_BYTES)


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
