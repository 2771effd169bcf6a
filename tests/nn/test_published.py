"""Encoders written in YAML give the logits of plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from flexbert.nn.build import build_model
from flexbert.nn.padded import PaddedModel
from tests.nn import published
from tests.nn.cases import VOCAB_SIZE, packed_batch
from tests.nn.published import Weights
from tests.nn.small_published import HEADS, small_published
from tests.nn.tolerances import assert_same

KV_HEADS = 2
# The window and the rotary base of each layer of windows.yaml.
SIX, WHOLE = (6, 10_000.0), (None, 250_000.0)
WINDOWED = [SIX, SIX, WHOLE, SIX, SIX, WHOLE, (2, 500.0)]
Logits = Callable[[Tensor, Weights], Tensor]
CASES: dict[str, tuple[tuple[str, ...], Logits]] = {
    "mosaicbert-base": ((), lambda t, w: published.mosaicbert(t, w, HEADS)),
    "nomicbert": ((), lambda t, w: published.nomicbert(t, w, HEADS)),
    "gte-en-mlm-base": ((), lambda t, w: published.gte(t, w, HEADS, 10_000.0)),
    "eurobert-210m": (
        (f"model.attention.num_kv_heads={KV_HEADS}", "model.attention.rope.theta.global=250_000"),
        lambda t, w: published.eurobert(t, w, HEADS, KV_HEADS, 250_000.0),
    ),
    "neobert": ((), lambda t, w: published.neobert(t, w, HEADS)),
    "windows": (
        (f"model.attention.num_kv_heads={KV_HEADS}", "model.num_layers=7"),
        lambda t, w: published.windowed(t, w, HEADS, KV_HEADS, WINDOWED),
    ),
    "crammingbert": ((), lambda t, w: published.crammingbert(t, w, HEADS)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_an_encoder_written_in_yaml_is_what_its_formula_says(name: str, dtype: torch.dtype) -> None:
    overrides, reference = CASES[name]
    config = small_published(name, *overrides)
    model = build_model(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    model = model.to(dtype)
    weights = {key: value.double().requires_grad_() for key, value in model.state_dict().items()}

    lengths = [9, 1, 17, 5]
    batch = packed_batch(lengths)
    documents = batch.tokens.split(lengths)
    expected = torch.cat([reference(document, weights) for document in documents])
    packed = model(batch)
    assert_same(packed, expected)

    input_ids = nn.utils.rnn.pad_sequence(list(documents), batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(d) for d in documents], batch_first=True)
    assert_same(PaddedModel(model, config)(input_ids, mask)[mask.bool()], expected)

    labels = torch.randint(VOCAB_SIZE, (len(packed),))
    nn.functional.cross_entropy(packed, labels).backward()
    nn.functional.cross_entropy(expected, labels).backward()
    for key, parameter in model.named_parameters():
        gradient = weights[key].grad
        assert gradient is not None, key
        assert_same(parameter.grad, gradient)
