"""A corpus of random ids in documents of web-like lengths, for measuring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from streaming import MDSWriter
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from benchmarks.packing import web_documents
from flexbert.data.format.corpus_format import (
    COLUMN,
    LENGTHS_FILE,
    SHARD_HASH,
    TOKENIZER_FOLDER,
    CorpusMeta,
    SpecialIds,
    SplitMeta,
    tokenizer_sha256,
)

_SPECIAL = ("unk", "cls", "sep", "pad", "mask")


def make_random_corpus(folder: Path, vocab_size: int, tokens: int, mean: int) -> None:
    """One training split of about this many tokens, ``mean`` a document, with a tokenizer of words.

    The last five ids are the special ones.
    """
    special = special_ids(vocab_size)
    ordinary = min(special.values())
    generator = np.random.default_rng(0)
    lengths = web_documents(mean, tokens // mean).astype(np.uint32)
    writer = MDSWriter(
        out=str(folder / "train"), columns={COLUMN: "ndarray:uint16"}, hashes=[SHARD_HASH]
    )
    with writer:
        for length in lengths:
            writer.write({COLUMN: generator.integers(0, ordinary, length, dtype=np.uint16)})
    lengths.tofile(folder / "train" / LENGTHS_FILE)
    save_word_tokenizer(folder / TOKENIZER_FOLDER, vocab_size)
    CorpusMeta(
        tokenizer_sha256=tokenizer_sha256(folder / TOKENIZER_FOLDER),
        vocab_size=vocab_size,
        special_ids=SpecialIds(**special),
        reserved_ids=tuple(special.values()),
        splits={"train": SplitMeta(documents=len(lengths), tokens=int(lengths.sum()))},
    ).write(folder)


def special_ids(vocab_size: int) -> dict[str, int]:
    """The last five ids of the vocabulary, by name."""
    return {name: vocab_size - len(_SPECIAL) + i for i, name in enumerate(_SPECIAL)}


def save_word_tokenizer(folder: Path, vocab_size: int) -> None:
    """A tokenizer whose ordinary entries are the words w0, w1 and so on."""
    special = special_ids(vocab_size)
    vocabulary = {f"w{i}": i for i in range(min(special.values()))}
    vocabulary |= {f"[{name.upper()}]": token_id for name, token_id in special.items()}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")),
        **{f"{name}_token": f"[{name.upper()}]" for name in _SPECIAL},
    ).save_pretrained(folder)
