"""``flexbert seen``: every use that a run made of a document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flexbert.data.corpus import Corpus
from flexbert.data.stream import Row
from flexbert.errors import UserError
from flexbert.ledger.order_view import OrderView, order_views


def seen(run_folder: Path, corpus: Path, document: int) -> dict[str, Any]:
    """Where a document of a corpus's training split was used.

    Returns:
        ``uses``, one for each piece that stood in a row: stage, step, row of the step's global
        batch, tokens of the document (``first_token``, ``num_tokens``) and which of them were to be
        predicted (``masked``, positions in the document). ``orders``: for every stretch of training
        how many pieces of the document's part of the mixture were drawn, of how many an epoch, and
        at which places the document's own stand, in all epochs that were begun; places count on
        over epochs, and those at ``drawn`` or beyond were not reached.

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
        for number, part in enumerate(view.stream.mixture.parts):
            if part.pieces.split.fingerprint != split.fingerprint:
                continue
            pieces = part.pieces.of_documents(document, document + 1)
            if len(pieces):
                places = view.places(number, pieces)
                orders.append(
                    {
                        "stage": view.stretch.stage,
                        "first_step": view.stretch.first_step + 1,
                        "last_step": view.last_step,
                        "source": part.name,
                        "pieces": len(pieces),
                        "drawn": view.drawn[number],
                        "of": len(part.pieces),
                        "places": places.tolist(),
                    }
                )
                for row in view.rows_with(number, pieces, places):
                    uses += _uses(view, row, document, part.source)
    return {
        "corpus": str(corpus),
        "document": document,
        "tokens": int(split.lengths[document]),
        "uses": uses,
        "orders": orders,
    }


def _uses(view: OrderView, row: Row, document: int, source: str) -> list[dict[str, Any]]:
    """The pieces of a document in one row."""
    step, number = view.step_of_row(row.start.row + row.index)
    return [
        {
            "stage": view.stretch.stage,
            "step": step,
            "row": number,
            "begin": segment.begin,
            "end": segment.end,
            "first_token": segment.first_token,
            "num_tokens": segment.num_tokens,
            "masked": segment.masked,
        }
        for segment in view.segments(row)
        if (segment.source, segment.document) == (source, document)
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
            f"{order['drawn']:,} pieces of {order['source']} were drawn into windows, "
            f"{order['of']:,} an epoch; this document's stand at {_listed(drawn)} among them"
            + (f", and at {_listed(beyond)}, which were not reached" if beyond else "")
        )
    return "\n".join(lines)


def _listed(places: list[int]) -> str:
    return ", ".join(f"{place:,}" for place in places) or "no place"
