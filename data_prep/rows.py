"""What readers hand on: a good row is a ``Document``, a bad one the ``Reject`` that says why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, NamedTuple

# More than the longest novels have. A tokenizer takes some 120 bytes a character of one text at
# once (measured with a byte-level BPE), so 1.2 GB for a text of this length.
MAX_CHARACTERS = 10_000_000
# Control characters that text uses: backspace (overstruck manual pages), tab, newline, vertical
# tab, form feed, carriage return, escape (coloured terminal output).
TEXT_CONTROLS = b"\b\t\n\v\f\r\x1b"
OTHER_CONTROLS = bytes(set(range(1, 32)) - set(TEXT_CONTROLS)) + b"\x7f"
MAX_CONTROLS = 0.1
UTF8_BYTES = 4  # of a character, at most


class Reject(Enum):
    """Why a row is not a document; the value is what the report prints."""

    INVALID_UTF8 = "invalid UTF-8"
    INVALID_JSON = "invalid JSON"
    NOT_AN_OBJECT = "not a JSON object"
    UNCLOSED_QUOTE = "CSV quote never closed"
    MISSING = "text field missing"
    NULL = "text field null"
    NOT_TEXT = "text field not a string"
    BAD_LABEL = "label a list or an object"
    EMPTY = "empty or only whitespace"
    TOO_LONG = "too long"
    BINARY = "binary"
    NO_TOKENS = "no tokens"
    TRUNCATED = "rest of a truncated file"


class Document(NamedTuple):
    """One good row.

    Attributes:
        label: what the row's label field holds, as a string; None where it is null or missing.
    """

    text: str
    label: str | None = None


Row = Document | Reject


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What to take of each row.

    Attributes:
        text: the field or column that holds the text.
        label: the one that holds a label of the document's quality or kind, if any.
        max_characters: a longer text is a reject, and so is a row that cannot but hold one.
        keep_truncated: whether the missing rest of a compressed file is one reject rather than an
            error.
    """

    text: str = "text"
    label: str | None = None
    max_characters: int = MAX_CHARACTERS
    keep_truncated: bool = False

    def fingerprint(self) -> dict[str, Any]:
        """What must stay the same for a corpus to be continued.

        Not ``keep_truncated``: parts that were finished without it are the same with it, so that it
        can be set when, after days, a file turns out to be truncated.
        """
        return {key: value for key, value in asdict(self).items() if key != "keep_truncated"}


def make_row(text: Any, label: Any, fields: Fields) -> Row:
    """The row of a text and a label as they stand in the data; bytes are taken as UTF-8."""
    if text is None:
        return Reject.NULL
    if isinstance(text, bytes):
        text = check_bytes(text, fields.max_characters)
    elif isinstance(text, str):
        text = check_text(text, fields.max_characters)
    else:
        return Reject.NOT_TEXT
    if isinstance(text, Reject):
        return text
    if label is None:
        return Document(text)
    label = _label(label)
    return label if isinstance(label, Reject) else Document(text, label)


def check_bytes(value: bytes, max_characters: int = MAX_CHARACTERS) -> str | Reject:
    """The text of UTF-8 bytes, or why it is not a document."""
    if len(value) > UTF8_BYTES * max_characters:
        return Reject.TOO_LONG
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return Reject.BINARY if b"\0" in value else Reject.INVALID_UTF8
    return check_text(text, max_characters)


def check_text(value: str, max_characters: int = MAX_CHARACTERS) -> str | Reject:
    """The text itself, or why it is not a document.

    Text is binary if it holds a NUL, or if more than ``MAX_CONTROLS`` of its bytes are control
    characters other than ``TEXT_CONTROLS``.
    """
    if not value or value.isspace():
        return Reject.EMPTY
    if len(value) > max_characters:
        return Reject.TOO_LONG
    try:
        data = value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return Reject.INVALID_UTF8
    # In bytes: a search for control characters in the string itself takes ten times as long.
    controls = len(data) - len(data.translate(None, OTHER_CONTROLS))
    if b"\0" in data or controls > MAX_CONTROLS * len(data):
        return Reject.BINARY
    return value


def _label(value: Any) -> str | Reject | None:
    if isinstance(value, list | tuple | dict):
        return Reject.BAD_LABEL
    try:
        label = value.decode() if isinstance(value, bytes) else str(value)
        label.encode()
    except UnicodeError:
        return Reject.INVALID_UTF8
    return label or None
