"""A task's splits: their rows read and checked once, then in each model's tokens."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError, UserError, config_errors_under, user_errors_at
from flexbert.huggingface.tokenizer import load_tokenizer
from flexbert.tasks.encoded_split import EncodedSplit
from flexbert.tasks.encoded_tasks import check_tokenizer, encode_split
from flexbert.tasks.kinds.kind import Examples, TaskKind
from flexbert.tasks.predictions_file import SplitPredictions
from flexbert.tasks.results import VALIDATION, FitData
from flexbert.tasks.scoring import require_metrics, score
from flexbert.tasks.suite import Task
from flexbert.tasks.tables import Table, TaskRow, read_table, row_text

TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class TaskExamples:
    """A task's examples as text, the same for every model.

    Attributes:
        names: of its classes.
        splits: ``train``, ``validation``, and the tests by their names.
        data: where each split is from.
    """

    kind: TaskKind
    names: tuple[str, ...]
    splits: Mapping[str, Examples]
    data: Mapping[str, FitData]


@dataclass(frozen=True, kw_only=True)
class EncodedTask:
    """A task's examples in a model's tokens."""

    kind: TaskKind
    names: tuple[str, ...]
    splits: Mapping[str, EncodedSplit]

    @property
    def train(self) -> EncodedSplit:
        return self.splits[TRAIN]

    @property
    def validation(self) -> EncodedSplit:
        return self.splits[VALIDATION]

    def predictions(self, split: str, scores: Sequence[np.ndarray]) -> SplitPredictions:
        """What the logits of a split's examples predict, and what is right."""
        return self.kind.predictions(self.splits[split], scores)

    def score(
        self, split: str, scores: Sequence[np.ndarray], metrics: Sequence[str]
    ) -> dict[str, float]:
        """Metrics of a split by name."""
        found = self.predictions(split, scores)
        return score(metrics, self.kind.name, found, self.names)


def read_task(task: Task) -> TaskExamples:
    """A task's rows, each checked.

    Raises:
        UserError: if a source cannot be read, or a row is none of the task's.
    """
    settings, kind = task.settings, task.settings.kind
    tables = {TRAIN: read_table(settings.data.train)}
    whole = tables[TRAIN]
    if settings.data.validation is None:
        tables[TRAIN], tables[VALIDATION] = held_out(tables[TRAIN], settings.data.validation_share)
    else:
        tables[VALIDATION] = read_table(settings.data.validation)
    for name, source in settings.data.tests.items():
        if name in tables:
            raise ConfigError(f"tasks.{task.name}.data.tests.{name}", "is a name of another split")
        tables[name] = read_table(source)
    for table in (whole, *tables.values()):
        kind.check_columns(table)
    tables |= {name: some_rows(tables[name], most) for name, most in settings.data.rows.items()}
    # A class may have all of its rows among those held out.
    names = kind.names_in(whole)
    with config_errors_under(f"tasks.{task.name}"), user_errors_at("metrics"):
        require_metrics(kind.name, settings.metrics, names)
    return TaskExamples(
        kind=kind,
        names=names,
        splits={name: kind.examples(table, names) for name, table in tables.items()},
        data={
            name: FitData(source=table.source, fingerprint=table.fingerprint)
            for name, table in tables.items()
        },
    )


def held_out(table: Table, share: float) -> tuple[Table, Table]:
    """A table without a share of its rows, and these: the same ones in whatever order they stand.

    Equal rows stay together.

    Raises:
        UserError: if one of the two would be empty.
    """
    keys = [_row_key(row) for row in table.rows]
    distinct = sorted(set(keys))
    chosen = set(distinct[: max(1, round(share * len(distinct)))])
    kept = [row for row, key in zip(table.rows, keys, strict=True) if key not in chosen]
    held = [row for row, key in zip(table.rows, keys, strict=True) if key in chosen]
    if not kept:
        raise UserError(
            f"{table.source}: too few rows ({len(table.rows)}) to hold some out for validation"
        )
    return (
        replace(table, rows=kept),
        Table(source=f"{table.source} ({len(held):,} rows held out)", rows=held),
    )


def some_rows(table: Table, most: int) -> Table:
    """A table with so many of its rows at most, the same ones in whatever order they stand."""
    if len(table.rows) <= most:
        return table
    keys = [_row_key(row) for row in table.rows]
    last = sorted(keys)[most - 1]
    rows = [row for row, key in zip(table.rows, keys, strict=True) if key <= last][:most]
    return replace(table, rows=rows)


def encode_task(
    examples: TaskExamples,
    config: ModelConfig,
    tokenizer: Mapping[str, str],
    max_length: int,
    model: str,
) -> EncodedTask:
    """A task in a model's tokens.

    Args:
        tokenizer: the model's, file name to text.
        model: what it is called in messages.

    Raises:
        UserError: as :func:`check_model`, or if the tokenizer makes tokens that the model has not.
    """
    check_model(examples, config, tokenizer, max_length, model)
    loaded = loaded_tokenizer(tokenizer)
    has_types = getattr(config.embedding, "token_types", 0) >= 2
    splits = {
        name: encode_split(split, examples.kind, loaded, max_length, token_types=has_types)
        for name, split in examples.splits.items()
    }
    highest = max(int(split.tokens.max()) for split in splits.values())
    if highest >= config.vocab_size:
        raise UserError(
            f"{model}: its tokenizer makes token {highest}, and the model has {config.vocab_size}"
        )
    return EncodedTask(kind=examples.kind, names=examples.names, splits=splits)


def check_model(
    examples: TaskExamples,
    config: ModelConfig,
    tokenizer: Mapping[str, str],
    max_length: int,
    model: str,
) -> None:
    """Refuse a model that cannot be given a task's texts: see :func:`encode_task`.

    Raises:
        UserError: if the model has no tokenizer that does, or cannot take texts of this length.
    """
    if not tokenizer:
        raise UserError(f"{model}: holds no tokenizer")
    most = config.embedding.max_length
    if most is not None and max_length > most:
        raise UserError(
            f"{model}: takes texts of up to {most} tokens, and max_length is {max_length}"
        )
    pairs = any(split.second is not None for split in examples.splits.values())
    check_tokenizer(loaded_tokenizer(tokenizer), model, max_length, pairs=pairs)


def loaded_tokenizer(texts: Mapping[str, str]) -> Any:
    """A model's tokenizer; the last one is kept, as loading it goes through a folder."""
    return _loaded(tuple(sorted(texts.items())))


@functools.lru_cache(maxsize=1)
def _loaded(texts: tuple[tuple[str, str], ...]) -> Any:
    return load_tokenizer(dict(texts))


def _row_key(row: TaskRow) -> str:
    return hashlib.sha256(row_text(row).encode()).hexdigest()
