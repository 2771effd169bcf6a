"""``python -m data_prep inspect``: look at a corpus, and check that it is what was written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.encoding import load_backend
from data_prep.shards import read_index, read_lengths
from flexbert.data.corpus_format import (
    LENGTHS_FILE,
    TOKENIZER_FOLDER,
    CorpusError,
    CorpusMeta,
    tokenizer_sha256,
)
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
    meta = CorpusMeta.read(corpus)
    if split not in meta.splits:
        raise UserError(f"--split {split}: {did_you_mean(split, meta.splits)}")
    lengths = read_lengths(corpus / split)
    if len(lengths) != meta.splits[split].documents or not lengths.all():
        raise CorpusError(f"{corpus / split / LENGTHS_FILE}: differs from corpus.json; corrupt")
    return {
        "vocab_size": meta.vocab_size,
        "dtype": meta.dtype.name,
        "special_ids": asdict(meta.special_ids),
        "reserved_ids": len(meta.reserved_ids),
        "splits": {name: asdict(counts) for name, counts in meta.splits.items()},
        "split": split,
        "length_quantiles": {
            f"{quantile:.0%}": int(value)
            for quantile, value in zip(QUANTILES, np.quantile(lengths, QUANTILES), strict=True)
        },
        "length_histogram": _histogram(lengths),
        "samples": _samples(corpus, split, meta.dtype, num_samples),
    }


def verify_corpus(corpus: Path) -> None:
    """Compare shard hashes, lengths, counts and the tokenizer with what was recorded.

    Raises:
        UserError: naming the first file that differs.
    """
    meta = CorpusMeta.read(corpus)
    if tokenizer_sha256(corpus / TOKENIZER_FOLDER) != meta.tokenizer_sha256:
        raise CorpusError(f"{corpus / TOKENIZER_FOLDER}: not the tokenizer of this corpus")
    for name, counts in meta.splits.items():
        recorded = read_lengths(corpus / name)
        found: list[int] = []
        for shard in read_index(corpus / name):
            shard.verify_hash()
            for document in shard.documents(meta.dtype):
                found.append(len(document))
                if document.max() >= meta.vocab_size:
                    raise CorpusError(f"{shard.path}: ids beyond the vocabulary; corrupt")
        if not np.array_equal(recorded, found):
            raise CorpusError(f"{corpus / name / LENGTHS_FILE}: differs from the shards; corrupt")
        if (len(found), sum(found)) != (counts.documents, counts.tokens):
            raise CorpusError(f"{corpus / name}: not the number of documents in corpus.json")


def format_description(description: dict[str, Any]) -> str:
    """The description as lines for people."""
    special = ", ".join(f"{role} {id_}" for role, id_ in description["special_ids"].items())
    lines = [
        f"vocabulary   {description['vocab_size']:,} ids as {description['dtype']}, "
        f"{description['reserved_ids']} of them reserved; {special}",
        *(
            f"{name:<12} {split['documents']:,} documents, {split['tokens']:,} tokens"
            for name, split in description["splits"].items()
        ),
        f"\ntokens a document in {description['split']}",
        "  ".join(f"{name} {value:,}" for name, value in description["length_quantiles"].items()),
    ]
    histogram = description["length_histogram"]
    highest = max(histogram.values())
    for label, count in histogram.items():
        lines.append(f"{label:>15} {'#' * round(BAR_WIDTH * count / highest)} {count:,}")
    for sample in description["samples"]:
        lines.append(f"\n--- document {sample['document']}, {sample['tokens']:,} tokens")
        lines.append(sample["text"])
    return "\n".join(lines)


def _histogram(lengths: np.ndarray) -> dict[str, int]:
    """Documents by length, in powers of two."""
    powers = np.log2(lengths).astype(np.int64)
    counts = np.bincount(powers)
    return {
        f"{1 << power}-{(2 << power) - 1}": int(counts[power])
        for power in range(powers.min(), len(counts))
    }


def _samples(corpus: Path, split: str, dtype: np.dtype, number: int) -> list[dict[str, Any]]:
    backend = load_backend(corpus / TOKENIZER_FOLDER / "tokenizer.json")
    shards = read_index(corpus / split)
    ends = np.cumsum([shard.num_documents for shard in shards])
    wanted = np.unique(np.linspace(0, ends[-1] - 1, number).astype(np.int64))
    samples = []
    for document in wanted.tolist():
        shard = int(np.searchsorted(ends, document, side="right"))
        first = int(ends[shard]) - shards[shard].num_documents
        tokens = shards[shard].document(document - first, dtype)
        text = backend.decode(tokens.tolist(), skip_special_tokens=False)
        samples.append({"document": document, "tokens": len(tokens), "text": text})
    return samples
