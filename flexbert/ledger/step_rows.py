"""``flexbert rows``: what one step of a run was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from flexbert.data.corpus_format import TOKENIZER_FOLDER
from flexbert.errors import UserError
from flexbert.ledger.order_view import OrderView, Segment, last_step, order_views


def step_rows(run_folder: Path, step: int) -> dict[str, Any]:
    """The rows of a step's global batch: their documents, texts and masked tokens.

    Returns:
        ``rows``, in the order of the batch: each a list of segments with ``source``, ``document``,
        ``first_token``, ``num_tokens``, ``masked`` (positions in the document) and ``text``.

    Raises:
        UserError: if there is no such run or step, or the run's corpora have changed.
    """
    for view in order_views(run_folder):
        if view.stretch.first_step < step <= view.last_step:
            file = view.corpora.first.folder / TOKENIZER_FOLDER / "tokenizer.json"
            tokenizer = Tokenizer.from_file(str(file))
            rows = [
                [_describe(view, segment, tokenizer) for segment in view.segments(row)]
                for row in view.rows_of_step(step)
            ]
            return {
                "run": str(run_folder),
                "stage": view.stretch.stage,
                "step": step,
                "rows": rows,
            }
    raise UserError(
        f"{run_folder}: no step {step}; it was trained from 1 to {last_step(run_folder)}"
    )


def _describe(view: OrderView, segment: Segment, tokenizer: Tokenizer) -> dict[str, Any]:
    place = (segment.document, segment.first_token, segment.num_tokens)
    tokens = view.splits[segment.source].gather(*(np.array([number]) for number in place))
    return {
        "source": segment.source,
        "document": segment.document,
        "first_token": segment.first_token,
        "num_tokens": segment.num_tokens,
        "masked": segment.masked,
        "text": tokenizer.decode(tokens.tolist(), skip_special_tokens=False),
    }


def step_rows_text(result: dict[str, Any], num_characters: int) -> str:
    """The result for people.

    Args:
        num_characters: to show of each text at most.
    """
    lines = [f"{result['run']}, {result['stage']}, step {result['step']:,}"]
    for number, segments in enumerate(result["rows"]):
        tokens = sum(segment["num_tokens"] for segment in segments)
        lines.append(f"row {number}: {len(segments)} pieces of documents, {tokens:,} tokens")
        for segment in segments:
            text = " ".join(segment["text"].split())
            shown = text if len(text) <= num_characters else f"{text[:num_characters]}..."
            first, count = segment["first_token"], segment["num_tokens"]
            lines.append(
                f"  {segment['source']} {segment['document']} [{first}:{first + count}] "
                f"{len(segment['masked'])} masked: {shown}"
            )
    return "\n".join(lines)
