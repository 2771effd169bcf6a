"""``python -m data_prep tokenizer``: train a tokenizer.

It gets BERT's special tokens, the template ``[CLS] A [SEP] B [SEP]``, unused ids at the end, a
vocabulary that is a multiple of 64 (matrix products like that), and is saved so that AutoTokenizer
loads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from data_prep.corpus_report import write_report
from data_prep.tokenizer_kinds import TokenizerKind, learn
from data_prep.training_text import TrainingText
from flexbert.errors import UserError
from flexbert.files.durable import new_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MULTIPLE = 64
SETTINGS = {"model_input_names": ["input_ids", "attention_mask"], "model_max_length": 8192}
SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
DEFAULT_KIND = TokenizerKind()
UNUSED_NUMBER = re.compile(r"\[unused(\d+)\]")


def train_tokenizer(
    text: TrainingText, *, vocab_size: int, unused: int, kind: TokenizerKind = DEFAULT_KIND
) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    What it learns comes first, then the special tokens, then ``unused`` reserved ones; where the
    text gives fewer tokens, more unused ones fill the vocabulary.

    Raises:
        UserError: if the sizes do not fit together or the inputs hold no text.
    """
    if vocab_size % MULTIPLE:
        below = vocab_size // MULTIPLE * MULTIPLE
        nearest = " or ".join(str(size) for size in (below, below + MULTIPLE) if size)
        raise UserError(
            f"--vocab-size {vocab_size} is not a multiple of {MULTIPLE}; nearest: {nearest}"
        )
    # The kinds with an unknown token have it among what they learn.
    special = len(SPECIAL_TOKENS) - (kind.model != "bpe")
    wanted = vocab_size - special - unused
    with text.waiting():
        backend = learn(kind, text.texts, wanted)
    learnt = backend.get_vocab_size()
    if learnt < wanted:
        print(f"the text gives {learnt} tokens, not {wanted}: the rest becomes unused tokens")
    return complete(backend, {}, vocab_size=vocab_size)


def check_free(folder: Path) -> None:
    """Raises UserError if the folder to be written already holds something."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} already exists; choose another --out or delete it")


def save_tokenizer(
    tokenizer: PreTrainedTokenizerFast, folder: Path, report: Mapping[str, Any] | None = None
) -> None:
    """Save as a Hugging Face folder, complete or not at all; the folder must be free.

    Args:
        report: of :func:`data_prep.tokenizer_report.describe_tokenizer`, saved with it.
    """
    with new_folder(folder) as written:
        tokenizer.save_pretrained(written)
        if report is not None:
            write_report(written, dict(report))


def unused_numbers(backend: Tokenizer) -> list[int]:
    found = (UNUSED_NUMBER.fullmatch(token) for token in backend.get_vocab())
    return [int(match[1]) for match in found if match]


def complete(
    backend: Tokenizer,
    roles: dict[str, str],
    *,
    vocab_size: int | None,
    settings: Mapping[str, Any] | None = None,
) -> PreTrainedTokenizerFast:
    """Add special and unused tokens and the template, and wrap for transformers.

    Args:
        roles: special tokens that exist; the others of ``SPECIAL_TOKENS`` are added.
        vocab_size: what unused tokens fill up to; None adds none.
        settings: of the wrapped tokenizer, in place of this module's.
    """
    from transformers import PreTrainedTokenizerFast

    tokens = {
        role: roles.get(role) or _special(default) for role, default in SPECIAL_TOKENS.items()
    }
    backend.add_special_tokens([token for role, token in tokens.items() if role not in roles])
    first = max(unused_numbers(backend), default=-1) + 1
    room = 0 if vocab_size is None else vocab_size - backend.get_vocab_size()
    backend.add_special_tokens([_special(f"[unused{first + i}]") for i in range(room)])
    cls, sep = str(tokens["cls_token"]), str(tokens["sep_token"])
    alone = backend.encode("x", add_special_tokens=False).ids
    # A template that says the same of one text is kept: RoBERTa's differs for pairs.
    if backend.encode("x").ids != [backend.token_to_id(cls), *alone, backend.token_to_id(sep)]:
        backend.post_processor = TemplateProcessing(
            single=f"{cls}:0 $A:0 {sep}:0",
            pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
            special_tokens=[(cls, backend.token_to_id(cls)), (sep, backend.token_to_id(sep))],
        )
    pre_tokenizer = json.loads(backend.to_str())["pre_tokenizer"] or {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        # transformers 4.57 sets the pre-tokenizer's to this, and takes silence for False.
        add_prefix_space=pre_tokenizer.get("add_prefix_space") is True,
        clean_up_tokenization_spaces=False,
        **{**SETTINGS, **(settings or {})},
        **tokens,
    )


def _special(content: str) -> AddedToken:
    # In "Paris is [MASK]" the word to predict is " big" with its space, as it was in training, so
    # the mask token takes the whitespace on its left.
    lstrip = content == SPECIAL_TOKENS["mask_token"]
    return AddedToken(content, lstrip=lstrip, normalized=False, special=True)
