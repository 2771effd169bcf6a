"""The same documents as our training batches, and padded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flexbert.config.data import DataConfig
from flexbert.config.training import IGNORE
from flexbert.data.packing.loader import train_loader
from flexbert.data.packing.microbatches import training_builder
from flexbert.data.packing.position import StreamKey
from flexbert.data.packing.row_stream import training_stream
from flexbert.data.reading.corpora import Corpora
from flexbert.data.sampling.samplers import PermutationConfig

Part = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """Ids with masks in them, and labels: ``[T]``."""

    input_ids: Tensor
    labels: Tensor


def our_updates(
    folder: Path,
    *,
    max_length: int,
    row_length: int,
    mask_rate: float,
    rows: int,
    microbatch_rows: int,
) -> Iterator[list[Part]]:
    """The micro-batches of one update after the other, from a corpus.

    Args:
        rows: of an update,
        microbatch_rows: and of a micro-batch.
    """
    config = DataConfig(
        path=folder,
        sampler=PermutationConfig(),
        mask_rate=mask_rate,
        max_length=max_length,
        row_length=row_length,
        num_workers=0,
    )
    splits = {"corpus": Corpora.open(config).first.split("train")}
    key = StreamKey(0, "benchmark")
    stream = training_stream(splits, config, key)
    loader = train_loader(
        stream,
        training_builder(stream, splits, config, key),
        config,
        rows_per_update=lambda update: rows,
        microbatch_rows=microbatch_rows,
    )
    for batch in loader:
        yield batch["microbatches"]


def representative(updates: Iterable[list[Part]], count: int) -> list[list[Part]]:
    """As many updates, of micro-batches that are spread evenly over all of them by length.

    Rows hold documents of similar lengths; of a run's many rows in random order, a few may be
    anything.
    """
    updates = list(updates)
    parts = sorted(itertools.chain(*updates), key=_num_documents)
    wanted = count * len(updates[0])
    step = len(parts) // wanted
    chosen = parts[step // 2 :: step][:wanted]
    return [chosen[i::count] for i in range(count)]


def _num_documents(part: Part) -> int:
    return int(part["cu_seqlens"].diff().count_nonzero())


def documents_of(microbatches: Sequence[Part], cls: int) -> list[Document]:
    """In random order: in rows they lie by length."""
    found = []
    for part in microbatches:
        input_ids = part["input_ids"]
        labels = torch.full_like(input_ids, IGNORE)
        is_label = part["labels"] != IGNORE
        labels[part["masked_positions"][is_label]] = part["labels"][is_label]
        for begin, end in itertools.pairwise(part["cu_seqlens"].tolist()):
            if begin < end and input_ids[begin] == cls:
                found.append(Document(input_ids[begin:end], labels[begin:end]))
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order]


def padded(documents: Sequence[Document], size: int, pad: int) -> list[Part]:
    """Batches of ``size``, each padded to its longest."""

    def stack(tensors: Sequence[Tensor], value: int) -> Tensor:
        return nn.utils.rnn.pad_sequence(list(tensors), batch_first=True, padding_value=value)

    groups = [documents[i : i + size] for i in range(0, len(documents), size)]
    return [
        {
            "input_ids": stack([d.input_ids for d in group], pad),
            "attention_mask": stack([torch.ones_like(d.input_ids) for d in group], 0),
            "labels": stack([d.labels for d in group], IGNORE),
        }
        for group in groups
    ]


def by_length(documents: Sequence[Document]) -> list[Document]:
    return sorted(documents, key=lambda document: len(document.input_ids))
