"""The texts that a tokenizer is trained on: all of the inputs, or a sample spread over them.

A sample takes of every piece of every input the same share, from the beginning of the piece; what a
piece gives too much or too little is made up for by the next. So it is the same whoever reads it,
and nothing is read that is not taken but the rest of a buffer.
"""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from data_prep.phase_progress import LINE_SECONDS, PhaseProgress
from data_prep.readers import Document, Fields, Reject, read_piece
from data_prep.sources import Inputs, Piece, cut_pieces

READ = "read"  # the last pass
READ_BYTES = 1 << 26
# Of a sample: enough pieces to be spread over a file, and no more seeking than reading.
SAMPLED_PIECES, SMALLEST_PIECE = 1 << 10, 1 << 18
# What the finished tokenizer is tried on: of all inputs, and of one document.
KEPT_BYTES, KEPT_CHARACTERS = 1 << 23, 20_000
# Far beyond any word, so that a vocabulary hardly depends on it.
LONGEST_RUN = 512
LONG_RUN = re.compile(rf"\S{{{LONGEST_RUN}}}(?=\S)|\s{{{LONGEST_RUN}}}(?=\s)")


@dataclass(kw_only=True)
class InputText:
    """What was read of one input.

    Attributes:
        documents, characters: that were taken.
        rejects: bad rows among those that were read.
        kept: beginnings of some documents.
    """

    documents: int = 0
    characters: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)


class EvenShare:
    """Takes the same share of whatever it is led through, as nearly as whole documents allow."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._due = 0.0

    def enter(self, size: int) -> None:
        """Go on to something of this size."""
        self._due += self._share * size

    def take(self, size: int) -> bool:
        """Whether there is still something to take; if so, this much is taken."""
        if self._due <= 0:
            return False
        self._due -= size
        return True


class TrainingText:
    """What a tokenizer is trained on; each pass over it gives the same texts.

    Args:
        sample: about how many bytes of text to take; None takes all.
    """

    def __init__(
        self, inputs: Inputs, fields: Fields, *, sample: int | None = None, quiet: bool = False
    ) -> None:
        self._fields = fields
        self._quiet = quiet
        self._is_read = threading.Event()
        self.skipped = inputs.skipped
        self.inputs: dict[str, InputText] = {}
        self._pieces = [piece for file in inputs.files for piece in cut_pieces(file, READ_BYTES)]
        self.size = sum(piece.size for piece in self._pieces)
        self.share = 1.0 if sample is None else min(1.0, sample / max(self.size, 1))
        if self.share < 1:
            small = max(self.size // SAMPLED_PIECES, SMALLEST_PIECE)
            self._pieces = [
                piece for file in inputs.files for piece in cut_pieces(file, min(small, READ_BYTES))
            ]

    def documents(self, title: str = READ) -> Iterator[str]:
        """Every document that is taken; counts and kept texts are of the last pass.

        Raises:
            UserError: if an input cannot be read.
        """
        self.inputs = {}
        self._is_read.clear()
        # All of a full reading, whatever its sizes on disk were.
        share = EvenShare(self.share)
        kept = EvenShare(min(1.0, KEPT_BYTES / max(self.size, 1)))
        total = sum(piece.size for piece in self._pieces)
        with PhaseProgress(title, total=total, unit="B", quiet=self._quiet) as progress:
            for piece in self._pieces:
                counts = self.inputs.setdefault(piece.file.input, InputText())
                share.enter(piece.size)
                kept.enter(piece.size)
                yield from self._read(piece, counts, share, kept)
                progress.update(piece.size)
        if title == READ:
            self._is_read.set()

    def _read(
        self, piece: Piece, counts: InputText, share: EvenShare, kept: EvenShare
    ) -> Iterator[str]:
        for row in read_piece(piece, self._fields):
            if isinstance(row, Reject):
                counts.rejects[row.value] += 1
                continue
            if self.share < 1 and not share.take(len(row.text.encode())):
                return
            self._count(row, counts, kept)
            yield row.text

    def _count(self, row: Document, counts: InputText, kept: EvenShare) -> None:
        counts.documents += 1
        counts.characters += len(row.text)
        beginning = row.text[:KEPT_CHARACTERS]
        # Some of each input, however small.
        if kept.take(len(beginning)) or not counts.kept:
            counts.kept.append(beginning)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While something is made of the texts: says every minute that it is, once they are read.

        How long learning a vocabulary takes is not known before.
        """
        done = threading.Event()

        def say() -> None:
            self._is_read.wait()
            begun = time.monotonic()
            while not done.wait(LINE_SECONDS):
                minutes = (time.monotonic() - begun) / 60
                print(f"learn: {minutes:.0f} min so far", file=sys.stderr, flush=True)

        if not self._quiet:
            threading.Thread(target=say, daemon=True).start()
        try:
            yield
        finally:
            done.set()
            self._is_read.set()

    def texts(self, title: str = READ) -> Iterator[str]:
        """The documents, cut inside the longest runs: see :func:`cut_long_runs`."""
        return itertools.chain.from_iterable(map(cut_long_runs, self.documents(title)))


def cut_long_runs(text: str) -> Iterator[str]:
    """The text in pieces, cut inside runs of ``LONGEST_RUN`` characters without, or of nothing but,
    white space; nearly always whole.

    A run is one word for the trainer, which goes through all of it for each merge: a training
    sequence of 100,000 letters took seconds, one of 5 million never ended.
    """
    start = 0
    for run in LONG_RUN.finditer(text):
        yield text[start : run.end()]
        start = run.end()
    yield text[start:]
