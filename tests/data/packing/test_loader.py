from __future__ import annotations

import itertools
import pickle
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from flexbert.config.data import DataConfig
from flexbert.config.masking_choice import (
    MaskingConfig,
    SpanMasking,
    TokenMasking,
    WholeWordMasking,
)
from flexbert.data.format.corpus_format import CorpusError
from flexbert.data.packing.loader import Loader, RankRows, eval_loader
from flexbert.data.packing.position import PackingWindowStart, Position
from flexbert.data.packing.row_stream import NULL_ROW
from flexbert.data.reading.corpus import Corpus, Split
from tests.data.corpora import loader_of_splits, numbered_documents, sequences, write_corpus

Batch = dict[str, Any]
# One masked row: its ids as the model sees them, its masked positions and their labels.
SeenRow = tuple[bytes, bytes, bytes]


def growing(update: int) -> int:
    """A batch size that changes and divides by nothing: 3, 5, 7, 3, ..."""
    return 3 + 2 * (update % 3)


def one_row(update: int) -> int:
    return 1


def loader_of(split: Split, config: DataConfig, **settings: Any) -> Loader:
    defaults: dict[str, Any] = {"rows_per_update": growing, "microbatch_rows": 2}
    return loader_of_splits({"corpus": split}, config, **{**defaults, **settings})


def seen_rows(batch: Batch, row_length: int) -> list[SeenRow]:
    """The rows of a batch, null rows left out."""
    rows = []
    for microbatch in batch["microbatches"]:
        count = microbatch["num_masked"]
        positions = microbatch["masked_positions"][:count].numpy()
        labels = microbatch["labels"][:count].numpy()
        for index, ids in enumerate(microbatch["input_ids"].view(-1, row_length)):
            own = positions // row_length == index
            if own.any():
                where = positions[own] % row_length
                rows.append((ids.numpy().tobytes(), where.tobytes(), labels[own].tobytes()))
    return rows


def global_batches(
    split: Split, config: DataConfig, world_size: int, num_updates: int, **settings: Any
) -> list[Counter[SeenRow]]:
    ranks = [
        itertools.islice(
            loader_of(split, config, rank=rank, world_size=world_size, **settings), num_updates
        )
        for rank in range(world_size)
    ]
    return [
        Counter(row for batch in batches for row in seen_rows(batch, config.row_length))
        for batches in zip(*ranks, strict=True)
    ]


def assert_same_batches(some: Sequence[Batch], others: Sequence[Batch]) -> None:
    for one, other in zip(some, others, strict=True):
        assert one["position"] == other["position"]
        for mine, yours in zip(one["microbatches"], other["microbatches"], strict=True):
            assert mine.keys() == yours.keys()
            for key, value in mine.items():
                assert np.array_equal(value, yours[key]), key


@given(st.integers(1, 50), st.integers(1, 8), st.integers(1, 6))
def test_ranks_share_rows_without_loss_in_equal_microbatches(
    num_rows: int, world_size: int, microbatch_rows: int
) -> None:
    rows = [replace(NULL_ROW, index=index) for index in range(num_rows)]
    ranks = [RankRows(rank, world_size, microbatch_rows) for rank in range(world_size)]
    num_microbatches, size = ranks[0].split(num_rows)
    assert size <= microbatch_rows
    taken = [rank_rows.take(rows, num_microbatches, size) for rank_rows in ranks]
    assert {len(microbatches) for microbatches in taken} == {num_microbatches}
    flat = [row for microbatches in taken for microbatch in microbatches for row in microbatch]
    assert len(flat) == world_size * num_microbatches * size
    own = [row for row in flat if row is not NULL_ROW]
    assert sorted(row.index for row in own) == list(range(num_rows))
    # No more null rows than making everything equal takes.
    assert len(flat) - num_rows < world_size * num_microbatches + world_size


@pytest.mark.parametrize("rows_per_update", [growing, one_row])
@pytest.mark.parametrize("world_size", [2, 3])
def test_any_number_of_processes_sees_the_same_global_batches(
    train_split: Split, small_config: DataConfig, world_size: int, rows_per_update: Any
) -> None:
    alone = global_batches(train_split, small_config, 1, 6, rows_per_update=rows_per_update)
    shared = global_batches(
        train_split, small_config, world_size, 6, rows_per_update=rows_per_update
    )
    assert [sum(batch.values()) for batch in alone] == [rows_per_update(u) for u in range(6)]
    assert shared == alone


@pytest.mark.parametrize("microbatch_rows", [1, 3, 100])
def test_any_microbatch_size_sees_the_same_global_batches(
    train_split: Split, small_config: DataConfig, microbatch_rows: int
) -> None:
    assert global_batches(
        train_split, small_config, 1, 5, microbatch_rows=microbatch_rows
    ) == global_batches(train_split, small_config, 1, 5)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_any_number_of_workers_makes_the_same_batches(
    train_split: Split, small_config: DataConfig, num_workers: int
) -> None:
    with_workers = loader_of(train_split, replace(small_config, num_workers=num_workers))
    expected = list(itertools.islice(loader_of(train_split, small_config), 7))
    assert_same_batches(list(itertools.islice(with_workers, 7)), expected)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("done", [1, 8, 60])
