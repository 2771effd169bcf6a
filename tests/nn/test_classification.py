"""Pooling and classification heads, padded and packed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flexbert.nn.build import build_model
from flexbert.nn.classification import (
    MultipleChoiceConfig,
    SequenceClassificationConfig,
    TokenClassificationConfig,
)
from flexbert.nn.norm import LayerNormConfig
from flexbert.nn.padded import PaddedModel
from flexbert.nn.pooling import Pooling, pool
from tests.nn.cases import VOCAB_SIZE, packed_batch, small_model
from tests.nn.tolerances import assert_same


@pytest.mark.parametrize("how", ["cls", "mean", "max"])
def test_pooling_is_that_of_each_sequence_alone(how: Pooling) -> None:
    packed = packed_batch((3, 0, 1, 6, 0))
    hidden = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    alone: dict[str, Any] = {
        "cls": lambda x: x[0],
        "mean": lambda x: x.mean(0),
        "max": lambda x: x.max(0).values,
    }
    expected = torch.stack(
        [
            alone[how](x) if len(x) else torch.zeros(4).double()
            for x in hidden.split([3, 0, 1, 6, 0])
        ]
    )
    pooled = pool(hidden, packed, how)
    assert_same(pooled, expected)
    grad = torch.randn_like(expected)
    for actual, reference in zip(
        torch.autograd.grad(pooled, hidden, grad, retain_graph=True),
        torch.autograd.grad(expected, hidden, grad),
        strict=True,
    ):
        assert_same(actual, reference)


def padded_batch() -> tuple[Tensor, Tensor]:
    attention_mask = torch.ones(3, 12, dtype=torch.long)
    attention_mask[0, 7:] = 0
    attention_mask[1, 1:] = 0
    return torch.randint(VOCAB_SIZE, (3, 12)), attention_mask


def test_a_sequence_classifier_sees_real_tokens_only() -> None:
    head = SequenceClassificationConfig(norm=LayerNormConfig(), num_labels=3, pooling="mean")
    config = small_model(head=head)
    model = build_model(config).eval()
    input_ids, attention_mask = padded_batch()
    logits = PaddedModel(model, config)(input_ids, attention_mask)
    assert logits.shape == (3, 3)
    hidden = [
        model.encoder(packed)
        for row, mask in zip(input_ids, attention_mask, strict=True)
        for packed in [single(row[mask.bool()])]
    ]
    pooled = torch.stack([x.mean(0) for x in hidden])
    transformed = model.head.norm(torch.nn.functional.gelu(pooled @ model.head.dense.weight.T))
    assert_same(logits, model.head.classifier(transformed))


def single(tokens: Tensor) -> Any:
    packed = packed_batch((len(tokens),))
    return type(packed)(tokens, packed.cu_seqlens, packed.max_seqlen, packed.position_ids)


def test_token_logits_stand_where_their_tokens_stand() -> None:
    config = small_model(head=TokenClassificationConfig(norm=None, num_labels=5, bias=True))
    model = build_model(config).eval()
    input_ids, attention_mask = padded_batch()
    logits = PaddedModel(model, config)(input_ids, attention_mask)
    assert logits.shape == (3, 12, 5)
    assert_same(logits[0, :7], model(single(input_ids[0, :7])))
    assert not logits[attention_mask == 0].any()


def test_choices_are_scored_one_by_one() -> None:
    config = small_model(head=MultipleChoiceConfig(norm=None, activation="tanh"))
    model = build_model(config).eval()
    input_ids = torch.randint(VOCAB_SIZE, (2, 3, 9))
    scores = PaddedModel(model, config)(input_ids, torch.ones_like(input_ids))
    assert scores.shape == (2, 3)
    assert_same(scores[1, 2], model(single(input_ids[1, 2]))[0, 0])
