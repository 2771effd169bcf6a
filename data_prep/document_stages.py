"""What a document goes through between reading and tokenizing.

A stage takes a document and returns it, changed or not, or the :class:`Reject` that says why it is
none of the corpus. Stages run in the workers, one document at a time, in order; the first reject
ends it, and the report counts it by input. What a stage does must follow from the document and from
``Fields`` alone, which the manifest keeps: a restart makes the same rows again.

Here belong filters by quality or language, and whatever else changes a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from data_prep.formats import HTML
from data_prep.html_text import html_to_text
from data_prep.rows import Document, Fields, Reject, Row
from data_prep.sources import InputFile

Stage: TypeAlias = Callable[[Document], Row]


def stages_of(file: InputFile, fields: Fields) -> list[Stage]:
    """The stages of the documents of a file, in order."""
    stages: list[Stage] = []
    if file.format == HTML or fields.html:
        stages.append(html_to_text)
    return stages


def run_stages(rows: Iterable[Row], file: InputFile, fields: Fields) -> Iterator[Row]:
    """The rows of a file after its stages; what is a reject already passes through."""
    stages = stages_of(file, fields)
    if not stages:
        yield from rows
        return
    for row in rows:
        for stage in stages:
            if isinstance(row, Reject):
                break
            row = stage(row)
        yield row
