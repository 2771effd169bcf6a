"""What a document goes through between reading and tokenizing.

A transform takes a document and returns it, changed or not, or the :class:`Reject` that says why it
is none of the corpus. Transforms run in the workers, one document at a time, in order; the first
reject ends it, and the report counts it by input. What a transform does must follow from the
document and from ``Fields`` alone, which the manifest keeps: a restart makes the same rows again.

Here belong filters by quality or language, and whatever else changes a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from data_prep.formats import HTML
from data_prep.html_text import html_to_text, require_extractor
from data_prep.rows import Document, Fields, Reject, Row
from data_prep.sources import InputFile

Transform: TypeAlias = Callable[[Document], Row]


def transforms_of(file: InputFile, fields: Fields) -> list[Transform]:
    """The transforms of the documents of a file, in order.

    Raises:
        UserError: if a package that one of them needs is missing.
    """
    transforms: list[Transform] = []
    if file.format == HTML or fields.html:
        require_extractor(file.path)
        transforms.append(html_to_text)
    return transforms


def transform_rows(rows: Iterable[Row], transforms: list[Transform]) -> Iterator[Row]:
    """The rows after the transforms; what is a reject already passes through."""
    for row in rows:
        for transform in transforms:
            if isinstance(row, Reject):
                break
            row = transform(row)
        yield row