def test_a_batch_carries_the_place_to_go_on_from(
    train_split: Split, small_config: DataConfig, done: int, num_workers: int
) -> None:
    batches = list(itertools.islice(loader_of(train_split, small_config), done + 5))
    position = pickle.loads(pickle.dumps(batches[done - 1]["position"]))
    assert position.update == done
    config = replace(small_config, num_workers=num_workers)
    resumed = loader_of(train_split, config, start=position)
    assert_same_batches(list(itertools.islice(resumed, 5)), batches[done:])


def test_another_number_of_processes_goes_on_with_the_same_stream(
    train_split: Split, small_config: DataConfig
) -> None:
    whole = global_batches(train_split, small_config, 1, 9)
    *_, last = itertools.islice(loader_of(train_split, small_config), 4)
    assert global_batches(train_split, small_config, 2, 5, start=last["position"]) == whole[4:]


def test_an_update_larger_than_the_corpus_wraps_over_epochs(
    tmp_path: Path, small_config: DataConfig
) -> None:
    documents = numbered_documents([20, 30, 40])
    split = Corpus.open(write_corpus(tmp_path / "c", documents)).split("train")
    loader = loader_of(split, small_config, rows_per_update=lambda update: 8)
    batch = next(iter(loader))
    tokens = 7 * (22 + 32 + 42)
    start = PackingWindowStart(7, 7, (21,), (tokens,))
    seen = tokens + 22 + 32 + 42
    assert batch["position"] == Position(packing_window=start, row=1, update=1, tokens=seen)
    found = Counter(s for microbatch in batch["microbatches"] for s in sequences(microbatch))
    assert sorted((len(tokens), count) for tokens, count in found.items()) == [
        (22, 8),
        (32, 8),
        (42, 8),
    ]


def falling(tokens: int, updates: int) -> float:
    """A mask rate that a schedule might give: by tokens for three updates, then by updates."""
    return 0.3 - 0.00001 * tokens if updates < 3 else 0.05


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_update_is_masked_at_its_own_rate(
    train_split: Split, small_config: DataConfig, num_workers: int
) -> None:
    config = replace(small_config, num_workers=num_workers)
    loader = loader_of(train_split, config, mask_rate=falling)
    batches = list(itertools.islice(loader, 5))
    tokens = 0
    for update, batch in enumerate(batches):
        rate = falling(tokens, update)
        new = sum(m["num_tokens"] for m in batch["microbatches"])
        masked = sum(m["num_masked"] for m in batch["microbatches"])
        # Special tokens are never masked; each row rounds by less than one.
        assert masked == pytest.approx(rate * new, rel=0.06, abs=growing(update))
        tokens += new
        assert batch["position"].tokens == tokens
    # Shapes stay those of the highest rate.
    assert len({m["labels"].shape for batch in batches for m in batch["microbatches"][:1]}) == 1
    alone = list(itertools.islice(loader_of(train_split, config), 5))
    for scheduled, constant in zip(batches, alone, strict=True):
        assert scheduled["position"] == constant["position"]


def test_batches_are_tensors_of_the_stated_types(
    train_split: Split, small_config: DataConfig
) -> None:
    (microbatch, *_) = next(iter(loader_of(train_split, small_config)))["microbatches"]
    assert {key: getattr(value, "dtype", type(value)) for key, value in microbatch.items()} == {
        "input_ids": torch.int64,
        "position_ids": torch.int64,
        "cu_seqlens": torch.int32,
        "max_seqlen": int,
        "masked_positions": torch.int64,
        "labels": torch.int64,
        "num_tokens": int,
        "num_masked": int,
    }


