"""Write the documents of a split: its lengths and labels, then its shards on all cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.phase_progress import PhaseProgress
from data_prep.selection import Selection
from data_prep.shards import ShardFormat, ShardLayout, write_index
from flexbert.data.format.corpus_format import LABELS_FILE, LENGTHS_FILE
from flexbert.files.durable import write_durably


def write_split(
    split: Path,
    selection: Selection,
    form: ShardFormat,
    *,
    labels: Sequence[str] | None,
    workers: int,
    quiet: bool,
) -> None:
    """Write a split; shards that an interrupted run has finished are kept.

    Args:
        labels: the names that ``labels.u8`` numbers; None where documents have no labels.
        workers: threads to write with; each holds one block of documents.
    """
    split.mkdir(exist_ok=True)
    for leftover in split.glob(".*.tmp"):
        leftover.unlink()
    writer = _SplitWriter(split, selection, form)
    layouts = list(form.layouts(writer.write_columns(labels)))
    progress = PhaseProgress(
        f"write {split.name}",
        total=sum(layout.documents for layout in layouts),
        unit=" documents",
        quiet=quiet,
    )
    entries = []
    with progress, ThreadPoolExecutor(workers) as pool:
        try:
            for layout, entry in zip(layouts, pool.map(writer.write_shard, layouts), strict=True):
                entries.append(entry)
                progress.update(layout.documents)
        finally:
            pool.shutdown(cancel_futures=True)
    write_index(split, entries)


class _SplitWriter:
    """Finds the documents of each shard in the parts."""

    def __init__(self, split: Path, selection: Selection, form: ShardFormat) -> None:
        self.split = split
        self.selection = selection
        self.form = form
        self.first_documents = np.zeros(len(selection.parts) + 1, np.int64)

    def write_columns(self, labels: Sequence[str] | None) -> Iterator[np.ndarray]:
        """Write ``lengths.u32`` and ``labels.u8``; hand on the lengths, block by block."""
        numbers = {name: number for number, name in enumerate(labels or ())}
        with ExitStack() as stack:
            lengths_file = stack.enter_context(write_durably(self.split / LENGTHS_FILE))
            if labels is not None:
                labels_file = stack.enter_context(write_durably(self.split / LABELS_FILE))
            for number, part in enumerate(self.selection.parts):
                documents = int(self.first_documents[number])
                # A label that only left-out documents bear has no number, and is not asked for.
                renumbered = np.array([numbers.get(name, 0) for name in part.labels or ()], "u1")
                for chosen in self.selection.blocks(number):
                    lengths = chosen.lengths
                    documents += len(lengths)
                    lengths.tofile(lengths_file)
                    if labels is not None:
                        renumbered[chosen.labels].tofile(labels_file)
                    yield lengths
                self.first_documents[number + 1] = documents

    def write_shard(self, layout: ShardLayout) -> dict[str, Any]:
        lengths = np.fromfile(
            self.split / LENGTHS_FILE, "<u4", layout.documents, offset=4 * layout.first
        )
        return self.form.write_shard(self.split, layout, lengths, self._blocks(layout))

    def _blocks(self, layout: ShardLayout) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(tokens, lengths) of a shard's documents, in blocks."""
        part = int(np.searchsorted(self.first_documents, layout.first, side="right")) - 1
        skip = layout.first - int(self.first_documents[part])
        left = layout.documents
        while left:
            for chosen in self.selection.blocks(part):
                documents = np.flatnonzero(chosen.mask)
                wanted = documents[skip : skip + left]
                skip -= min(skip, len(documents))
                left -= len(wanted)
                if len(wanted):
                    mask = np.zeros_like(chosen.mask)
                    mask[wanted] = True
                    narrowed = replace(chosen, mask=mask)
                    yield narrowed.tokens(self.form.dtype), narrowed.lengths
                if not left:
                    return
            part += 1
