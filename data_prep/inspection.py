"""``python -m data_prep inspect``: look at a corpus, and check that it is what was written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corpus_report import format_counts
from data_prep.encoding import load_backend
from data_prep.survey import LengthCounts, count_labels, label_record
from flexbert.data.format.corpus_format import LABELS_FILE, TOKENIZER_FOLDER, CorpusError
from flexbert.data.reading.corpus import Corpus, Split
from flexbert.data.reading.split_documents import BLOCK_DOCUMENTS, read_blocks
from flexbert.errors import UserError, did_you_mean

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BAR_WIDTH = 40


def describe_corpus(corpus: Path, *, split: str, num_samples: int) -> dict[str, Any]:
    """Counts, length statistics and sample documents of one split, as plain JSON.

    Args:
        num_samples: how many documents to decode, evenly spaced over the split.

    Raises:
        UserError: if there is no such corpus or split, or a file of it is missing or corrupt.
    """
    opened = Corpus.open(corpus)
    meta = opened.meta
    if split not in meta.splits:
        raise UserError(f"--split {split}: {did_you_mean(split, meta.splits)}")
    chosen = opened.split(split, verify_hashes=False)
    lengths = LengthCounts()
    for first in range(0, chosen.num_documents, BLOCK_DOCUMENTS):
        lengths.add(chosen.lengths[first : first + BLOCK_DOCUMENTS])
    return {
        "vocab_size": meta.vocab_size,
        "dtype": meta.dtype.name,
        "special_ids": asdict(meta.special_ids),
        "reserved_ids": len(meta.reserved_ids),
        "splits": {name: asdict(counts) for name, counts in meta.splits.items()},
        "split": split,
        "labels": label_record(count_labels(chosen.labels, chosen.lengths, meta.labels)),
        "length_quantiles": {
            f"{quantile:.0%}": int(value)
            for quantile, value in zip(
                QUANTILES, np.quantile(chosen.lengths, QUANTILES), strict=True
            )
        },
        "length_histogram": lengths.histogram(),
        "samples": _samples(chosen, num_samples),
    }


def verify_corpus(corpus: Path) -> None:
    """Compare shard hashes, lengths, labels, counts and the tokenizer with what was recorded.

    Raises:
        UserError: naming the first file that differs.
    """
    opened = Corpus.open(corpus)
    for name in opened.meta.splits:
        split = opened.split(name, verify_hashes=True)
        split.check_lengths()
        if len(split.labels) and split.labels.max() >= len(opened.meta.labels):
            raise CorpusError(f"{split.folder / LABELS_FILE}: labels that corpus.json lacks")
        for tokens, _ in read_blocks(split):
            if tokens.max() >= opened.meta.vocab_size:
                raise CorpusError(f"{split.folder}: ids beyond the vocabulary; corrupt")


def format_description(description: dict[str, Any]) -> str:
    """The description as lines for people."""
    special = ", ".join(f"{role} {id_}" for role, id_ in description["special_ids"].items())
    lines = [
        f"vocabulary   {description['vocab_size']:,} ids as {description['dtype']}, "
        f"{description['reserved_ids']} of them reserved; {special}",
        *format_counts(description["splits"], width=12),
    ]
    if description["labels"]:
        lines.append(f"\nlabels in {description['split']}")
        lines.extend(format_counts(description["labels"], width=12))
    lines += [
        f"\ntokens a document in {description['split']}",
        "  ".join(f"{name} {value:,}" for name, value in description["length_quantiles"].items()),
    ]
    histogram = description["length_histogram"]
    bins, counts = histogram["bins"], histogram["documents"]
    for begin, end, count in zip(bins[:-1], bins[1:], counts, strict=True):
        bar = "#" * round(BAR_WIDTH * count / max(counts))
        lines.append(f"{f'{begin}-{end - 1}':>15} {bar} {count:,}")
    for sample in description["samples"]:
        lines.append(f"\n--- document {sample['document']}, {sample['tokens']:,} tokens")
        lines.append(sample["text"])
    return "\n".join(lines)


def _samples(split: Split, number: int) -> list[dict[str, Any]]:
    backend = load_backend(split.folder.parent / TOKENIZER_FOLDER / "tokenizer.json")
    wanted = np.unique(np.linspace(0, split.num_documents - 1, number).astype(np.int64))
    lengths = split.lengths[wanted].astype(np.int64)
    tokens = np.split(
        split.gather(wanted, np.zeros_like(lengths), lengths), np.cumsum(lengths)[:-1]
    )
    samples = []
    for document, ids in zip(wanted.tolist(), tokens, strict=False):
        text = backend.decode(ids.tolist(), skip_special_tokens=False)
        samples.append({"document": document, "tokens": len(ids), "text": text})
    return samples
