"""What readers hand on: a good row is a ``Document``, a bad one the ``Reject`` that says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any, NamedTuple

from data_prep.template import fill_template, template_fields

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
    NO_HTML_TEXT = "HTML without text"
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
    """What to take of each row, and how.

    A field is a key of a JSON object or a column; ``a.b`` is the field ``b`` of the field ``a``
    where no field has that very name.

    Attributes:
        text: the field that holds the text.
        label: the one that holds a label of the document's quality or kind, if any.
        max_characters: a longer text is a reject, and so is a row that cannot but hold one.
        keep_truncated: whether the missing rest of a compressed file is one reject rather than an
            error.
        template: the text of several fields, ``{title}: {body}``, in the place of ``text``.
        constant_label: the label of every document, in the place of ``label``.
        delimiter: what separates the fields of a CSV file; by default what its format says.
        quotes: whether a quote in a CSV file holds delimiters and line ends.
        html: whether the text is HTML, of which the text that a reader sees is taken.
    """

    text: str = "text"
    label: str | None = None
    max_characters: int = MAX_CHARACTERS
    keep_truncated: bool = False
    template: str | None = None
    constant_label: str | None = None
    delimiter: str | None = None
    quotes: bool = True
    html: bool = False

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The fields that the text is made of, in the order of :func:`make_row`'s values."""
        return (self.text,) if self.template is None else template_fields(self.template)

    @property
    def all_fields(self) -> tuple[str, ...]:
        """Each field that is read, once."""
        label = () if self.label is None else (self.label,)
        return tuple(dict.fromkeys((*self.text_fields, *label)))

    @property
    def labelled(self) -> bool:
        return self.label is not None or self.constant_label is not None

    def fingerprint(self) -> dict[str, Any]:
        """What must stay the same for a corpus to be continued.

        Not ``keep_truncated``: parts that were finished without it are the same with it, so that it
        can be set when, after days, a file turns out to be truncated. What came later than the
        first three is left out while it has its default, so that older manifests stay valid.
        """
        always = ("text", "label", "max_characters")
        defaults = {field.name: field.default for field in fields(self)}
        return {
            key: value
            for key, value in asdict(self).items()
            if key != "keep_truncated" and (key in always or value != defaults[key])
        }


def make_row(values: Sequence[Any], label: Any, how: Fields) -> Row:
    """The row of some values and a label as they stand in the data; bytes are taken as UTF-8.

    Args:
        values: of ``how.text_fields``, in their order.
    """
    if how.template is None:
        return _with_label(_plain(values[0], how), label, how)
    return _with_label(_filled(values, how.template, how), label, how)


def text_row(value: str | bytes, how: Fields) -> Row:
    """The row of a text that stands in no field."""
    return _with_label(_plain(value, how), None, how)


def _with_label(text: str | Reject, label: Any, how: Fields) -> Row:
    if isinstance(text, Reject):
        return text
    label = how.constant_label if label is None else label
    if label is None:
        return Document(text)
    label = _label(label)
    return label if isinstance(label, Reject) else Document(text, label)


def _plain(value: Any, how: Fields) -> str | Reject:
    if value is None:
        return Reject.NULL
    if isinstance(value, bytes):
        return check_bytes(value, how.max_characters)
    if isinstance(value, str):
        return check_text(value, how.max_characters)
    return Reject.NOT_TEXT


def _filled(values: Sequence[Any], template: str, how: Fields) -> str | Reject:
    """One text of several values: a single one may be blank, not all of them."""
    texts: list[str] = []
    for value in values:
        text = _plain(value, how)
        if text is Reject.EMPTY:
            text = ""
        if isinstance(text, Reject):
            return text
        texts.append(text)
    return (
        check_text(fill_template(template, texts), how.max_characters)
        if any(texts)
        else Reject.EMPTY
    )


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