@pytest.mark.slow
def test_workers_that_are_spawned_make_the_same_batches(
    train_split: Split, small_config: DataConfig
) -> None:
    loader = loader_of(train_split, small_config)
    spawned = DataLoader(
        loader.dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    assert_same_batches(list(itertools.islice(spawned, 2)), list(itertools.islice(loader, 2)))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_reaches_the_trainer_in_its_own_words(
    small_corpus: Path, small_config: DataConfig, tmp_path: Path, num_workers: int
) -> None:
    folder = Path(shutil.copytree(small_corpus, tmp_path / "copied"))
    split = Corpus.open(folder).split("train")
    for shard in split.folder.glob("*.mds"):
        shard.unlink()
    loader = loader_of(split, replace(small_config, num_workers=num_workers))
    with pytest.raises(CorpusError, match=r"^\S+\.mds: cannot be mapped .*data_prep corpus$"):
        next(iter(loader))


def fail(update: int) -> int:
    raise ZeroDivisionError(f"at update {update}")


def test_an_exception_in_a_worker_surfaces(train_split: Split, small_config: DataConfig) -> None:
    loader = loader_of(train_split, replace(small_config, num_workers=1), rows_per_update=fail)
    with pytest.raises(ZeroDivisionError, match="at update 0"):
        next(iter(loader))


def evaluated(split: Split, config: DataConfig, world_size: int, **settings: Any) -> list[Batch]:
    batches = []
    lengths = set()
    for rank in range(world_size):
        loader = eval_loader(
            split, config, mask_rate=0.15, rank=rank, world_size=world_size, **settings
        )
        own = list(loader)
        assert len(loader) == len(own)
        lengths.add(len(own))
        batches += own
    assert len(lengths) == 1
    return batches


def rows_of(batches: Sequence[Batch], row_length: int) -> Counter[SeenRow]:
    return Counter(row for batch in batches for row in seen_rows(batch, row_length))


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "microbatch_rows"), [(1, 3), (2, 4), (3, 100), (3, 1)])
@pytest.mark.parametrize("max_rows", [None, 1, 7])
def test_evaluation_sees_the_same_rows_on_any_number_of_processes(
    validation_split: Split,
    small_config: DataConfig,
    world_size: int,
    microbatch_rows: int,
    max_rows: int | None,
) -> None:
    alone = evaluated(validation_split, small_config, 1, microbatch_rows=1, max_rows=max_rows)
    shared = evaluated(
        validation_split,
        small_config,
        world_size,
        microbatch_rows=microbatch_rows,
        max_rows=max_rows,
    )
    row_length = small_config.row_length
    assert rows_of(shared, row_length) == rows_of(alone, row_length)
    shapes = {batch["microbatches"][0]["input_ids"].shape for batch in shared}
    assert len(shapes) == 1
    if max_rows is not None:
        assert sum(rows_of(alone, row_length).values()) == max_rows


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_passes_over_every_document_once_and_again(
    validation_split: Split, small_config: DataConfig, num_workers: int
) -> None:
    config = replace(small_config, num_workers=num_workers)
    loader = eval_loader(validation_split, config, mask_rate=0.15, microbatch_rows=4)
    passes = [
        [tokens for batch in loader for tokens in sequences(batch["microbatches"][0])]
        for _ in range(2)
    ]
    assert passes[0] == passes[1]
    assert sum(len(tokens) - 2 for tokens in passes[0]) == validation_split.num_tokens


def test_an_empty_validation_split_is_refused(tmp_path: Path, small_config: DataConfig) -> None:
    folder = write_corpus(tmp_path / "c", numbered_documents([3]))
    split = Corpus.open(folder).split("validation")
    with pytest.raises(CorpusError, match="validation: this split has no documents"):
        eval_loader(split, small_config, mask_rate=0.15, microbatch_rows=1)


@pytest.mark.parametrize("masking", [WholeWordMasking(), SpanMasking()])
def test_words_and_spans_are_masked_alike_on_any_processes_workers_and_restarts(
    train_split: Split, small_config: DataConfig, masking: MaskingConfig
) -> None:
    config = replace(small_config, masking=masking)
    expected = global_batches(train_split, config, 1, 6)
    assert global_batches(train_split, config, 3, 6) == expected
    assert expected != global_batches(train_split, small_config, 1, 6)
    workers = replace(config, num_workers=2)
    alone = list(itertools.islice(loader_of(train_split, config), 6))
    assert_same_batches(list(itertools.islice(loader_of(train_split, workers), 6)), alone)
    again = loader_of(train_split, config, start=alone[2]["position"])
    assert_same_batches(list(itertools.islice(again, 3)), alone[3:])


def test_words_and_spans_mask_as_many_tokens_of_a_row(
    train_split: Split, small_config: DataConfig
) -> None:
    counts = [
        [
            microbatch["num_masked"]
            for batch in itertools.islice(loader_of(train_split, config), 20)
            for microbatch in batch["microbatches"]
        ]
        for masking in (TokenMasking(), WholeWordMasking(), SpanMasking())
        for config in [replace(small_config, masking=masking)]
    ]
    assert counts[0] == counts[1] == counts[2]


def test_evaluation_masks_single_tokens_unless_asked(
    validation_split: Split, small_config: DataConfig
) -> None:
    def labels(config: DataConfig, **settings: Any) -> list[bytes]:
        loader = eval_loader(validation_split, config, mask_rate=0.3, microbatch_rows=2, **settings)
        return [m["labels"].numpy().tobytes() for batch in loader for m in batch["microbatches"]]

    spans = replace(small_config, masking=SpanMasking())
    assert labels(spans) == labels(small_config)
    assert labels(spans, masking=spans.masking) != labels(small_config)
    assert labels(small_config, masking=spans.masking) == labels(spans, masking=spans.masking)
