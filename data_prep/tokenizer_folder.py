"""The tokenizer that a corpus is made with: read from a user's folder, checked, and written whole.

A user's folder may be a whole model's, or hold a ``tokenizer.json`` alone. A corpus gets the
tokenizer's files and no others, in a form that needs no model to be read, after a sample of the
documents has shown that AutoTokenizer gives the ids that the corpus will have.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_prep.readers import Fields, Reject, read_piece
from data_prep.sources import Inputs, cut_pieces
from flexbert.data.format.corpus_format import TOKENIZER_FILES, tokenizer_sha256
from flexbert.errors import UserError, first_line
from flexbert.files.durable import new_folder
from flexbert.files.regular import load_json

# Of the sample: so many files at most, of each so many documents, of each so many characters.
SAMPLED_FILES, SAMPLED_DOCUMENTS, SAMPLED_CHARACTERS = 16, 8, 2_000
SAMPLED_BYTES = 1 << 20


def read_whole_tokenizer(folder: Path) -> dict[str, str]:
    """The files of a tokenizer, file name to text, complete without the rest of its folder.

    Raises:
        UserError: if there is no ``tokenizer.json``, or transformers cannot read it.
    """
    tokenizer_sha256(folder)  # whether there is a tokenizer.json
    # Not before it is needed: it brings PyTorch and transformers, which take seconds.
    from flexbert.huggingface.tokenizer import read_tokenizer

    config = folder / "config.json"
    try:
        model_type = load_json(config).get("model_type") if config.is_file() else None
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{config}: not readable as JSON ({first_line(error)})") from None
    try:
        return read_tokenizer(folder, model_type if isinstance(model_type, str) else None)
    except UserError as error:
        problem = str(error)
        raise UserError(
            problem if problem.startswith(str(folder)) else f"{folder}: {problem}"
        ) from None


def require_own_ids(texts: Mapping[str, str], folder: Path, inputs: Inputs, fields: Fields) -> None:
    """Refuse a tokenizer of which AutoTokenizer would give other ids than the corpus.

    Raises:
        UserError: naming a text of the sample, both its ids, and the commands that mend it.
    """
    from flexbert.huggingface.tokenizer_agreement import disagreement

    found = disagreement(texts, sample_documents(inputs, fields))
    if found:
        adapt = "python -m data_prep tokenizer --out NEW --adapt"
        raise UserError(
            f"{folder}: {found}; for what the corpus would have: {adapt} {folder}/tokenizer.json, "
            f"for what AutoTokenizer gives: {adapt} {folder}"
        )


def sample_documents(inputs: Inputs, fields: Fields) -> Iterator[str]:
    """The first documents of files that are spread over the inputs, cut at some length."""
    step = -(-len(inputs.files) // SAMPLED_FILES)
    for file in inputs.files[::step]:
        piece = next(cut_pieces(file, SAMPLED_BYTES), None)
        rows = iter(()) if piece is None else read_piece(piece, fields)
        texts = (row.text for row in rows if not isinstance(row, Reject))
        for text in itertools.islice(texts, SAMPLED_DOCUMENTS):
            yield text[:SAMPLED_CHARACTERS]


def fingerprint(texts: Mapping[str, str]) -> str:
    """What :func:`tokenizer_sha256` will give for the written folder."""
    return hashlib.sha256(texts["tokenizer.json"].encode()).hexdigest()


def write_files(texts: Mapping[str, str], folder: Path) -> None:
    """Write them as a folder, in the place of one that an interrupted command left."""
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as written:
        for name, text in texts.items():
            (written / name).write_bytes(text.encode())


def tokenizer_files(folder: Path) -> tuple[str, ...]:
    """The names of a tokenizer's files in a folder, sorted."""
    return tuple(sorted(name for name in TOKENIZER_FILES if (folder / name).is_file()))
