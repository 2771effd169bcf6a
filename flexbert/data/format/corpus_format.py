"""What a corpus folder holds, shared by the tools that write one and the loader that reads it.

A corpus is a folder::

    corpus.json        CorpusMeta
    tokenizer/         a folder that AutoTokenizer loads
    train/             an MDS dataset of whole documents: one column ``tokens``, no special tokens
        index.json     written by mosaicml-streaming, with a hash of every shard
        shard.00000.mds ...
        lengths.u32    little-endian uint32: the number of tokens of every document, in order
        labels.u8      only where documents are labelled: the number of each one's label
    validation/        the same; it shares no document with train/
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flexbert.errors import UserError
from flexbert.files.durable import write_text
from flexbert.files.regular import parse_json, read_regular

FORMAT_VERSION = 1
META_FILE = "corpus.json"
TOKENIZER_FOLDER = "tokenizer"
LENGTHS_FILE = "lengths.u32"
LABELS_FILE = "labels.u8"
MAX_LABELS = 256
# What no tokenizer reaches; tables of this many entries are made of it.
MAX_VOCAB_SIZE = 1 << 24
MAX_TOKENS = 1 << 50
# What a tokenizer may be kept in; all are text. Whatever else lies in its folder, a model's
# ``config.json`` say, is no part of it.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,250}")
COLUMN = "tokens"
SPLITS = ("train", "validation")
SHARD_HASH = "xxh3_64"


class CorpusError(UserError):
    """A corpus folder cannot be used; the message names it and what to do."""


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest dtype that holds every id: uint16 up to 65,535 entries, else uint32."""
    return np.dtype(np.uint16 if vocab_size < 65_536 else np.uint32)


def tokenizer_sha256(folder: Path) -> str:
    """Fingerprint of a tokenizer folder: the SHA-256 of its ``tokenizer.json``.

    Raises:
        CorpusError: if the folder has no ``tokenizer.json`` (only fast tokenizers are supported).
    """
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        raise CorpusError(
            f"{folder}: no tokenizer.json there; make one with: "
            "python -m data_prep tokenizer --out FOLDER TEXT..."
        )
    return hashlib.sha256(read_description(file)).hexdigest()


def read_description(file: Path) -> bytes:
    """A small file of a corpus, whole.

    Raises:
        CorpusError: if it cannot be read, is no regular file, or is no small one.
    """
    try:
        return read_regular(file)
    except OSError as error:
        raise CorpusError(f"{file}: {error.strerror}") from None


def is_plain_name(name: Any) -> bool:
    """Whether a description names a file, or a folder, that lies next to it and nowhere else."""
    return isinstance(name, str) and PLAIN_NAME.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True)
class SpecialIds:
    """Ids with a role, always read from the tokenizer and never assumed."""

    cls: int
    sep: int
    pad: int
    mask: int
    unk: int | None


@dataclass(frozen=True, kw_only=True)
class SplitMeta:
    """Counts of one split."""

    documents: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class CorpusMeta:
    """``corpus.json``.

    Attributes:
        vocab_size: number of ids that the tokenizer can produce, specials and unused included.
        special_ids: the five ids that training needs.
        reserved_ids: every id that ordinary text never encodes to: all special and unused tokens.
            They are neither masked nor drawn as random replacements.
        splits: counts by split name.
        tokenizer_files: names of the files in ``tokenizer/``: what a copy has to fetch.
        labels: what the numbers in ``labels.u8`` stand for; empty where there is no such file.
    """

    tokenizer_sha256: str
    vocab_size: int
    special_ids: SpecialIds
    reserved_ids: tuple[int, ...]
    splits: dict[str, SplitMeta]
    tokenizer_files: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype:
        return token_dtype(self.vocab_size)

    def write(self, corpus: Path) -> None:
        """Write ``corpus.json`` atomically; it is written last, so its presence means complete."""
        record: dict[str, Any] = {"format": FORMAT_VERSION, **asdict(self)}
        write_text(corpus / META_FILE, json.dumps(record, indent=2) + "\n")

    @classmethod
    def read(cls, corpus: Path) -> CorpusMeta:
        """Read ``corpus.json``.

        Raises:
            CorpusError: if it is missing, of another format, or not what this class describes.
        """
        file = Path(corpus) / META_FILE
        if not file.is_file():
            what = "is not a finished corpus" if Path(corpus).exists() else "does not exist"
            raise CorpusError(
                f"{corpus} {what} (no {META_FILE}); make one with: "
                f"python -m data_prep corpus --tokenizer FOLDER --out {corpus} TEXT..."
            )
        try:
            record = parse_json(read_description(file))
            version = record.pop("format")
            if version != FORMAT_VERSION:
                raise CorpusError(
                    f"{file}: corpus format {version}, this FlexBERT reads {FORMAT_VERSION}; "
                    "make the corpus again with python -m data_prep corpus"
                )
            meta = cls(
                tokenizer_sha256=record["tokenizer_sha256"],
                vocab_size=record["vocab_size"],
                special_ids=SpecialIds(**record["special_ids"]),
                reserved_ids=tuple(record["reserved_ids"]),
                splits={name: SplitMeta(**split) for name, split in record["splits"].items()},
                # Corpora made before there were labels and remote copies have neither.
                tokenizer_files=tuple(record.get("tokenizer_files", ())),
                labels=tuple(record.get("labels", ())),
            )
            meta._check()
            return meta
        except KeyError as error:
            raise CorpusError(f"{file}: not a corpus description (no {error})") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise CorpusError(f"{file}: not a corpus description ({error})") from None

    def _check(self) -> None:
        """Raises: ValueError if a value is none that data_prep writes."""
        if not isinstance(self.tokenizer_sha256, str):
            raise ValueError("tokenizer_sha256 is no text")
        _check_count("vocab_size", self.vocab_size, MAX_VOCAB_SIZE)
        for role, id_ in asdict(self.special_ids).items():
            if not (role == "unk" and id_ is None):
                _check_count(f"the id of {role}", id_, self.vocab_size - 1)
        for id_ in self.reserved_ids:
            _check_count("a reserved id", id_, self.vocab_size - 1)
        if len(set(self.reserved_ids)) >= self.vocab_size:
            raise ValueError("every id is reserved, and none is left to predict")
        for name, split in self.splits.items():
            if not is_plain_name(name):
                raise ValueError(f"a split of the name {name!r}")
            _check_count(f"documents of {name}", split.documents, MAX_TOKENS)
            _check_count(f"tokens of {name}", split.tokens, MAX_TOKENS)
        for name in self.tokenizer_files:
            if not is_plain_name(name):
                raise ValueError(f"a tokenizer's file of the name {name!r}")
        if len(self.labels) > MAX_LABELS:
            raise ValueError(f"{len(self.labels)} labels, and {MAX_LABELS} are the most")
        if not all(isinstance(label, str) for label in self.labels):
            raise ValueError("a label that is no text")


def _check_count(what: str, number: Any, most: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
        shown = number if isinstance(number, int) and abs(number) < MAX_TOKENS else "what it is"
        raise ValueError(f"{what} cannot be {shown}; a whole number from 0 to {most} can")
