"""What became of the rows of each input: for ``report.json`` and for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_prep.parts import InputRows, Part
from data_prep.survey import NamedCounts, Survey, label_record

# More are for report.json.
MOST_LINES = 20
MOST_NAME = 40


def input_records(
    parts: Sequence[Part], surveys: Mapping[str, Survey], files: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """What was read, kept and rejected of each input, by its name; plain JSON.

    Of each, ``rows`` is the sum of ``documents``, ``duplicates_removed`` and all ``rejects``;
    ``characters`` and ``unknown_tokens`` count the removed documents too.

    Args:
        surveys: of the splits, by name.
        files: number of files of each input; those without a row have a record too.
    """
    read = {name: InputRows() for name in files}
    for part in parts:
        for name, rows in part.inputs.items():
            read[name] = read.get(name, InputRows()) + rows
    kept = NamedCounts()
    for survey in surveys.values():
        kept.add(survey.inputs)
    return {
        name: {
            "files": files.get(name),
            "rows": rows.documents + sum(rows.rejects.values()),
            "documents": kept.documents[name],
            "tokens": kept.tokens[name],
            "duplicates_removed": rows.documents - kept.documents[name],
            "characters": rows.characters,
            "characters_per_token": rows.characters / rows.tokens if rows.tokens else None,
            "unknown_tokens": rows.unknown,
            "rejects": rows.rejects,
            "splits": {
                split: label_record({name: survey.inputs.get(name, (0, 0))})[name]
                for split, survey in surveys.items()
            },
        }
        for name, rows in read.items()
    }


def format_inputs(records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each input, those with the most rows first where there are many."""
    names = list(records)
    if len(names) > MOST_LINES:
        names = sorted(names, key=lambda name: -records[name]["rows"])[: MOST_LINES - 1]
    titles = {
        name: name if len(name) <= MOST_NAME else f"...{name[3 - MOST_NAME :]}" for name in names
    }
    width = max(map(len, titles.values()), default=0)
    for name in names:
        record = records[name]
        text = f"input {titles[name]:<{width}} {record['documents']:>9,} documents, "
        text += f"{record['tokens']:>11,} tokens"
        if record["duplicates_removed"]:
            text += f"; {record['duplicates_removed']:,} duplicates removed"
        if record["rejects"]:
            text += f"; rejected: {listed(record['rejects'])}"
        yield text
    if len(names) < len(records):
        yield f"      {len(records) - len(names)} more inputs: report.json"


def listed(counts: Mapping[str, int]) -> str:
    """Counts by reason, or "none"."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
