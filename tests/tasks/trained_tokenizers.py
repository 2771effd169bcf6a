"""Tokenizers of several makes whose words have several tokens."""

from __future__ import annotations

from typing import Any

import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SENTENCES = [
    "Don't stop, naïve café-goers: 12,000 of them wait (again).",
    "x",
    "",
    "  two  spaces\tand a tab ",
    "\u4e2d\u6587 and emoji \U0001f600\U0001f600 mixed",
    "antidisestablishmentarianism " * 5,
    "some words of which the longer text has more than the other one",
]
TOKENIZERS: dict[str, Any] = {
    "byte-level": (
        models.BPE(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        None,
        trainers.BpeTrainer,
        processors.ByteLevel(trim_offsets=True),
    ),
    # As ModernBERT's: a token covers the space before its word.
    "byte-level with spaces": (
        models.BPE(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        None,
        trainers.BpeTrainer,
        None,
    ),
    "wordpiece": (
        models.WordPiece(unk_token="[UNK]"),
        pre_tokenizers.BertPreTokenizer(),
        normalizers.BertNormalizer(),
        trainers.WordPieceTrainer,
        None,
    ),
    "unigram": (
        models.Unigram(),
        pre_tokenizers.Metaspace(),
        normalizers.NFKC(),
        trainers.UnigramTrainer,
        None,
    ),
}


def trained_tokenizer(name: str) -> Any:
    """A tokenizer trained on a few sentences, whose words have several tokens."""
    model, before, normal, trainer, after = TOKENIZERS[name]
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = before
    if normal is not None:
        tokenizer.normalizer = normal
    tokenizer.decoder = decoders.ByteLevel()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    more: dict[str, Any] = {"unk_token": "[UNK]"} if name == "unigram" else {}
    if name.startswith("byte-level"):
        more["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES * 4,
        trainer(vocab_size=330, special_tokens=special, show_progress=False, **more),
    )
    template = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.post_processor = template if after is None else processors.Sequence([after, template])
    roles = {f"{name.strip('[]').lower()}_token": name for name in special}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)
