"""The text of HTML pages that a reader sees, by resiliparse (optional)."""

from __future__ import annotations

from importlib.util import find_spec

from data_prep.rows import Document, Reject, Row
from flexbert.errors import UserError

INSTALL = "pip install resiliparse"


def require_extractor(place: str) -> None:
    """Raises UserError if there is nothing to read HTML with."""
    if find_spec("resiliparse") is None:
        raise UserError(
            f"{place}: HTML needs the package resiliparse; install it with: {INSTALL}; or read "
            "the pages with their tags, as --format text"
        )


def decode_html(page: bytes) -> str | bytes:
    """A page in the encoding that it says it has, or that its bytes suggest; UTF-8 comes first.

    Bytes that no encoding fits come back as they are.
    """
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    if b"\0" in page and not page.startswith((b"\xff\xfe", b"\xfe\xff")):
        return page  # binary, whatever encoding would fit
    try:
        return page.decode()
    except UnicodeDecodeError:
        pass
    try:
        encoding = detect_encoding(page, from_html_meta=True) or "utf-8"
        return bytes_to_str(page, encoding, errors="strict")
    except (LookupError, UnicodeError):
        return page


def html_to_text(document: Document) -> Row:
    """The main text of a page, block by block; no tags, scripts, menus or footers."""
    from resiliparse.extract.html2text import extract_plain_text

    text = extract_plain_text(document.text, main_content=True).strip()
    return document._replace(text=text) if text else Reject.NO_HTML_TEXT
