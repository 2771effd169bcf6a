from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flexbert.config.data import DataConfig, MaskSplit
from flexbert.config.training import IGNORE
from flexbert.data.format.corpus_format import CorpusError
from flexbert.data.packing.masking import Masker
from flexbert.data.packing.microbatches import ChunkRanges, Microbatch, MicrobatchBuilder
from flexbert.data.packing.microbatches import training_builder as training_builder_of
from flexbert.data.packing.position import StreamKey
from flexbert.data.packing.row_stream import (
    NULL_ROW,
    Row,
    RowLayout,
    RowStream,
    evaluation_stream,
    training_stream,
)
from flexbert.data.reading.corpus import Corpus, Split
from tests.data.corpora import FIRST_ORDINARY, SPECIAL, original_ids, sequences, write_corpus


def training_builder(
    split: Split, config: DataConfig, seed: int = 1, stage: str = "pretrain"
) -> tuple[RowStream, MicrobatchBuilder]:
    key = StreamKey(seed, stage)
    splits = {"corpus": split}
    stream = training_stream(splits, config, key)
    return stream, training_builder_of(stream, splits, config, key)


def rows_between(stream: RowStream, first: int, end: int) -> list[Row]:
    """All rows of the windows from ``first`` up to ``end``."""
    windows = itertools.islice(stream.packing_windows(), first, end)
    return [window.row(index) for window in windows for index in range(window.num_rows)]


def first_microbatch(
    split: Split, config: DataConfig, num_rows: int = 12
) -> tuple[RowLayout, Microbatch]:
    stream, builder = training_builder(split, config)
    return stream.layout, builder.build(list(itertools.islice(stream.rows(), num_rows)))


def masked_by_sequence(stream: RowStream, builder: MicrobatchBuilder) -> dict:
    """What evaluation masks in each sequence of a pass: its tokens to (positions, new ids)."""
    found = {}
    for row in rows_between(stream, 0, stream.packing_windows_per_epoch):
        microbatch = builder.build([row])
        selected = np.zeros(stream.layout.row_length, bool)
        selected[microbatch["masked_positions"][: microbatch["num_masked"]]] = True
        begin = 0
        for tokens in sequences(microbatch):
            chunk = slice(begin, begin + len(tokens))
            found[tokens] = (selected[chunk].tobytes(), microbatch["input_ids"][chunk].tobytes())
            begin += len(tokens)
    return found


def test_an_epoch_has_every_token_of_every_document_exactly_once(
    train_split: Split, small_config: DataConfig
) -> None:
    stream, builder = training_builder(train_split, small_config)
    windows = stream.packing_windows_per_epoch
    numbers = np.arange(train_split.num_documents)
    corpus = train_split.gather(
        numbers, np.zeros_like(numbers), train_split.lengths.astype(np.int64)
    )
    for epoch in range(2):
        rows = rows_between(stream, epoch * windows, (epoch + 1) * windows)
        chunks = [tokens[1:-1] for tokens in sequences(builder.build(rows))]
        seen = np.concatenate(chunks)
        assert len(seen) == train_split.num_tokens
        np.testing.assert_array_equal(np.sort(seen), np.sort(corpus))


def test_a_chunk_stands_between_cls_and_sep(train_split: Split, small_config: DataConfig) -> None:
    _, microbatch = first_microbatch(train_split, small_config)
    for tokens in sequences(microbatch):
        assert 3 <= len(tokens) <= small_config.max_length
        assert (tokens[0], tokens[-1]) == (SPECIAL.cls, SPECIAL.sep)
        assert min(tokens[1:-1]) >= FIRST_ORDINARY
        # Tokens of a document count on in this corpus.
        assert tokens[1:-1] == tuple(range(tokens[1], tokens[1] + len(tokens) - 2))


@pytest.mark.parametrize(("max_length", "row_length"), [(128, 128), (64, 200), (500, 1024)])
def test_shapes_are_static_and_padding_is_its_own_sequences(
    train_split: Split, small_config: DataConfig, max_length: int, row_length: int
) -> None:
    config = replace(small_config, max_length=max_length, row_length=row_length)
    layout, microbatch = first_microbatch(train_split, config, num_rows=5)
    num_tokens = 5 * row_length
    boundaries = microbatch["cu_seqlens"]
    assert boundaries.dtype == np.int32
    assert len(boundaries) == 5 * layout.num_sequences + 1
    assert boundaries[0] == 0
    assert boundaries[-1] == num_tokens
    lengths = np.diff(boundaries)
    assert 0 <= lengths.min() <= lengths.max() <= max_length == microbatch["max_seqlen"]
    # Rows begin new sequences, and unused sequences stand at the end.
    assert set(range(0, num_tokens, row_length)) <= set(boundaries.tolist())
    assert not lengths[np.argmin(lengths > 0) :].any() or lengths.min() > 0
    # Padding fills whole sequences, and positions count within each.
    ids = original_ids(microbatch)
    for begin, end in itertools.pairwise(np.unique(boundaries)):
        assert len(set((ids[begin:end] == SPECIAL.pad).tolist())) == 1
        np.testing.assert_array_equal(microbatch["position_ids"][begin:end], np.arange(end - begin))
    assert microbatch["num_tokens"] == (ids != SPECIAL.pad).sum()
    assert len(ids) == len(microbatch["position_ids"]) == num_tokens


