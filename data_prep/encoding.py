"""Documents to token ids, and what a corpus must know about its tokenizer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from tokenizers import Tokenizer

from data_prep.readers import Document, Reject, Row
from flexbert.data.format.corpus_format import (
    MAX_VOCAB_SIZE,
    SpecialIds,
    token_dtype,
    tokenizer_sha256,
)
from flexbert.errors import UserError, first_line
from flexbert.files.regular import load_json, read_regular

# One call into the tokenizer takes about this much text, so that memory stays bounded. (A
# quarter of a million characters take 7 percent less time than a million of short documents.)
BATCH_CHARACTERS = 1 << 18
# Of the first document of a batch; more would be felt in the time that tokenizing takes.
SAMPLED_CHARACTERS = 2_000
UNUSED_TOKEN = re.compile(r"\[unused\d+\]|<unused\d+>")


class Rejected(NamedTuple):
    """A row that is no document.

    Attributes:
        input: number of the input that it came from.
    """

    input: int
    reason: Reject


class Encoded:
    """A batch of encoded documents.

    Attributes:
        tokens: ids of all documents, one after the other.
        lengths: number of tokens of each document, uint32.
        hashes: hash of each document's text, uint64.
        labels: label of each document, or None.
        inputs: number of the input that each document came from, int64.
        characters: number of characters of each document, int64.
        unknown: number of each document's tokens that stand for text that the tokenizer does not
            know, int64.
        sampled, dropped: number of visible characters of a sample of the documents, and of those
            that no token covers.
    """

    def __init__(
        self,
        documents: list[tuple[int, Document]],
        tokens: list[np.ndarray],
        *,
        unknown_id: int | None,
        sampled: int,
        dropped: int,
    ) -> None:
        self.tokens = np.concatenate(tokens)
        self.lengths = np.array([len(ids) for ids in tokens], "<u4")
        self.hashes = np.array([text_hash(document.text) for _, document in documents], "<u8")
        self.labels = [document.label for _, document in documents]
        self.inputs = np.array([number for number, _ in documents], np.int64)
        self.characters = np.array([len(document.text) for _, document in documents], np.int64)
        begins = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        # No id is -1: where there is no unknown token, there are none of it.
        is_unknown = self.tokens == (-1 if unknown_id is None else unknown_id)
        self.unknown = np.add.reduceat(is_unknown, begins, dtype=np.int64)
        self.sampled, self.dropped = sampled, dropped


def text_hash(text: str) -> int:
    """64-bit hash of a document; equal texts are equal documents."""
    return xxhash.xxh3_64_intdigest(text.encode())


class CorpusTokenizer:
    """The tokenizer of a folder, as a corpus uses it: no special tokens, no truncation.

    Text that spells a special token ("[MASK]") is encoded as the ordinary text that it is.

    Args:
        folder: with ``tokenizer.json`` and a ``tokenizer_config.json`` that names all roles.
        named: the folder that messages name, where this is a copy.
    """

    def __init__(self, folder: Path, named: Path | None = None) -> None:
        self._named = folder if named is None else named
        self.sha256 = tokenizer_sha256(folder)
        self.folder = Path(folder)
        self.backend = load_backend(folder / "tokenizer.json", self._named / "tokenizer.json")
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = True
        vocabulary = self.backend.get_vocab(with_added_tokens=True)
        if not 0 < max(vocabulary.values(), default=-1) < MAX_VOCAB_SIZE:
            raise UserError(f"{self._named}: a tokenizer without tokens, or with impossible ids")
        self.vocab_size = max(vocabulary.values()) + 1
        self.dtype = token_dtype(self.vocab_size)
        added = self.backend.get_added_tokens_decoder()
        unused = {id_ for token, id_ in vocabulary.items() if UNUSED_TOKEN.fullmatch(token)}
        special = {id_ for id_, token in added.items() if token.special}
        self.special_ids = self._read_special_ids()
        in_a_role = {id_ for id_ in vars(self.special_ids).values() if id_ is not None}
        # Ids that no token has are in no text, and are not to be drawn in the place of a token.
        gaps = set(range(self.vocab_size)) - set(vocabulary.values())
        self.reserved_ids = tuple(sorted(unused | special | in_a_role | gaps))

    def _read_special_ids(self) -> SpecialIds:
        file, named = self.folder / "tokenizer_config.json", self._named / "tokenizer_config.json"
        if not file.is_file():
            raise UserError(f"{self._named}: no tokenizer_config.json there")
        try:
            config = load_json(file)
        except (OSError, ValueError) as error:
            raise UserError(f"{named}: not JSON ({first_line(error)})") from None
        if not isinstance(config, dict):
            raise UserError(f"{named}: not a JSON object")
        ids: dict[str, int | None] = {}
        for role in ("cls", "sep", "pad", "mask", "unk"):
            token = config.get(f"{role}_token")
            content = token.get("content") if isinstance(token, dict) else token
            if not isinstance(content, str | None):
                raise UserError(f"{named}: {role}_token: expected a text, got {content!r}")
            ids[role] = None if content is None else self.backend.token_to_id(content)
        missing = [role for role in ("cls", "sep", "pad", "mask") if ids[role] is None]
        if missing:
            raise UserError(
                f"{self._named}: the tokenizer has no {' or '.join(missing)} token; add what is "
                f"missing with: python -m data_prep tokenizer --adapt {self._named} --out FOLDER"
            )
        self._check_apart(ids)
        return SpecialIds(**ids)  # type: ignore[arg-type]  # only unk may be None

    def _check_apart(self, ids: dict[str, int | None]) -> None:
        """Raises UserError if two roles have one token: neither training nor a mask of padding
        could tell them apart."""
        model_unk = getattr(self.backend.model, "unk_token", None)
        if ids["unk"] is None and model_unk is not None:
            ids["unk"] = self.backend.token_to_id(model_unk)
        for (role, id_), (other, same) in combinations(ids.items(), 2):
            if id_ is not None and id_ == same:
                raise UserError(
                    f"{self._named}: {self.backend.id_to_token(id_)} is the {role} and the {other} "
                    "token; give each its own with: python -m data_prep tokenizer --adapt "
                    f"{self._named} --out FOLDER"
                )

    def encode(self, rows: Iterable[tuple[int, Row]]) -> Iterator[Encoded | Rejected]:
        """Encode rows in batches; bad rows pass through.

        Args:
            rows: each with the number of the input that it came from.
        """
        documents: list[tuple[int, Document]] = []
        characters = 0
        for number, row in rows:
            if isinstance(row, Reject):
                yield Rejected(number, row)
                continue
            documents.append((number, row))
            characters += len(row.text)
            if characters >= BATCH_CHARACTERS:
                yield from self._encode_batch(documents)
                documents, characters = [], 0
        yield from self._encode_batch(documents)

    def _encode_batch(self, documents: list[tuple[int, Document]]) -> Iterator[Encoded | Rejected]:
        encodings = self.backend.encode_batch_fast(
            [document.text for _, document in documents], add_special_tokens=False
        )
        kept: list[tuple[int, Document]] = []
        tokens: list[np.ndarray] = []
        for (number, document), encoding in zip(documents, encodings, strict=True):
            # Asked for once: each time makes a list, which takes as long as reading the text.
            ids = np.array(encoding.ids, self.dtype)
            if len(ids):
                kept.append((number, document))
                tokens.append(ids)
            else:
                yield Rejected(number, Reject.NO_TOKENS)
        if kept:
            sampled, dropped = self._dropped(kept[0][1].text[:SAMPLED_CHARACTERS])
            yield Encoded(
                kept,
                tokens,
                unknown_id=self.special_ids.unk,
                sampled=sampled,
                dropped=dropped,
            )

    def _dropped(self, text: str) -> tuple[int, int]:
        """How many visible characters a text has, and how many of them no token covers.

        White space, accents on their own and control characters may go without harm.
        """
        visible = np.fromiter((unicodedata.category(c)[0] not in "ZCM" for c in text), bool)
        covered = np.zeros(len(text) + 1, np.int64)
        for begin, end in self.backend.encode(text, add_special_tokens=False).offsets:
            covered[begin] += 1
            covered[end] -= 1
        missing = visible & (np.cumsum(covered[:-1]) == 0)
        return int(visible.sum()), int(missing.sum())


def load_backend(file: Path, named: Path | None = None) -> Tokenizer:
    """Load a ``tokenizer.json``.

    Args:
        named: the file that messages name, where this is a copy.

    Raises:
        UserError: if it is not one.
    """
    try:
        return Tokenizer.from_buffer(read_regular(file))
    except Exception as error:  # tokenizers raises plain Exception
        problem = first_line(error)
        raise UserError(
            f"{named or file}: not a tokenizer that can be loaded ({problem})"
        ) from None
