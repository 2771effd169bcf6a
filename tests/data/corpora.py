"""Small corpora and helpers for the tests of flexbert.data, written as data_prep writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from streaming import MDSWriter

from flexbert.config.data import DataConfig
from flexbert.data.format.corpus_format import (
    COLUMN,
    LABELS_FILE,
    LENGTHS_FILE,
    SHARD_HASH,
    SPLITS,
    TOKENIZER_FOLDER,
    CorpusMeta,
    SpecialIds,
    SplitMeta,
    token_dtype,
    tokenizer_sha256,
)
from flexbert.data.packing.loader import Loader, train_loader
from flexbert.data.packing.microbatches import training_builder
from flexbert.data.packing.position import StreamKey
from flexbert.data.packing.row_stream import training_stream
from flexbert.data.reading.corpus import Split

# Ids 0 to 4 are special and 5 to 9 unused; text has the others.
SPECIAL = SpecialIds(cls=1, sep=2, pad=0, mask=3, unk=4)
RESERVED = tuple(range(10))
FIRST_ORDINARY = len(RESERVED)


def numbered_documents(lengths: Sequence[int], vocab_size: int = 60_000) -> list[np.ndarray]:
    """Documents whose tokens differ from each other, as far as the vocabulary reaches."""
    ordinary = np.arange(FIRST_ORDINARY, vocab_size)
    tokens = np.resize(ordinary, sum(lengths)).astype(token_dtype(vocab_size))
    return np.split(tokens, np.cumsum(lengths)[:-1])


def write_corpus(
    folder: Path,
    train: Sequence[np.ndarray],
    validation: Sequence[np.ndarray] = (),
    *,
    vocab_size: int = 60_000,
    shard_bytes: int = 1 << 14,
    labels: Sequence[str] = (),
    words: bool = False,
) -> Path:
    """A finished corpus of these documents; ``labels`` are the training documents'.

    Args:
        words: whether its tokenizer shows where words begin: at every third id.
    """
    documents = dict(zip(SPLITS, (train, validation), strict=True))
    dtype = token_dtype(vocab_size)
    for name, split in documents.items():
        with MDSWriter(
            out=str(folder / name),
            columns={COLUMN: f"ndarray:{dtype.name}"},
            hashes=[SHARD_HASH],
            size_limit=shard_bytes,
        ) as writer:
            for document in split:
                writer.write({COLUMN: np.asarray(document, dtype)})
        np.array([len(d) for d in split], "<u4").tofile(folder / name / LENGTHS_FILE)
    known = tuple(sorted(set(labels)))
    if labels:
        numbers = [known.index(label) for label in labels]
        np.array(numbers, np.uint8).tofile(folder / "train" / LABELS_FILE)
        np.zeros(len(validation), np.uint8).tofile(folder / "validation" / LABELS_FILE)
    tokenizer = folder / TOKENIZER_FOLDER
    tokenizer.mkdir()
    vocabulary = {f"{'##' * (id_ % 3 > 0)}{id_}": id_ for id_ in range(vocab_size)} if words else {}
    model = {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": vocabulary}
    (tokenizer / "tokenizer.json").write_text(json.dumps({"size": vocab_size, "model": model}))
    CorpusMeta(
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        vocab_size=vocab_size,
        special_ids=SPECIAL,
        reserved_ids=RESERVED,
        splits={
            name: SplitMeta(documents=len(split), tokens=sum(len(d) for d in split))
            for name, split in documents.items()
        },
        tokenizer_files=("tokenizer.json",),
        labels=known,
    ).write(folder)
    return folder


def loader_of_splits(
    splits: Mapping[str, Split],
    config: DataConfig,
    seed: int = 1,
    stage: str = "pretrain",
    **settings: Any,
) -> Loader:
    """The training loader of a stage."""
    key = StreamKey(seed, stage)
    stream = training_stream(splits, config, key)
    builder = training_builder(stream, splits, config, key)
    return train_loader(stream, builder, config, **settings)


def original_ids(microbatch: Mapping[str, Any]) -> np.ndarray:
    """The tokens of a micro-batch before they were masked."""
    ids = np.array(microbatch["input_ids"])
    count = microbatch["num_masked"]
    positions, labels = microbatch["masked_positions"], microbatch["labels"]
    ids[np.array(positions[:count])] = np.array(labels[:count])
    return ids


def sequences(microbatch: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The unmasked tokens of every sequence that is not padding, special tokens included."""
    ids = original_ids(microbatch)
    sequences = np.split(ids, np.unique(np.array(microbatch["cu_seqlens"]))[1:-1])
    return [tuple(sequence.tolist()) for sequence in sequences if sequence[0] != SPECIAL.pad]