def test_labels_are_the_original_ids_of_ordinary_tokens_only(
    train_split: Split, small_config: DataConfig
) -> None:
    _, microbatch = first_microbatch(train_split, small_config)
    count = microbatch["num_masked"]
    labels, positions = microbatch["labels"], microbatch["masked_positions"]
    assert len(labels) == len(positions) == 12 * (int(0.3 * small_config.row_length) + 1)
    assert (labels[:count] >= FIRST_ORDINARY).all()
    assert (np.diff(positions[:count]) > 0).all()
    assert (labels[count:] == IGNORE).all()
    assert not positions[count:].any()
    num_ordinary = (original_ids(microbatch) >= FIRST_ORDINARY).sum()
    assert count == pytest.approx(0.3 * num_ordinary, abs=12)
    untouched = np.ones(len(microbatch["input_ids"]), bool)
    untouched[positions[:count]] = False
    assert (microbatch["input_ids"][untouched] != SPECIAL.mask).all()


def test_a_null_row_is_padding_that_weighs_nothing(
    train_split: Split, small_config: DataConfig
) -> None:
    _, builder = training_builder(train_split, small_config)
    microbatch = builder.build([NULL_ROW, NULL_ROW])
    assert (microbatch["input_ids"] == SPECIAL.pad).all()
    assert microbatch["num_tokens"] == microbatch["num_masked"] == 0
    assert np.diff(microbatch["cu_seqlens"]).max() == small_config.max_length


def test_a_row_is_the_same_whichever_microbatch_it_is_in(
    train_split: Split, small_config: DataConfig
) -> None:
    stream, builder = training_builder(train_split, small_config)
    rows = list(itertools.islice(stream.rows(), 4))
    together = builder.build(rows)["input_ids"].reshape(4, -1)
    for row, expected in zip(rows, together, strict=True):
        np.testing.assert_array_equal(builder.build([row])["input_ids"], expected)


def test_a_stream_goes_on_from_any_row(train_split: Split, small_config: DataConfig) -> None:
    stream, _ = training_builder(train_split, small_config)
    rows = list(itertools.islice(stream.rows(), 300))
    assert rows[-1].start.index > 2
    for start in (1, 150, 250):
        after = rows[start - 1]
        resumed = itertools.islice(stream.rows(after.start, after.index + 1), 10)
        for row, expected in zip(resumed, rows[start:], strict=False):
            assert (row.start, row.index) == (expected.start, expected.index)
            np.testing.assert_array_equal(row.drawn.numbers, expected.drawn.numbers)


def test_stages_and_epochs_order_and_mask_differently(
    train_split: Split, small_config: DataConfig
) -> None:
    batches = []
    for stage in ("pretrain", "extend"):
        stream, builder = training_builder(train_split, small_config, stage=stage)
        batches += [builder.build(rows_between(stream, n, n + 1)[:1]) for n in (0, 50)]
    for one, other in itertools.combinations(batches, 2):
        assert not np.array_equal(original_ids(one), original_ids(other))
        assert not np.array_equal(one["masked_positions"], other["masked_positions"])


@pytest.mark.parametrize("row_length", [128, 1000])
def test_evaluation_masks_a_chunk_alike_in_rows_of_any_length(
    validation_split: Split, small_config: DataConfig, row_length: int
) -> None:
    found = []
    for config in (small_config, replace(small_config, row_length=row_length, packing_window=17)):
        stream = evaluation_stream(validation_split, config)
        masker = Masker(validation_split.meta, 0.15, MaskSplit(), at_least_one=False)
        builder = MicrobatchBuilder(stream, masker, ChunkRanges())
        found.append(masked_by_sequence(stream, builder))
    assert found[0] == found[1]


def test_an_id_beyond_the_vocabulary_names_the_document(
    tmp_path: Path, small_config: DataConfig
) -> None:
    documents = [np.arange(20, 30), np.array([20, 100, 20])]
    folder = write_corpus(tmp_path / "c", documents, vocab_size=100)
    split = Corpus.open(folder).split("train")
    with pytest.raises(CorpusError, match="train: document 1 has a token id"):
        first_microbatch(split, small_config, num_rows=1)


def test_a_corpus_of_one_token_trains(tmp_path: Path, small_config: DataConfig) -> None:
    folder = write_corpus(tmp_path / "c", [np.array([77])])
    _, microbatch = first_microbatch(Corpus.open(folder).split("train"), small_config, num_rows=3)
    assert sequences(microbatch) == [(SPECIAL.cls, 77, SPECIAL.sep)] * 3
    assert microbatch["num_masked"] == 3
