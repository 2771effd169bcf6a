"""What a corpus holds: ``report.json`` and the summary that is printed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.parts import Part
from data_prep.shards import read_split
from data_prep.spans import span_overlap
from data_prep.unigram import unigram_counts, unigram_entropy
from flexbert.data.corpus_format import SplitMeta

REPORT_FILE = "report.json"


def make_report(
    corpus: Path,
    *,
    splits: dict[str, SplitMeta],
    parts: Sequence[Part],
    skipped: Counter[str],
    vocab_size: int,
    dtype: np.dtype,
) -> dict[str, Any]:
    """Measure a corpus whose splits are written; every value is plain JSON."""
    rejects: Counter[str] = Counter()
    for part in parts:
        rejects.update(part.rejects)
    characters = sum(part.characters for part in parts)
    tokens = sum(split.tokens for split in splits.values())
    validation = corpus / "validation"
    overlap = span_overlap(
        read_split(corpus / "train", dtype), lambda: read_split(validation, dtype)
    )
    entropy = unigram_entropy(unigram_counts(read_split(validation, dtype), vocab_size))
    return {
        "documents": sum(split.documents for split in splits.values()),
        "tokens": tokens,
        "characters": characters,
        "characters_per_token": characters / tokens,
        "splits": {name: asdict(split) for name, split in splits.items()},
        "rejects": dict(sorted(rejects.items())),
        "skipped_files": dict(sorted(skipped.items())),
        "validation_unigram_entropy": entropy,
        "validation_spans": {**asdict(overlap), "share": overlap.share},
    }


def write_report(corpus: Path, report: dict[str, Any]) -> None:
    (corpus / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")


def format_report(report: dict[str, Any]) -> str:
    """The report as lines for people."""
    spans = report["validation_spans"]
    lines = [
        f"documents            {report['documents']:,}",
        f"tokens               {report['tokens']:,}",
        f"characters per token {report['characters_per_token']:.2f}",
        *(
            f"{name:<20} {split['documents']:,} documents, {split['tokens']:,} tokens"
            for name, split in report["splits"].items()
        ),
        f"rejected rows        {_listed(report['rejects'])}",
        f"skipped files        {_listed(report['skipped_files'])}",
        f"unigram entropy      {report['validation_unigram_entropy']:.3f} nats a validation token",
        f"shared spans         {spans['share']:.2%} of {spans['checked']:,} validation spans of "
        f"{spans['length']} tokens also stand in train",
    ]
    return "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
