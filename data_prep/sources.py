"""Input files: found in a fixed order, and cut into pieces that are read independently."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.columns import arrow_batches, open_parquet
from data_prep.compression import SUFFIXES as COMPRESSED_SUFFIXES
from data_prep.compression import is_compressed_text
from data_prep.folders import Found, walk
from data_prep.formats import (
    ARROW,
    DATASET,
    FORMAT_OF_SUFFIX,
    FORMATS,
    LINE_FORMATS,
    OPTION_FORMATS,
    PARQUET,
    format_of,
    is_recent,
    suffix_of,
)
from data_prep.hub_datasets import PREFIX, cut_dataset, resolve_dataset
from data_prep.input_options import FORMAT, Input, fields_of
from data_prep.rows import Fields
from flexbert.errors import UserError

IRREGULAR = "(no regular file)"  # a pipe, a socket, a device: reading one may have no end
MIN_PART_BYTES, MAX_PART_BYTES = 1 << 18, 1 << 23
ENOUGH_PARTS = 256


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file to read.

    Attributes:
        name: the input argument's last component and the path below it; independent of where the
            inputs lie on this machine.
        size: in bytes, packed if it is compressed; 0 of a dataset.
        modified: modification time in nanoseconds; with ``size``, what tells a changed file.
        revision: what tells a changed dataset.
        input: what the report counts it under: the input argument, and of a folder the suffix.
        fields: what to take of its rows, where its input says it itself.
    """

    path: str
    name: str
    format: str
    size: int
    modified: int
    revision: str | None = None
    input: str = ""
    fields: Fields | None = None

    def fingerprint(self) -> dict[str, Any]:
        """What must stay the same for a corpus to be continued."""
        known: dict[str, Any] = {
            "name": self.name,
            "format": self.format,
            "size": self.size,
            "modified": self.modified,
        }
        if self.revision:
            known["revision"] = self.revision
        if self.fields is not None:
            known["fields"] = self.fields.fingerprint()
        return known


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is read at one go: a whole file, or a range of it.

    ``start`` and ``stop`` count bytes of a file of lines (those that begin there), row groups of a
    Parquet file, record batches of an Arrow file and shards of a dataset. All others, and what is
    compressed, are whole, from 0 to their size.

    Attributes:
        size: how much there is to do, in bytes, as far as it is known.
    """

    file: InputFile
    start: int
    stop: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files to read, in order, and how many others lay next to them, by suffix or reason."""

    files: list[InputFile]
    skipped: Counter[str]

    @property
    def counts(self) -> dict[str, int]:
        """The number of files of each input, in order."""
        return dict(Counter(file.input for file in self.files))


def find_inputs(
    arguments: Iterable[Path | Input],
    *,
    format_override: str | None = None,
    fields: Fields | None = None,
    all_files: bool = False,
    begun: Mapping[str, str] | None = None,
) -> Inputs:
    """All input files: arguments in the given order, each folder in sorted order.

    A file that is given itself or by a pattern, with options of its own, is left out of the folders
    around it.

    Args:
        format_override: of every file whose input does not say its own.
        fields: what to take of a row where an input does not say it itself.
        all_files: whether a folder's hidden files, licences and dataset cards are read too.
        begun: format by name of the files of a corpus that was begun. They are read as they were
            then, whatever would be done with them now.

    Raises:
        UserError: for a missing or repeated file, a named file of unknown format, a dataset that
            cannot be had, an option that nothing is done with, or no file.
    """
    search = _Search(fields or Fields(), format_override, all_files, begun)
    inputs = [item if isinstance(item, Input) else Input(path=str(item)) for item in arguments]
    walked = [None if _is_dataset(given) else walk(given.path) for given in inputs]
    search.own = {
        os.path.abspath(one.path)
        for given, place in zip(inputs, walked, strict=True)
        if given.options and place is not None
        for one in place[1]
        if not one.in_folder
    }
    for given, place in zip(inputs, walked, strict=True):
        search.add(given, place)
    if not search.files:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in search.skipped.items())
        raise UserError(
            "the inputs hold no file that can be read "
            + (f"(left out: {left_out}) " if left_out else "")
            + f"(known suffixes: {' '.join(FORMAT_OF_SUFFIX)}, also with "
            f"{' '.join(COMPRESSED_SUFFIXES)}; any other with --format)"
        )
    files = list(search.files.values())
    own = {option for given in inputs for option in given.options}
    for option in ("delimiter", "template"):
        if option not in own and getattr(search.fields, option) is not None:
            _check_used(f"--{option}", (option,), files)
    return Inputs(files=files, skipped=search.skipped)


