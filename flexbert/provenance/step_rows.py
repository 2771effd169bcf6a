"""``flexbert rows``: what one step of a run was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from flexbert.data.format.corpus_format import TOKENIZER_FOLDER
from flexbert.errors import UserError
from flexbert.provenance.order_view import OrderView, RowSequence, last_step, order_views


def step_rows(run_folder: Path, step: int) -> dict[str, Any]:
    """The rows of a step's global batch: their documents, texts and masked tokens.

    Returns:
        ``rows``, in the order of the batch: each a list of sequences with ``source``, ``document``,
        ``first_token``, ``num_tokens``, ``masked`` (positions in the document) and ``text``.

    Raises:
        UserError: if there is no such run or step, or the run's corpora have changed.
    """
    for view in order_views(run_folder):
        if view.segment.first_step < step <= view.last_step:
            file = view.corpora.first.folder / TOKENIZER_FOLDER / "tokenizer.json"
            tokenizer = Tokenizer.from_file(str(file))
            rows = [
                [_describe(view, sequence, tokenizer) for sequence in view.sequences(row)]
                for row in view.rows_of_step(step)
            ]
            return {
                "run": str(run_folder),
                "stage": view.segment.stage,
                "step": step,
                "rows": rows,
            }
    raise UserError(
        f"{run_folder}: no step {step}; it was trained from 1 to {last_step(run_folder)}"
    )


def _describe(view: OrderView, sequence: RowSequence, tokenizer: Tokenizer) -> dict[str, Any]:
    place = (sequence.document, sequence.first_token, sequence.num_tokens)
    tokens = view.splits[sequence.source].gather(*(np.array([number]) for number in place))
    return {
        "source": sequence.source,
        "document": sequence.document,
        "first_token": sequence.first_token,
        "num_tokens": sequence.num_tokens,
        "masked": sequence.masked,
        "text": tokenizer.decode(tokens.tolist(), skip_special_tokens=False),
    }


def step_rows_text(result: dict[str, Any], num_characters: int) -> str:
    """The result for people.

    Args:
        num_characters: to show of each text at most.
    """
    lines = [f"{result['run']}, {result['stage']}, step {result['step']:,}"]
    for number, sequences in enumerate(result["rows"]):
        tokens = sum(sequence["num_tokens"] for sequence in sequences)
        lines.append(f"row {number}: {len(sequences)} chunks of documents, {tokens:,} tokens")
        for sequence in sequences:
            text = " ".join(sequence["text"].split())
            shown = text if len(text) <= num_characters else f"{text[:num_characters]}..."
            first, count = sequence["first_token"], sequence["num_tokens"]
            lines.append(
                f"  {sequence['source']} {sequence['document']} [{first}:{first + count}] "
                f"{len(sequence['masked'])} masked: {shown}"
            )
    return "\n".join(lines)
