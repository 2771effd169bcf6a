"""``python -m data_prep inspect``: look at a corpus, and check that it is what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corpus_report import format_counts
from data_prep.encoding import load_backend
from data_prep.survey import LengthCounts, count_by_name, label_record
from flexbert.data.format.corpus_format import LABELS_FILE, TOKENIZER_FOLDER, CorpusError
from flexbert.data.reading.corpus import Corpus, Split
from flexbert.data.reading.split_documents import BLOCK_DOCUMENTS, read_blocks
from flexbert.errors import UserError, did_you_mean

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BAR_WIDTH = 40
# Of the text for people: with three documents it is about a screen.
MOST_BARS = 8
SHOWN_CHARACTERS, SHOWN_LINES = 240, 3


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
        "labels": label_record(count_by_name(chosen.labels, chosen.lengths, meta.labels)),
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


def format_description(description: dict[str, Any], *, characters: int = SHOWN_CHARACTERS) -> str:
    """The description as lines for people, about a screen of them.

    Args:
        characters: of each document, at most; more than ``SHOWN_CHARACTERS`` are shown with all
            their lines.
    """
    special = ", ".join(f"{role} {id_}" for role, id_ in description["special_ids"].items())
    lines = [
        f"vocabulary   {description['vocab_size']:,} ids as {description['dtype']}, "
        f"{description['reserved_ids']} of them reserved; {special}",
        *format_counts(description["splits"], width=12),
    ]
    if description["labels"]:
        lines.append(f"\nlabels in {description['split']}")
        labels = list(format_counts(description["labels"], width=12))
        lines.extend(labels[:MOST_BARS])
        if len(labels) > MOST_BARS:
            lines.append(f"... {len(labels) - MOST_BARS} more labels: --json")
    lines += [
        f"\ntokens a document in {description['split']}",
        "  ".join(f"{name} {value:,}" for name, value in description["length_quantiles"].items()),
        *_bars(description["length_histogram"]),
    ]
    for sample in description["samples"]:
        lines.append(f"\n--- document {sample['document']}, {sample['tokens']:,} tokens")
        lines.append(_shown(sample["text"], characters))
    return "\n".join(lines)


def _bars(histogram: dict[str, list[int]]) -> Iterator[str]:
    """A line for each bin, or for neighbours together so that there are few."""
    bins, counts = histogram["bins"], histogram["documents"]
    step = -(-len(counts) // MOST_BARS)
    counts = [sum(counts[first : first + step]) for first in range(0, len(counts), step)]
    bounds = [*bins[:-1:step], bins[-1]]
    for begin, end, count in zip(bounds[:-1], bounds[1:], counts, strict=True):
        bar = "#" * round(BAR_WIDTH * count / max(counts))
        yield f"{f'{begin}-{end - 1}':>15} {bar} {count:,}"


def _shown(text: str, characters: int) -> str:
    """The beginning of a text, and how much is left out."""
    begin = text[:characters]
    if characters <= SHOWN_CHARACTERS:
        begin = "".join(begin.splitlines(keepends=True)[:SHOWN_LINES])
    left = len(text) - len(begin)
    return f"{begin.rstrip()}\n... {left:,} more characters (--characters)" if left else begin


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
