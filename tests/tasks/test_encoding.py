"""Texts in tokens, against transformers' tokenizers; packed batches, against texts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flexbert.config.training import IGNORE
from flexbert.huggingface.tokenizer import load_tokenizer
from flexbert.nn.packed_batch import PackedBatch
from flexbert.tasks.encoded_split import EncodedSplit
from flexbert.tasks.encoded_tasks import encode_split
from flexbert.tasks.fine_tuning import labelled_logits, new_start
from flexbert.tasks.kinds.kind import Examples
from flexbert.tasks.kinds.regression import Regression
from flexbert.tasks.kinds.text_classification import Classification
from flexbert.tasks.kinds.token_classification import TokenClassification
from flexbert.tasks.text_template import pair_lengths
from tests.nn.tolerances import assert_same
from tests.tasks.cases import KINDS, encoded, one_task, start_of, tiny_model
from tests.tasks.trained_tokenizers import SENTENCES


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [8, 9, 20, 512])
@pytest.mark.parametrize("pairs", [False, True])
def test_texts_are_cut_as_transformers_cuts_them(
    trained: Any, pairs: bool, max_length: int, side: str
) -> None:
    trained.truncation_side = side
    first = [text for text in SENTENCES for _ in SENTENCES]
    second = SENTENCES * len(SENTENCES)
    expected = trained(
        first,
        second if pairs else None,
        truncation="longest_first",
        max_length=max_length,
        return_token_type_ids=True,
    )
    split = encode_split(
        Examples(first=first, second=second if pairs else None, labels=[0.0] * len(first)),
        Regression(pair="other" if pairs else None),
        trained,
        max_length,
        token_types=True,
    )
    trained.truncation_side = "right"
    found = np.split(split.tokens, split.borders[1:-1])
    assert [each.tolist() for each in found] == expected["input_ids"]
    assert split.token_types is not None
    types = np.split(split.token_types, split.borders[1:-1])
    assert [each.tolist() for each in types] == expected["token_type_ids"]
    assert split.cut == sum(bool(each.overflowing) for each in expected.encodings)


def test_of_a_pair_the_longer_text_is_cut_until_both_are_as_long() -> None:
    def by_one(first: int, second: int, most: int) -> tuple[int, int]:
        while first + second > most:
            first, second = (first - 1, second) if first > second else (first, second - 1)
        return first, second

    for first in range(12):
        for second in range(12):
            for most in range(2, 20):
                found, expected = pair_lengths(first, second, most), by_one(first, second, most)
                assert sum(found) == sum(expected)
                assert abs(found[0] - expected[0]) <= 1, "of an odd number one has one more"


def test_a_text_of_a_million_characters_is_cut_and_counted(
    pair_tokenizer: dict[str, str],
) -> None:
    # Such a pair never ended while the library cut it.
    long = "some words " * 90_909
    examples = Examples(first=[long, "x"], second=[long, "some"], labels=[0, 1])
    tokenizer = load_tokenizer(pair_tokenizer)
    split = encode_split(examples, Classification(pair="b"), tokenizer, 64, token_types=False)
    assert (split.lengths[0], split.cut) == (64, 1)


def test_the_label_of_a_word_is_at_its_first_token(trained: Any) -> None:
    words = [sentence.split() or ["x"] for sentence in SENTENCES]
    labels = [[index % 5 for index in range(len(own))] for own in words]
    examples = Examples(first=words, labels=labels)
    split = encode_split(examples, TokenClassification(), trained, 512, token_types=False)
    for own, classes, begin, end in zip(
        words, labels, split.borders[:-1], split.borders[1:], strict=True
    ):
        made = trained(" ".join(own), return_offsets_mapping=True)
        assert made["input_ids"] == split.tokens[begin:end].tolist()
        # Word by word: the first token that ends within it and covers any of it.
        expected = [IGNORE] * (end - begin)
        start = 0
        for word, label in zip(own, classes, strict=True):
            for place, (low, high) in enumerate(made["offset_mapping"]):
                if low < high and start < high <= start + len(word):
                    expected[place] = label
                    break
            start += len(word) + 1
        assert split.labels[begin:end].tolist() == expected
        assert sum(label != IGNORE for label in expected) == len(own), "every word has a label"


@pytest.mark.parametrize("kind", KINDS)
def test_batches_laid_end_to_end_have_the_logits_of_one_text_at_a_time(
    tmp_path: Path, pair_tokenizer: dict[str, str], kind: str
) -> None:
    config = tiny_model()
    task = one_task(tmp_path, kind)
    _, data = encoded(task, config, pair_tokenizer)
    _, model = new_start(start_of(config), task.settings, data)
    model.eval()
    split = data.train
    examples = np.random.default_rng(0).permutation(len(split))
    together = labelled_logits(model, split.batch(examples, torch.device("cpu")))
    alone = torch.cat([_alone(model, split, example) for example in examples])
    assert_same(together, alone)


def _alone(model: torch.nn.Module, split: EncodedSplit, example: int) -> torch.Tensor:
    """Each sequence of an example as a batch of its own."""
    found = []
    for sequence in range(split.firsts[example], split.firsts[example + 1]):
        part = slice(split.borders[sequence], split.borders[sequence + 1])
        tokens = torch.from_numpy(split.tokens[part]).long()
        packed = PackedBatch(
            tokens=tokens,
            cu_seqlens=torch.tensor([0, len(tokens)], dtype=torch.int32),
            max_seqlen=len(tokens),
            position_ids=torch.arange(len(tokens)),
        )
        logits = model(packed)
        if split.labels_of == "tokens":
            logits = logits[torch.from_numpy(split.labels[part]) != IGNORE]
        found.append(logits)
    return torch.cat(found)
