"""``flexbert seen``: every use that a run made of a document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flexbert.data.packing.row_stream import Row
from flexbert.data.reading.corpus import Corpus
from flexbert.errors import UserError
from flexbert.provenance.order_view import OrderView, order_views


def seen(run_folder: Path, corpus: Path, document: int) -> dict[str, Any]:
    """Where a document of a corpus's training split was used.

    Returns:
        ``uses``, one for each chunk that stood in a row: stage, step, row of the step's global
        batch, tokens of the document (``first_token``, ``num_tokens``) and which of them were to be
        predicted (``masked``, positions in the document). ``orders``: for every segment of training
        how many chunks of the document's bucket were drawn, of how many an epoch, and at which
        places the document's own stand, in all epochs that were begun; places count on over epochs,
        and those at ``drawn`` or beyond were not reached.

    Raises:
        UserError: if there is no such run, corpus or document, or the run's corpora have changed.
    """
    split = Corpus.open(corpus).split("train")
    if not 0 <= document < split.num_documents:
        raise UserError(
            f"{corpus}: no document {document}; its training split has 0 to "
            f"{split.num_documents - 1}"
        )
    uses: list[dict[str, Any]] = []
    orders: list[dict[str, Any]] = []
    for view in order_views(run_folder):
        for number, bucket in enumerate(view.stream.mixture.buckets):
            if bucket.chunks.split.fingerprint != split.fingerprint:
                continue
            chunks = bucket.chunks.of_documents(document, document + 1)
            if len(chunks):
                places = view.places(number, chunks)
                orders.append(
                    {
                        "stage": view.segment.stage,
                        "first_step": view.segment.first_step + 1,
                        "last_step": view.last_step,
                        "source": bucket.name,
                        "chunks": len(chunks),
                        "drawn": view.drawn[number],
                        "of": len(bucket.chunks),
                        "places": places.tolist(),
                    }
                )
                for row in view.rows_with(number, chunks, places):
                    uses += _uses(view, row, document, bucket.source)
    return {
        "corpus": str(corpus),
        "document": document,
        "tokens": int(split.lengths[document]),
        "uses": uses,
        "orders": orders,
    }


def _uses(view: OrderView, row: Row, document: int, source: str) -> list[dict[str, Any]]:
    """The chunks of a document in one row."""
    step, number = view.step_of_row(row.start.row + row.index)
    return [
        {
            "stage": view.segment.stage,
            "step": step,
            "row": number,
            "begin": sequence.begin,
            "end": sequence.end,
            "first_token": sequence.first_token,
            "num_tokens": sequence.num_tokens,
            "masked": sequence.masked,
        }
        for sequence in view.sequences(row)
        if (sequence.source, sequence.document) == (source, document)
    ]


def seen_text(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"{result['corpus']}, document {result['document']}: {result['tokens']:,} tokens"]
    for use in result["uses"]:
        end = use["first_token"] + use["num_tokens"]
        masked = ", ".join(map(str, use["masked"])) or "none"
        lines.append(
            f"{use['stage']}, step {use['step']:,}, row {use['row']} from {use['begin']}: "
            f"tokens {use['first_token']:,} to {end - 1:,}; masked: {masked}"
        )
    if not result["orders"]:
        lines.append("not used: no stage of this run draws from it (is it the run's corpus?)")
    elif not result["uses"]:
        lines.append("not used: no update was trained on any of it")
    for order in result["orders"]:
        drawn = [place for place in order["places"] if place < order["drawn"]]
        beyond = [place for place in order["places"] if place >= order["drawn"]]
        lines.append(
            f"{order['stage']}, steps {order['first_step']:,} to {order['last_step']:,}: "
            f"{order['drawn']:,} chunks of {order['source']} were drawn into windows, "
            f"{order['of']:,} an epoch; this document's stand at {_listed(drawn)} among them"
            + (f", and at {_listed(beyond)}, which were not reached" if beyond else "")
        )
    return "\n".join(lines)


def _listed(places: list[int]) -> str:
    return ", ".join(f"{place:,}" for place in places) or "no place"
