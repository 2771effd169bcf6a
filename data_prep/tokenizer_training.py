"""``python -m data_prep tokenizer``: train a byte-level BPE, or adapt an existing tokenizer.

Both end in the same way: BERT's special tokens, the template ``[CLS] A [SEP] B [SEP]``, unused ids
at the end, a vocabulary that is a multiple of 64 (matrix products like that), saved so that
AutoTokenizer loads it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from data_prep.readers import Fields, Reject, read_piece
from data_prep.sources import Inputs, cut_pieces
from flexbert.errors import UserError, first_line
from flexbert.files.durable import new_folder
from flexbert.files.regular import refuse_irregular

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MULTIPLE = 64
MODEL_MAX_LENGTH = 8192
SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
UNUSED_NUMBER = re.compile(r"\[unused(\d+)\]")
READ_BYTES = 1 << 26


def train_tokenizer(
    inputs: Inputs, *, vocab_size: int, unused: int, fields: Fields
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE: every Unicode text is encoded without loss.

    There is no normalization, and all 256 bytes are in the vocabulary. Merges come first, then the
    special tokens, then ``unused`` reserved ones; where the text is too small for that many merges,
    more unused tokens fill the vocabulary.

    Raises:
        UserError: if the sizes do not fit together or the inputs hold no text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = vocab_size - len(SPECIAL_TOKENS) - unused
    if vocab_size % MULTIPLE:
        below = vocab_size // MULTIPLE * MULTIPLE
        nearest = " or ".join(str(size) for size in (below, below + MULTIPLE) if size)
        raise UserError(
            f"--vocab-size {vocab_size} is not a multiple of {MULTIPLE}; nearest: {nearest}"
        )
    if unused < 0 or merged < len(alphabet):
        raise UserError(
            f"--vocab-size {vocab_size} with --unused {unused} leaves {max(merged, 0)} tokens for "
            f"text; the {len(alphabet)} bytes alone need that many"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = _texts(inputs, fields)
    first = next(texts, None)
    if first is None:
        raise UserError("the inputs hold no usable text to train a tokenizer on")
    backend.train_from_iterator(
        itertools.chain([first], texts),
        trainers.BpeTrainer(
            vocab_size=merged, initial_alphabet=alphabet, special_tokens=[], show_progress=False
        ),
    )
    learnt = backend.get_vocab_size()
    if learnt < merged:
        print(f"the text gives {learnt} tokens, not {merged}: the rest becomes unused tokens")
    return _complete(backend, {}, vocab_size=vocab_size)


def adapt_tokenizer(name_or_folder: str, *, unused: int) -> PreTrainedTokenizerFast:
    """Make an existing fast tokenizer fit for masked-LM training; its ids stay what they are.

    Special tokens that are missing, or that share an id with another role, are added; the template
    is set; unused tokens pad the vocabulary to a multiple of 64, at least ``unused`` of them.

    Raises:
        UserError: if it cannot be loaded, is not a fast tokenizer, or its ids are not 0, 1, 2, ...
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = Path(name_or_folder)
    try:
        if folder.is_dir():
            refuse_irregular(folder)
        # Said outright: left open, transformers asks on the terminal, and runs the folder's code.
        existing = AutoTokenizer.from_pretrained(
            name_or_folder, trust_remote_code=False, local_files_only=folder.is_dir()
        )
    # Its parsers raise whatever the place in a file is that they cannot read.
    except Exception as error:
        raise UserError(
            f"--adapt {name_or_folder}: cannot be loaded ({first_line(error)})"
        ) from None
    if not isinstance(existing, PreTrainedTokenizerFast):
        raise UserError(
            f"--adapt {name_or_folder}: {type(existing).__name__} is not a fast tokenizer "
            "(it has no tokenizer.json)"
        )
    backend = Tokenizer.from_str(existing.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    before = backend.get_vocab()
    if set(before.values()) != set(range(len(before))):
        # New tokens get the ids from the number of tokens on, whether or not those are taken.
        raise UserError(f"--adapt {name_or_folder}: its ids have gaps, new ones could collide")
    roles = {role: token for role in SPECIAL_TOKENS if (token := getattr(existing, role))}
    _drop_shared(roles)
    numbers = _unused_numbers(backend)
    missing = sum(token not in before for token in {**SPECIAL_TOKENS, **roles}.values())
    smallest = len(before) + missing + max(unused - len(numbers), 0)
    return _complete(backend, roles, vocab_size=-(-smallest // MULTIPLE) * MULTIPLE)


def check_free(folder: Path) -> None:
    """Raises UserError if the folder to be written already holds something."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} already exists; choose another --out or delete it")


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save as a Hugging Face folder, complete or not at all; the folder must be free."""
    with new_folder(folder) as written:
        tokenizer.save_pretrained(written)


def _texts(inputs: Inputs, fields: Fields) -> Iterator[str]:
    pieces = (piece for file in inputs.files for piece in cut_pieces(file, READ_BYTES))
    rows = (row for piece in pieces for row in read_piece(piece, fields))
    return (row.text for row in rows if not isinstance(row, Reject))


def _drop_shared(roles: dict[str, str]) -> None:
    """Drop roles whose token already has another role: training must tell them apart.

    A padding token that is also the end-of-text token is the usual case. The unknown token is
    never predicted nor placed by a template, so it may share.
    """
    taken: set[str] = set()
    for role in ("cls_token", "sep_token", "mask_token", "pad_token"):
        if role in roles and roles[role] in taken:
            del roles[role]
        elif role in roles:
            taken.add(roles[role])


def _unused_numbers(backend: Tokenizer) -> list[int]:
    found = (UNUSED_NUMBER.fullmatch(token) for token in backend.get_vocab())
    return [int(match[1]) for match in found if match]


def _complete(
    backend: Tokenizer, roles: dict[str, str], *, vocab_size: int
) -> PreTrainedTokenizerFast:
    """Add special and unused tokens and the template, and wrap for transformers.

    Args:
        roles: special tokens that exist; the others of ``SPECIAL_TOKENS`` are added.
    """
    from transformers import PreTrainedTokenizerFast

    tokens = {
        role: roles.get(role) or _special(default) for role, default in SPECIAL_TOKENS.items()
    }
    backend.add_special_tokens([token for role, token in tokens.items() if role not in roles])
    first = max(_unused_numbers(backend), default=-1) + 1
    room = vocab_size - backend.get_vocab_size()
    backend.add_special_tokens([_special(f"[unused{first + i}]") for i in range(room)])
    cls, sep = str(tokens["cls_token"]), str(tokens["sep_token"])
    backend.post_processor = TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, backend.token_to_id(cls)), (sep, backend.token_to_id(sep))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=MODEL_MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        **tokens,
    )


def _special(content: str) -> AddedToken:
    # In "Paris is [MASK]" the word to predict is " big" with its space, as it was in training, so
    # the mask token takes the whitespace on its left.
    lstrip = content == SPECIAL_TOKENS["mask_token"]
    return AddedToken(content, lstrip=lstrip, normalized=False, special=True)
