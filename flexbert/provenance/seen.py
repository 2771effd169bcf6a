"""``flexbert seen``: every use that a run made of a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flexbert.data.packing.row_stream import Row
from flexbert.data.reading.corpus import Corpus
from flexbert.errors import UserError
from flexbert.provenance.order_view import OrderView, order_views


@dataclass(frozen=True, kw_only=True)
class Use:
    """A chunk of the document that an update was trained on.

    Attributes:
        step: number of the update over the whole run, from 1 on.
        row: number of the packed row in the step's global batch.
        begin, end: the sequence's positions in the row, special tokens included.
        first_token: the chunk's first token in the document.
        num_tokens: of the chunk, without special tokens.
        masked: positions in the document that were to be predicted, ascending.
    """

    stage: str
    step: int
    row: int
    begin: int
    end: int
    first_token: int
    num_tokens: int
    masked: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class OrderPlaces:
    """Where the document's chunks stand in the order of one run segment.

    Attributes:
        first_step, last_step: of the run segment, both included.
        source: the bucket that the document is drawn from.
        chunks: of the document.
        drawn: chunks of the bucket that were drawn into packing windows.
        of: chunks of the bucket in an epoch.
        places: of the document's chunks in all epochs that were begun, ascending. They count on
            over epochs; those at ``drawn`` or beyond were not reached.
    """

    stage: str
    first_step: int
    last_step: int
    source: str
    chunks: int
    drawn: int
    of: int
    places: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Every use that a run made of a document, and the proof that there was no other.

    Attributes:
        corpus: its folder.
        document: its number in the training split.
        tokens: of the document.
        uses: one for each chunk that stood in a row of an update.
        orders: one for each run segment and bucket that could draw the document.
    """

    corpus: Path
    document: int
    tokens: int
    uses: tuple[Use, ...]
    orders: tuple[OrderPlaces, ...]


def seen(run_folder: Path, corpus: Path, document: int) -> Seen:
    """Find where a document of a corpus's training split was used.

    Raises:
        UserError: if there is no such run, corpus or document, or the run's corpora have changed.
    """
    split = Corpus.open(corpus).split("train")
    if not 0 <= document < split.num_documents:
        raise UserError(
            f"{corpus}: no document {document}; its training split has 0 to "
            f"{split.num_documents - 1}"
        )
    uses: list[Use] = []
    orders: list[OrderPlaces] = []
    for view in order_views(run_folder):
        for number, bucket in enumerate(view.stream.mixture.buckets):
            if bucket.chunks.split.fingerprint != split.fingerprint:
                continue
            chunks = bucket.chunks.of_documents(document, document + 1)
            if len(chunks):
                places = view.places(number, chunks)
                orders.append(
                    OrderPlaces(
                        stage=view.segment.stage,
                        first_step=view.segment.first_step + 1,
                        last_step=view.last_step,
                        source=bucket.name,
                        chunks=len(chunks),
                        drawn=view.drawn[number],
                        of=len(bucket.chunks),
                        places=tuple(places.tolist()),
                    )
                )
                for row in view.rows_with(number, chunks, places):
                    uses += _uses(view, row, document, bucket.source)
    return Seen(
        corpus=corpus,
        document=document,
        tokens=int(split.lengths[document]),
        uses=tuple(uses),
        orders=tuple(orders),
    )


def _uses(view: OrderView, row: Row, document: int, source: str) -> Iterator[Use]:
    """The chunks of a document in one row."""
    step, number = view.step_of_row(row.start.row + row.index)
    for sequence in view.sequences(row):
        if (sequence.source, sequence.document) == (source, document):
            yield Use(
                stage=view.segment.stage,
                step=step,
                row=number,
                begin=sequence.begin,
                end=sequence.end,
                first_token=sequence.first_token,
                num_tokens=sequence.num_tokens,
                masked=sequence.masked,
            )


def seen_text(found: Seen) -> str:
    """What ``flexbert seen`` prints."""
    lines = [f"{found.corpus}, document {found.document}: {found.tokens:,} tokens"]
    for use in found.uses:
        end = use.first_token + use.num_tokens
        masked = ", ".join(map(str, use.masked)) or "none"
        lines.append(
            f"{use.stage}, step {use.step:,}, row {use.row} from {use.begin}: "
            f"tokens {use.first_token:,} to {end - 1:,}; masked: {masked}"
        )
    if not found.orders:
        lines.append("not used: no stage of this run draws from it (is it the run's corpus?)")
    elif not found.uses:
        lines.append("not used: no update was trained on any of it")
    for order in found.orders:
        drawn = [place for place in order.places if place < order.drawn]
        beyond = [place for place in order.places if place >= order.drawn]
        lines.append(
            f"{order.stage}, steps {order.first_step:,} to {order.last_step:,}: "
            f"{order.drawn:,} chunks of {order.source} were drawn into windows, "
            f"{order.of:,} an epoch; this document's stand at {_listed(drawn)} among them"
            + (f", and at {_listed(beyond)}, which were not reached" if beyond else "")
        )
    return "\n".join(lines)


def _listed(places: Sequence[int]) -> str:
    return ", ".join(f"{place:,}" for place in places) or "no place"