def _is_dataset(given: Input) -> bool:
    return given.path.startswith(PREFIX) and not os.path.exists(given.path)


class _Search:
    """Goes through the inputs and collects their files."""

    def __init__(
        self,
        fields: Fields,
        format_override: str | None,
        all_files: bool,
        begun: Mapping[str, str] | None,
    ) -> None:
        self.fields = fields
        self.format_override = format_override
        self.all_files = all_files
        self.begun = begun
        # An older version passed over these files: they are none of what it began.
        self.without_recent = begun is not None and not any(map(is_recent, map(Path, begun)))
        self.files: dict[str, InputFile] = {}
        self.skipped: Counter[str] = Counter()
        self.titles: Counter[str] = Counter()
        self.own: set[str] = set()  # paths of files with options of their own

    def add(self, given: Input, place: tuple[str, list[Found]] | None) -> None:
        """Collect the files of one input.

        Args:
            place: its name and files, as of ``walk``; None for a dataset.
        """
        fields = fields_of(given, self.fields)
        own_fields = None if fields == self.fields else fields
        if place is None:
            dataset = find_dataset(given.path)
            if FORMAT in given.options:
                raise UserError(f"{given}: a dataset has no {FORMAT}")
            dataset = replace(dataset, input=self._title(dataset.name), fields=own_fields)
            self._take(dataset, given)
            _check_used(str(given), given.options, [dataset])
            return
        root, found = place
        title = self._title(root)
        before = len(self.files)
        for one in found:
            self._add_file(one, given, title, own_fields)
        if given.options and before == len(self.files):
            raise UserError(f"{given}: holds no file that can be read")
        _check_used(str(given), given.options, list(self.files.values())[before:])

    def _title(self, name: str) -> str:
        """What the report calls an input; a second one of the same name gets a number."""
        self.titles[name] += 1
        return name if self.titles[name] == 1 else f"{name} ({self.titles[name]})"

    def _add_file(self, one: Found, given: Input, title: str, fields: Fields | None) -> None:
        if one.in_folder and os.path.abspath(one.path) in self.own:
            return
        was = None if self.begun is None else self.begun.get(one.name)
        reason = None if self.all_files or was else one.left_out
        if not one.path.is_file():
            reason = IRREGULAR
        suffix = suffix_of(one.path)
        asked = given.options.get(FORMAT) or self.format_override
        format_ = asked or was or format_of(one.path)
        if format_ is None and not one.in_folder:
            raise UserError(
                f"{one.path}: unknown file type {suffix or '(no suffix)'}; "
                f"say what it is: {one.path}:format=text, or in --inputs {{path: ..., format: "
                f"text}}; known: {', '.join(FORMATS)}"
            )
        if format_ is None or (self.without_recent and one.in_folder and is_recent(one.path)):
            reason = reason or suffix or "(no suffix)"
        if reason is not None:
            self.skipped[reason] += 1
            return
        assert format_ is not None
        stat = one.path.stat()
        key = os.path.abspath(one.path)
        file = InputFile(
            path=key,
            name=one.name,
            format=format_,
            size=stat.st_size,
            modified=stat.st_mtime_ns,
            input=f"{title}/*{suffix.lower()}" if one.in_folder else title,
            fields=fields,
        )
        self._take(file, given)

    def _take(self, file: InputFile, given: Input) -> None:
        if file.path in self.files:
            what = "dataset" if file.format == DATASET else "file"
            shown = given.path if what == "dataset" else file.path
            raise UserError(f"{shown} is among the inputs twice; name each {what} once")
        self.files[file.path] = file


def _check_used(place: str, options: Iterable[str], files: Sequence[InputFile]) -> None:
    """Raises UserError for an option that none of the files has a use for."""
    found = {file.format for file in files}
    for option in options:
        formats = OPTION_FORMATS.get(option, found)
        if not found & formats:
            raise UserError(
                f"{place}: {option} does nothing for {', '.join(sorted(found))}; it is for "
                f"{', '.join(sorted(formats))}"
            )


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


def cut_pieces(file: InputFile, piece_bytes: int) -> Iterator[Piece]:
    """Cut one file into pieces of about ``piece_bytes``, where its format allows.

    Raises:
        UserError: if a file whose format must be looked into cannot be opened.
    """
    if file.format in LINE_FORMATS and not is_compressed_text(file.path):
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
