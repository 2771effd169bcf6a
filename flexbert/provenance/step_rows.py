"""``flexbert rows``: what one step of a run was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from flexbert.data.format.corpus_format import TOKENIZER_FOLDER
from flexbert.errors import UserError
from flexbert.provenance.order_view import OrderView, RowSequence, last_step, order_views


@dataclass(frozen=True, kw_only=True)
class ShownSequence:
    """A chunk of a document that a step was trained on.

    Attributes:
        source: name of the source in the recipe.
        document: its number in the training split.
        first_token: the chunk's first token in the document.
        num_tokens: of the chunk, without special tokens.
        masked: positions in the document that were to be predicted, ascending.
        text: of the whole chunk.
    """

    source: str
    document: int
    first_token: int
    num_tokens: int
    masked: tuple[int, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class StepRows:
    """What one step was trained on.

    Attributes:
        run: the run's folder.
        step: number of the update over the whole run, from 1 on.
        rows: the global batch in its order; each row lists its sequences from left to right.
    """

    run: Path
    stage: str
    step: int
    rows: tuple[tuple[ShownSequence, ...], ...]


def step_rows(run_folder: Path, step: int) -> StepRows:
    """Make the rows of a step's global batch again, with the text of their documents.

    Raises:
        UserError: if there is no such run or step, or the run's corpora have changed.
    """
    for view in order_views(run_folder):
        if view.segment.first_step < step <= view.last_step:
            file = view.corpora.first.folder / TOKENIZER_FOLDER / "tokenizer.json"
            tokenizer = Tokenizer.from_file(str(file))
            rows = tuple(
                tuple(_show(view, sequence, tokenizer) for sequence in view.sequences(row))
                for row in view.rows_of_step(step)
            )
            return StepRows(run=run_folder, stage=view.segment.stage, step=step, rows=rows)
    raise UserError(
        f"{run_folder}: no step {step}; it was trained from 1 to {last_step(run_folder)}"
    )


def _show(view: OrderView, sequence: RowSequence, tokenizer: Tokenizer) -> ShownSequence:
    place = (sequence.document, sequence.first_token, sequence.num_tokens)
    tokens = view.splits[sequence.source].gather(*(np.array([number]) for number in place))
    return ShownSequence(
        source=sequence.source,
        document=sequence.document,
        first_token=sequence.first_token,
        num_tokens=sequence.num_tokens,
        masked=sequence.masked,
        text=tokenizer.decode(tokens.tolist(), skip_special_tokens=False),
    )


def step_rows_text(found: StepRows, num_characters: int) -> str:
    """What ``flexbert rows`` prints.

    Args:
        num_characters: to show of each text at most.
    """
    lines = [f"{found.run}, {found.stage}, step {found.step:,}"]
    for number, sequences in enumerate(found.rows):
        tokens = sum(sequence.num_tokens for sequence in sequences)
        lines.append(f"row {number}: {len(sequences)} chunks of documents, {tokens:,} tokens")
        for sequence in sequences:
            text = " ".join(sequence.text.split())
            shown = text if len(text) <= num_characters else f"{text[:num_characters]}..."
            first, count = sequence.first_token, sequence.num_tokens
            lines.append(
                f"  {sequence.source} {sequence.document} [{first}:{first + count}] "
                f"{len(sequence.masked)} masked: {shown}"
            )
    return "\n".join(lines)
