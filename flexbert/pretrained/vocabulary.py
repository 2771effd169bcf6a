"""Whether a corpus and a trained model mean the same tokens by the same ids, and what if not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flexbert.checkpoint.checkpoint import Weights
from flexbert.config.model import ModelConfig
from flexbert.errors import ConfigError
from flexbert.huggingface.tokenizer import ROLES, fast_tokenizer, special_ids
from flexbert.pretrained.load_model import ReadModel

Texts = Mapping[str, str]
# Parameters whose first dimension has a row for each token.
_TOKEN_ROWS = ("encoder.embedding.tokens.weight", "head.decoder.weight", "head.decoder.bias")


def check_same_vocabulary(tokenizer: Texts, old: Texts, source: Path) -> None:
    """Refuse a corpus whose ids stand for other tokens than the trained model's.

    Args:
        tokenizer: the corpus's, file name to text.
        old: the model's.
        source: what the model was read from.

    Raises:
        ConfigError: if an id of the corpus's tokenizer is another token there, or none.
    """
    if difference := vocabulary_difference(tokenizer, old):
        raise ConfigError(
            "init_from",
            f"the corpus was made with another tokenizer than {source}: {difference}; make the "
            "corpus with the model's tokenizer (python -m data_prep corpus --tokenizer), or give "
            "init_from.vocabulary=by_token",
        )


def vocabulary_difference(tokenizer: Texts, old: Texts) -> str | None:
    """Which ids of a corpus's tokenizer are other tokens in a model's, or none: a clause.

    Returns:
        None if every id means the same there.
    """
    if dict(tokenizer) == dict(old):
        return None
    ids, old_ids = (fast_tokenizer(each).get_vocab(True) for each in (tokenizer, old))
    old_tokens = {number: token for token, number in old_ids.items()}
    others = sorted((n, token) for token, n in ids.items() if old_tokens.get(n) != token)
    if not others:
        return None
    number, token = others[0]
    theirs = repr(old_tokens[number]) if number in old_tokens else "none"
    return (
        f"{len(others):,} of {len(ids):,} ids mean other tokens (id {number} is {token!r}, and "
        f"{theirs} there)"
    )


def by_token(
    read: ReadModel, tokenizer: Texts, vocab_size: int
) -> tuple[ModelConfig, Weights, list[str]]:
    """A trained model with its rows in the order of another tokenizer.

    A token that both tokenizers have keeps its row, and so does a special token by its role. A new
    one gets the mean of the rows of those into which the old tokenizer cuts its text.

    Args:
        tokenizer: the new one.
        vocab_size: rows of the new matrix, V.

    Returns:
        Config and weights with V rows for tokens, and what was done, for people.

    Raises:
        ConfigError: if the new tokenizer has more tokens than there are to be rows.
    """
    ids: dict[str, int] = fast_tokenizer(tokenizer).get_vocab(True)
    if max(ids.values()) >= vocab_size:
        raise ConfigError(
            "model.vocab_size",
            f"is {vocab_size}, and the corpus's tokenizer has the id {max(ids.values())}: give "
            f"{-(-(max(ids.values()) + 1) // 64) * 64}",
        )
    sources, num_known, num_empty = _sources(read, tokenizer, ids)
    weights = dict(read.weights)
    for name in _TOKEN_ROWS:
        if name in weights:
            weights[name] = _rows(weights[name], sources, vocab_size)
    num_new = len(ids) - num_known
    notes = [
        f"rows by token: {num_known:,} of {len(ids):,} tokens have their own, {num_new:,} new ones "
        "the mean of those that the checkpoint's tokenizer cuts them into"
    ]
    if num_empty:
        notes.append(f"{num_empty:,} new tokens are nothing to it: the mean of all rows")
    return replace(read.config, vocab_size=vocab_size), weights, notes


def _sources(
    read: ReadModel, tokenizer: Texts, ids: Mapping[str, int]
) -> tuple[dict[int, list[int]], int, int]:
    """Old ids for each new one; how many tokens are known, and how many have none."""
    new, old = fast_tokenizer(tokenizer), fast_tokenizer(read.tokenizer)
    old_ids: dict[str, int] = old.get_vocab(True)
    roles, old_roles = (
        special_ids(texts, size)
        for texts, size in ((tokenizer, len(ids) + max(ids.values())), (read.tokenizer, 1 << 62))
    )
    same_role = {
        roles[role]: old_roles[role]
        for role in ROLES
        if roles[role] is not None and old_roles[role] is not None
    }
    sources: dict[int, list[int]] = {}
    num_known = num_empty = 0
    for token, number in ids.items():
        known = same_role.get(number, old_ids.get(token))
        if known is not None:
            sources[number] = [known]
            num_known += 1
            continue
        sources[number] = _cut(old, _text_of(new, token, number))
        num_empty += not sources[number]
    return sources, num_known, num_empty


def _text_of(tokenizer: Any, token: str, number: int) -> str:
    """What a token stands for in a text, the space before it included."""
    if token.startswith("##"):
        return token.removeprefix("##")
    text: str = tokenizer.decode([number], skip_special_tokens=False)
    # A decoder of whole texts drops the space before the first word.
    return f" {text}" if token.startswith("▁") and not text.startswith(" ") else text


def _cut(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def _rows(old: Tensor, sources: Mapping[int, list[int]], vocab_size: int) -> Tensor:
    """The rows of the new ids ``[V, ...]``, means of old ones; ids of no token get the mean."""
    old = old.to(torch.float32)
    new = old.mean(0, keepdim=True).expand(vocab_size, *old.shape[1:]).clone()
    for number, olds in sources.items():
        if olds:
            new[number] = old[olds].mean(0)
    return new
