"""What a corpus holds: ``report.json`` and the summary that is printed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.duplicates import Repeats
from data_prep.input_report import format_inputs, input_records, listed
from data_prep.parts import Part
from data_prep.selection import Selection
from data_prep.spans import span_overlap
from data_prep.survey import NamedCounts, Survey, label_record
from data_prep.unigram import unigram_counts, unigram_entropy
from flexbert.files.durable import write_text

REPORT_FILE = "report.json"
# Fewer held-out documents give a loss that says little.
FEW_DOCUMENTS = 30
# Tokenizers that fit their text have fewer by orders of magnitude.
MANY_UNKNOWN = 0.01
MANY_DROPPED = 0.001


def make_report(
    parts: Sequence[Part],
    selections: Mapping[str, Selection],
    surveys: Mapping[str, Survey],
    *,
    repeats: Repeats,
    deduplicated: bool,
    skipped: Mapping[str, int],
    input_files: Mapping[str, int],
    vocab_size: int,
    dtype: np.dtype,
    workers: int,
) -> dict[str, Any]:
    """Describe a corpus; every value is plain JSON.

    Every row of the input is accounted for: ``rows`` is the sum of ``documents``, all ``rejects``
    and, where they were removed, the duplicates; and so it is of each input.

    Args:
        repeats: the documents whose text occurred before, removed if ``deduplicated``.
        input_files: number of files of each input.
    """
    rejects: Counter[str] = Counter()
    for part in parts:
        rejects.update(part.rejects)
    read = sum(part.documents for part in parts)
    lengths = surveys["train"].lengths + surveys["validation"].lengths
    train, validation = selections["train"], selections["validation"]
    overlap = span_overlap(
        [partial(_blocks, train, number, dtype) for number in range(len(parts))],
        lambda: _all_blocks(validation, dtype),
        workers=workers,
    )
    tokens = (block for block, _ in _all_blocks(validation, dtype))
    report = {
        "rows": read + sum(rejects.values()),
        "documents": sum(survey.documents for survey in surveys.values()),
        "tokens": sum(survey.tokens for survey in surveys.values()),
        # Of all documents that were read, removed ones too.
        "characters": (characters := sum(part.characters for part in parts)),
        "characters_per_token": characters / sum(part.tokens for part in parts),
        "unknown_tokens": sum(part.unknown for part in parts),
        "unknown_share": sum(part.unknown for part in parts) / sum(part.tokens for part in parts),
        # Of the visible characters of a sample.
        "dropped_share": sum(part.dropped for part in parts)
        / max(sum(part.sampled for part in parts), 1),
        "splits": {
            name: {"documents": survey.documents, "tokens": survey.tokens}
            for name, survey in surveys.items()
        },
        "rejects": dict(sorted(rejects.items())),
        "inputs": input_records(parts, surveys, input_files),
        "skipped_files": dict(sorted(skipped.items())),
        "duplicates": {
            "documents": repeats.documents,
            "tokens": repeats.tokens,
            "removed": deduplicated,
        },
        "length_histogram": lengths.histogram(),
        "long_documents": lengths.long_documents(),
        "validation_unigram_entropy": unigram_entropy(unigram_counts(tokens, vocab_size)),
        "validation_spans": {**asdict(overlap), "share": overlap.share},
    }
    if any(survey.labels is not None for survey in surveys.values()):
        report["labels"] = label_record(_merged_labels(surveys))
    return report


def write_report(corpus: Path, report: dict[str, Any]) -> None:
    write_text(corpus / REPORT_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def format_report(report: dict[str, Any]) -> str:
    """The report as lines for people."""
    spans, duplicates = report["validation_spans"], report["duplicates"]
    what = "removed" if duplicates["removed"] else "kept; --deduplicate removes them"
    lines = [
        f"documents            {report['documents']:,}",
        f"tokens               {report['tokens']:,}",
        f"characters per token {report['characters_per_token']:.2f}",
        f"unknown tokens       {report['unknown_tokens']:,} ({report['unknown_share']:.2%})",
        f"dropped characters   {report['dropped_share']:.2%} of a sample's visible ones",
        *format_counts(report["splits"], width=20),
        *format_counts(report.get("labels", {}), width=20, prefix="label "),
        *format_inputs(report["inputs"]),
        f"rejected rows        {listed(report['rejects'])}",
        f"skipped files        {listed(report['skipped_files'])}",
        f"duplicates           {duplicates['documents']:,} documents, "
        f"{duplicates['tokens']:,} tokens" + (f" ({what})" if duplicates["documents"] else ""),
        f"unigram entropy      {report['validation_unigram_entropy']:.3f} nats a validation token",
        f"shared spans         {spans['share']:.2%} of {spans['checked']:,} validation spans of "
        f"{spans['length']} tokens also stand in train",
    ]
    return "\n".join([*lines, *_warnings(report)])


def format_counts(
    counts: Mapping[str, Mapping[str, int]], *, width: int, prefix: str = ""
) -> Iterator[str]:
    """A line for each split or label: its documents and tokens."""
    for name, of_name in counts.items():
        title = f"{prefix}{name or '(none)'}"
        yield f"{title:<{width}} {of_name['documents']:,} documents, {of_name['tokens']:,} tokens"


def _warnings(report: dict[str, Any]) -> Iterator[str]:
    held_out = report["splits"]["validation"]["documents"]
    if held_out < FEW_DOCUMENTS:
        yield (
            f"warning: the validation split has {held_out} document{'s' * (held_out > 1)}, too few "
            "for a loss to trust; make another corpus with a larger --validation"
        )
    for name, record in report["inputs"].items():
        if record["rows"] and not record["documents"]:
            yield f"warning: no row of {name} became a document: {listed(record['rejects'])}"
    if report["unknown_share"] > MANY_UNKNOWN:
        yield (
            f"warning: {report['unknown_share']:.1%} of the tokens are unknown ones, which are "
            "never predicted: the tokenizer does not know this text; train one on it"
        )
    if report["dropped_share"] > MANY_DROPPED:
        yield (
            f"warning: the tokenizer drops {report['dropped_share']:.1%} of the characters, so "
            "that nothing stands in their place; train one on this text"
        )
    if list(report.get("labels", ())) == [""]:
        yield "warning: no document has a label; check --label-field"


def _merged_labels(surveys: Mapping[str, Survey]) -> dict[str, tuple[int, int]]:
    merged = NamedCounts()
    for survey in surveys.values():
        merged.add(survey.labels or {})
    return merged.sorted()


def _blocks(
    selection: Selection, part: int, dtype: np.dtype
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for chosen in selection.blocks(part):
        yield chosen.tokens(dtype), chosen.lengths


def _all_blocks(selection: Selection, dtype: np.dtype) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for chosen in selection.all_blocks():
        yield chosen.tokens(dtype), chosen.lengths
