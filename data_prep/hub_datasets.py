"""Datasets of the Hugging Face Hub, or of a local folder, read as a stream by ``datasets``.

``hf:NAME[@REVISION][:CONFIG[:SPLIT]]``, for example ``hf:allenai/c4:en:validation``. A dataset is
cut where its own files are cut, which ``datasets`` calls shards.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.columns import BATCH_ROWS, arrow_errors, batch_rows, check_schema
from data_prep.field_paths import check_fields, schema_fields
from data_prep.rows import Fields, Reject, Row
from flexbert.errors import UserError, first_line

if TYPE_CHECKING:
    import datasets

PREFIX = "hf:"
SYNTAX = "hf:NAME[@REVISION][:CONFIG[:SPLIT]]"
REFERENCE = re.compile(r"hf:([^@:]+)(?:@([^@:]+))?(?::([^@:]*)(?::([^@:]+))?)?")
DEFAULT_SPLIT = "train"
REASON_CHARACTERS = 200
# What ``Dataset.save_to_disk`` writes besides its Arrow files.
SAVED_DICT = "dataset_dict.json"
SAVED_FILES = ("state.json", "dataset_info.json", SAVED_DICT)


@dataclass(frozen=True, kw_only=True)
class DatasetReference:
    """A split of a dataset.

    Attributes:
        name: on the hub, or the path of a local folder.
        revision: a commit, branch or tag of the hub; of a local folder a hash of its files.
    """

    name: str
    revision: str | None = None
    config: str | None = None
    split: str = DEFAULT_SPLIT

    @classmethod
    def parse(cls, argument: str) -> DatasetReference:
        """Raises UserError if the argument does not follow ``SYNTAX``."""
        if argument.startswith(f"{PREFIX}//"):
            raise UserError(f"{argument}: write {SYNTAX}, without slashes before the name")
        match = REFERENCE.fullmatch(argument)
        if match is None:
            raise UserError(
                f"{argument}: not a dataset; write {SYNTAX}, for example hf:allenai/c4:en:train"
            )
        name, revision, config, split = match.groups()
        return cls(
            name=name, revision=revision, config=config or None, split=split or DEFAULT_SPLIT
        )

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.name}{revision}:{self.config or ''}:{self.split}"

    @property
    def is_local(self) -> bool:
        return os.path.exists(self.name)

    @property
    def title(self) -> str:
        """The same wherever a local folder lies, and whatever the revision."""
        name = Path(self.name).resolve().name if self.is_local else self.name
        return f"{PREFIX}{name}:{self.config or ''}:{self.split}"


def resolve_dataset(argument: str) -> DatasetReference:
    """The dataset that an argument names, at the revision that stands there now.

    Raises:
        UserError: if the argument is not a dataset's, or the hub knows no such dataset.
    """
    reference = DatasetReference.parse(argument)
    if reference.is_local:
        revision = _folder_revision(Path(reference.name))
    else:
        revision = _hub_revision(reference)
    return DatasetReference(
        name=reference.name, revision=revision, config=reference.config, split=reference.split
    )


def _folder_revision(folder: Path) -> str:
    if any((folder / name).is_file() for name in SAVED_FILES):
        raise UserError(f"{PREFIX}{folder} was saved by save_to_disk; give it without {PREFIX}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    states = [
        (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
    ]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]


def _hub_revision(reference: DatasetReference) -> str:
    from huggingface_hub import HfApi

    try:
        found = HfApi().dataset_info(reference.name, revision=reference.revision).sha
    except Exception as error:  # whatever the network and its libraries raise
        raise UserError(
            f"{reference}: no folder here, and the hub has no such dataset or cannot be reached "
            f"({_reason(error)})"
        ) from error
    return found or reference.revision or "main"


def cut_dataset(reference: str) -> tuple[int, int]:
    """Into how many shards a dataset is cut, and the bytes of one; 0 if that is not known.

    Raises:
        UserError: if the dataset cannot be loaded.
    """
    dataset = open_dataset(reference)
    split = DatasetReference.parse(reference).split
    splits = dataset.info.splits or {}
    size = splits[split].num_bytes if split in splits else None
    return dataset.num_shards, (size or 0) // dataset.num_shards


def dataset_rows(reference: str, start: int, stop: int, fields: Fields) -> Iterator[Row]:
    """The rows of some shards of a dataset, in order; raises UserError if that is not possible."""
    dataset = open_dataset(reference)
    check_dataset(reference, fields)
    if dataset.column_names is not None:
        dataset = dataset.select_columns(_outermost(fields, dataset.column_names))
    for index in range(start, stop):
        shard = dataset.shard(num_shards=dataset.num_shards, index=index).with_format("arrow")
        tables = iter(shard.iter(BATCH_ROWS))
        while True:
            try:
                table = next(tables, None)
            except Exception as error:  # whatever the network, its libraries and the data raise
                raise UserError(
                    f"{reference}: shard {index} cannot be read ({_reason(error)}); "
                    "the same command continues"
                ) from error
            if table is None:
                break
            if set(fields.all_fields) <= set(schema_fields(table.schema)):
                with arrow_errors(reference, fields):
                    yield from batch_rows(table, fields)
            else:
                yield from [Reject.MISSING] * table.num_rows


def check_dataset(reference: str, fields: Fields) -> None:
    """Raises UserError if a dataset lacks a column that is asked for, as far as it tells."""
    dataset = open_dataset(reference)
    if dataset.features is not None:
        check_schema(reference, fields, dataset.features.arrow_schema)
    elif dataset.column_names is not None:
        check_fields(reference, fields, dataset.column_names)


def _outermost(fields: Fields, names: list[str]) -> list[str]:
    """The columns to load: those asked for, or those that hold them."""
    outer = (name if name in names else name.split(".")[0] for name in fields.all_fields)
    return list(dict.fromkeys(outer))


@functools.lru_cache(maxsize=4)
def open_dataset(text: str) -> datasets.IterableDataset:
    """The stream of a dataset's rows.

    Raises:
        UserError: if it is not named rightly, or cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{text}: needs the package datasets; install it with: uv pip install datasets"
        ) from error
    reference = DatasetReference.parse(text)
    datasets.disable_progress_bars()
    # Otherwise each process imports torch, for seconds, so that a stream may pass as torch's own.
    datasets.config.TORCH_AVAILABLE = False
    try:
        return datasets.load_dataset(
            reference.name,
            reference.config,
            split=reference.split,
            revision=None if reference.is_local else reference.revision,
            streaming=True,
        )
    except Exception as error:  # whatever the network and its libraries raise
        raise UserError(
            f"{text}: cannot be loaded ({_reason(error)}); a dataset is named {SYNTAX}"
        ) from error


def _reason(error: Exception) -> str:
    return first_line(error, REASON_CHARACTERS).rstrip(".")
