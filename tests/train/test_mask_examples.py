"""Which parts of the evaluated texts are shown, and how their tokens read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models

from flexbert.config.training import IGNORE
from flexbert.train import mask_examples
from flexbert.train.mask_examples import MOST_MASKED, MOST_TOKENS, excerpts

CLS, SEP, PAD, MASK = 1, 2, 0, 3
ROW_LENGTH = 200


def microbatch(lengths: list[int], masked: list[int]) -> tuple[dict[str, Any], np.ndarray]:
    """A micro-batch of two rows, the sequences in the first, and its ids before masking."""
    original = np.zeros(2 * ROW_LENGTH, np.int64)
    bounds = [0, *np.cumsum(lengths).tolist()]
    for begin, end in itertools.pairwise(bounds):
        original[begin:end] = np.arange(begin, end) + 10
        original[begin], original[end - 1] = CLS, SEP
    original[ROW_LENGTH:] = np.arange(ROW_LENGTH) + 1000
    # The second row is masked as well, and is not looked at.
    positions = [*masked, ROW_LENGTH + 5]
    ids = original.copy()
    ids[positions] = MASK
    batch = {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.tensor([*original[positions].tolist(), IGNORE]),
        "masked_positions": torch.tensor([*positions, 0]),
        "cu_seqlens": torch.tensor([*bounds, ROW_LENGTH, 2 * ROW_LENGTH, 2 * ROW_LENGTH]),
    }
    return batch, original


def test_parts_are_those_of_the_first_row_before_masking() -> None:
    batch, original = microbatch([100, 60, 20], [5, 9, 50, 103, 130, 170])
    found = excerpts(batch, ROW_LENGTH, 10)
    begins = [1, 101, 161, 41]  # the beginnings of three sequences, then the next part of the first
    assert [one.ids[0] for one in found] == original[begins].tolist()
    assert [one.ids for one in found] == [
        original[begin : begin + len(one.ids)].tolist()
        for begin, one in zip(begins, found, strict=True)
    ]
    assert [one.masked for one in found] == [[4, 8], [2, 29], [9], [9]]
    assert [one.indices for one in found] == [[0, 1], [3, 4], [5], [2]]
    assert max(len(one.ids) for one in found) == MOST_TOKENS
    assert all({CLS, SEP, MASK}.isdisjoint(one.ids) for one in found)
    assert len(excerpts(batch, ROW_LENGTH, 2)) == 2


def test_much_that_is_masked_ends_a_part_early() -> None:
    batch, _ = microbatch([150], list(range(2, 30)))
    (first, *_) = excerpts(batch, ROW_LENGTH, 5)
    assert len(first.masked) == MOST_MASKED
    assert len(first.ids) == 1 + MOST_MASKED


def test_a_row_with_nothing_masked_has_no_example() -> None:
    batch, _ = microbatch([60, 60], [])
    assert excerpts(batch, ROW_LENGTH, 3) == []


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
def test_tokens_read_as_they_do_in_their_text(kind: str) -> None:
    if kind == "wordpiece":
        words = ["[UNK]", "the", "play", "##ing", "."]
        vocabulary = {word: number for number, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.decoder = decoders.WordPiece()
        expected = ["the", " play", "ing"]
    else:
        # The euro sign is three bytes; each alone is no character.
        vocabulary = {"the": 0, "Ġ": 1, "â": 2, "Ĥ": 3, "¬": 4}
        tokenizer = Tokenizer(models.BPE(vocabulary, []))
        tokenizer.decoder = decoders.ByteLevel()
        expected = ["the", " ", "�"]
    ids = [1, 2, 3] if kind == "wordpiece" else [0, 1, 2]
    texts = [mask_examples._text(tokenizer, ids[:n], [ids[n]]) for n in range(3)]
    assert texts == expected


def test_a_tokenizer_that_cannot_be_read_costs_examples_and_no_training(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert mask_examples._tokenizer({"tokenizer.json": "{"}) is None
    assert mask_examples._tokenizer({}) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("warning: no examples of masked texts") for line in lines)
