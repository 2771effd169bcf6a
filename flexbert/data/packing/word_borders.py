"""Where words begin, by token id, as a corpus's tokenizer shows it.

Three conventions are known, and each is read off ``tokenizer.json`` alone:

- a prefix of what goes on with a word (WordPiece's ``##``);
- a suffix of what ends one (``</w>``);
- the blank that stands before a word, as such, as a byte (byte-level BPE's ``Ġ``) or as ``▁``. What
  is written without a blank between is one word, punctuation included, as in fairseq.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flexbert.config.masking_choice import WORD, MaskingConfig
from flexbert.data.format.corpus_format import (
    TOKENIZER_FOLDER,
    CorpusError,
    CorpusMeta,
    read_description,
)
from flexbert.data.packing.masking import BEGINS_WORD, NEXT_BEGINS_WORD
from flexbert.errors import ConfigError, first_line
from flexbert.files.regular import parse_json

BLANK = "\u2581"  # SentencePiece's


def unit_borders(masking: MaskingConfig, corpus: Path) -> np.ndarray | None:
    """What masking has to know of a corpus's tokens; None if nothing.

    Returns:
        Those of :func:`word_borders`, where words are to be masked whole.

    Raises:
        ConfigError: if the tokenizer does not show where words begin.
        CorpusError: if its file cannot be read.
    """
    if masking.units != WORD:
        return None
    file = corpus / TOKENIZER_FOLDER / "tokenizer.json"
    try:
        borders = word_borders(parse_json(read_description(file)), CorpusMeta.read(corpus))
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise CorpusError(f"{file}: not a tokenizer ({first_line(error)})") from None
    if borders is None:
        raise ConfigError(
            "data.masking",
            f"the tokenizer of {corpus} does not show where words begin: its tokens have neither a "
            "prefix such as ## nor blanks; use data.masking={name: token}, or {name: span, unit: "
            "token}",
        )
    return borders


def word_borders(tokenizer: Any, meta: CorpusMeta) -> np.ndarray | None:
    """Of every id whether it begins a word, and whether the next token does: uint8 ``[V]``.

    Args:
        tokenizer: a ``tokenizer.json``, parsed.

    Returns:
        ``BEGINS_WORD``, ``NEXT_BEGINS_WORD``, both or 0 for each; None if its tokens do not show
        them.
    """
    model = tokenizer["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram's, with scores
        vocabulary = {token: index for index, (token, _) in enumerate(vocabulary)}
    borders = np.zeros(meta.vocab_size, np.uint8)
    reserved = set(meta.reserved_ids)
    ordinary = {token: index for token, index in vocabulary.items() if index not in reserved}
    prefix = model.get("continuing_subword_prefix")
    suffix = model.get("end_of_word_suffix")
    if model.get("type") == "WordLevel":
        borders[list(ordinary.values())] = BEGINS_WORD
    elif prefix:
        borders[[i for token, i in ordinary.items() if not token.startswith(prefix)]] = BEGINS_WORD
    elif suffix:
        borders[[i for token, i in ordinary.items() if token.endswith(suffix)]] = NEXT_BEGINS_WORD
    else:
        as_text = _reader(tokenizer)
        for token, index in ordinary.items():
            borders[index] = _of_text(as_text(token))
    if not borders.any():
        return None
    # Found in the text before anything else, wherever they stand.
    for added in tokenizer.get("added_tokens") or []:
        borders[added["id"]] = BEGINS_WORD | NEXT_BEGINS_WORD
    return borders


def _of_text(text: str) -> int:
    """By the blanks of a token.

    A single blank at its end belongs to the word that follows, as it does where a tokenizer has no
    token for both; a line's end, a tab or a run of blanks does not.
    """
    begins = text[:1].isspace()
    ends = text[-1:].isspace() and (text[-1] != " " or (len(text) > 1 and text.isspace()))
    return BEGINS_WORD * begins | NEXT_BEGINS_WORD * ends


def _reader(tokenizer: Any) -> Any:
    """What gives the text that a token stands for, as far as blanks are concerned."""
    names = {
        name
        for role in ("normalizer", "pre_tokenizer", "decoder")
        for name in _parts(tokenizer.get(role))
    }
    if "ByteLevel" in names:
        bytes_of = _bytes_of_characters()
        return lambda token: bytes(bytes_of.get(c, 0) for c in token).decode(errors="replace")
    return lambda token: token.replace(BLANK, " ")


def _parts(node: Any) -> list[str]:
    """The types of a part of a tokenizer, and of what a sequence consists of."""
    if not node:
        return []
    inside = (
        *node.get("normalizers", ()),
        *node.get("pretokenizers", ()),
        *node.get("decoders", ()),
    )
    return [node.get("type", ""), *(name for part in inside for name in _parts(part))]


def _bytes_of_characters() -> dict[str, int]:
    """The byte of each character that byte-level tokenizers write for one (GPT-2's alphabet).

    Printable characters of Latin-1 stand for themselves, the others follow from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + number): byte for number, byte in enumerate(others)
    }
